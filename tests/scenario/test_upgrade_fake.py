"""Another hpcli rolled over a cluster in memory: the order, what fails, what goes back, and kill -9 anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from hpcli.domain.blueprint import Blueprint, ConfigFile, Place, Role
from hpcli.domain.names import expand
from hpcli.domain.report import PROTOCOL
from hpcli.domain.rollout import CODE, Release
from hpcli.errors import HpcliError, NotFound, Unreachable, Unsafe
from hpcli.machines import FoundFile
from hpcli.services.upgrade import Outlook, Turn, Upgrade
from tests.scenario.fake_cluster import (
    CONF,
    CTL,
    FakeCluster,
    FakeMachines,
    Killed,
    Quiet,
    make_blueprint,
    with_edit,
)

OLD, NEW, NEWER = Release("0.1.9", "old"), Release("0.2.0", "new"), Release("0.2.1", "newer")
NODES = "c[1-12]"
VERSIONS = {release.id: release.version for release in (OLD, NEW, NEWER)}


def of(release: Release, nodes: str = NODES, **parameters: str) -> Blueprint:
    """The cluster's files as this hpcli writes them."""
    plain = make_blueprint(nodes, **parameters)
    name = ConfigFile("/etc/hpcli/release", f"{release.id}\n")
    keeper = ConfigFile("/etc/hpcli/keeper.json", "{}\n")
    files = {host: (*own, name, *([keeper] if host == CTL else [])) for host, own in plain.files.items()}
    return replace(plain, files=files)


@dataclass
class World(FakeCluster):
    """And hpcli on it: the code of each machine, and of which release each daemon runs.

    On `sick` machines the newest release's daemon does not come up; `gone` ones cannot be reached.
    """

    code: dict[str, str] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    at: dict[str, float] = field(default_factory=dict)
    sick: frozenset[str] = frozenset()
    cursed: str = NEW.id
    protocol: int = PROTOCOL

    @classmethod
    def standing(cls, blueprint: Blueprint) -> "World":
        world = cls.made_from(blueprint)
        assert isinstance(world, World)
        world.code = dict.fromkeys(blueprint.files, OLD.id)
        world.runs = dict.fromkeys((*world.agents, CTL), OLD.id)
        world.at = {node: world.clock.now() for node in world.agents}
        return world

    def all_have(self, release: Release, goal: Blueprint) -> bool:
        files = {host: {file.path: file for file in own} for host, own in goal.files.items()}
        whole = self.files == files and self.applied == goal and not self.pending and not self.locked
        return whole and {*self.code.values(), *self.runs.values()} == {release.id}


@dataclass
class Rolling(FakeMachines):
    """Machines on which hpcli can be put. Also `services.upgrade.Previous`."""

    world: World
    release: Release = NEW

    async def read(self, wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Mapping[str, FoundFile]]:
        found = await super().read(wanted)
        code = {host: FoundFile("", 0o644, "root", "root", f"{self.world.code[host]}\n") for host in wanted}
        return {host: {**lies, CODE: code[host]} for host, lies in found.items()}

    async def rerun(self, goal: Blueprint, hosts: Sequence[str]) -> None:
        for host in hosts:
            self._reach([host])
            if self.world.code[host] != self.release.id:
                self.world.kept[host] = self.world.code[host]
            self.world.code[host] = self.release.id
            self.world.touch(f"push {host}")
            self.world.files[host] = {file.path: file for file in goal.files[host]}
            self.world.touch(f"rerun {host}")

    async def put_back(self, old: Blueprint, host: str) -> None:
        self._reach([host])
        self.world.code[host] = self.world.kept.get(host, self.world.code[host])
        self.world.files[host] = {file.path: file for file in old.files[host]}
        self.world.touch(f"put back {host}")

    async def service(self, verb: str, name: str, hosts: Sequence[str]) -> None:
        self._reach(hosts)
        for host in hosts:
            code = self.world.code[host]
            well = not (host in self.world.sick and code == self.world.cursed)
            self.world.clock.at += 1
            if name != "hpcli-keeper":
                self.world.runs[host] = code if well else ""
            if name == "hpcli-agent" and well:
                self.world.at[host] = self.world.clock.now()
            self.world.touch(f"{verb} {name} {host}")
            if not well and host != "c2":
                raise HpcliError(f"host {host}", f"service {name}: keeps ending")

    async def last_words(self, name: str, host: str) -> str:
        return "ImportError: no such thing" if host in self.world.sick else ""

    async def ask(self, what: str, **details: object) -> object:
        """The controller's answer."""
        if not self.world.runs[CTL]:
            raise Unreachable("controller", "refused")
        agents = {node: self.world.runs[node] for node in self.world.agents if self.world.runs[node]}
        return {
            "version": VERSIONS[self.world.runs[CTL]],
            "protocol": self.world.protocol,
            "agents": {n: {"version": VERSIONS[r], "release": r, "protocol": PROTOCOL} for n, r in agents.items()},
            "received_at": dict(self.world.at),
        }


def upgrading(world: World, release: Release = NEW, goal: Blueprint | None = None, size: int = 4) -> Upgrade:
    machines, wanted = Rolling(world, release), goal or of(release)

    async def rendered(_applied: Blueprint) -> Blueprint:
        return wanted

    return Upgrade(machines, machines, machines, rendered, world.clock, Quiet(), release, size)


async def upgrade(world: World, release: Release = NEW, goal: Blueprint | None = None) -> tuple[Turn, ...]:
    return await upgrading(world, release, goal).upgrade()


async def outlook(world: World, release: Release = NEW) -> Outlook:
    return await upgrading(world, release).look()


def place(world: World, begins: str) -> int:
    return next(i for i, touch in enumerate(world.touches) if touch.startswith(begins))


@pytest.fixture
def world() -> World:
    return World.standing(of(OLD))


class TestOrder:
    async def test_controller_canary_batches_login(self, world: World) -> None:
        turns = await upgrade(world)
        assert [len(turn.hosts) for turn in turns] == [1, 1, 4, 4, 3, 1]
        assert [turn.hosts[0] for turn in turns] == [CTL, "c1", "c2", "c6", "c10", "login1"]
        assert world.all_have(NEW, of(NEW))

    async def test_each_turn_is_over_before_the_next_begins(self, world: World) -> None:
        await upgrade(world)
        wanted = [
            "keep_pending",
            "push ctl",
            "rerun ctl",
            "restart hpcli-controller",
            "push c1",
            "restart hpcli-agent c1",
        ]
        wanted += [
            "push c2",
            "restart hpcli-agent c5",
            "push c6",
            "push login1",
            "restart hpcli-keeper",
            "keep_applied",
        ]
        found = [place(world, begins) for begins in wanted]
        assert found == sorted(found)

    async def test_slurm_and_its_jobs_are_left_alone(self, world: World) -> None:
        world.jobs["7"] = ("c[1-12]", world.clock.now() + 1e6)
        await upgrade(world)
        assert not [touch for touch in world.touches if "slurm" in touch or "drain" in touch]
        assert (list(world.busy()), world.lost) == (["7"], [])

    async def test_the_second_one_touches_nothing(self, world: World) -> None:
        await upgrade(world)
        world.touches.clear()
        assert await upgrade(world) == ()
        assert world.touches == []

    async def test_looking_touches_nothing(self, world: World) -> None:
        found = await outlook(world)
        assert found.order.hosts[:2] == (CTL, "c1")
        assert [change.what for change in found.changes] == ["file release"]
        assert world.touches == []


class TestRefusals:
    async def test_hand_edits(self, world: World) -> None:
        with_edit(world, "c1", CONF, "ClusterName=mine\n")
        with pytest.raises(Unsafe, match=f"c1:{CONF}:1"):
            await upgrade(world)
        assert world.touches == []

    async def test_an_apply_that_did_not_end(self, world: World) -> None:
        world.pending = (of(OLD, MessageTimeout="30"), replace(of(OLD), spec_text="another"))
        with pytest.raises(Unsafe, match="apply that did not end"):
            await upgrade(world)

    async def test_what_would_disturb_slurm(self, world: World) -> None:
        with pytest.raises(Unsafe, match=r"MessageTimeout.*reconfigure"):
            await upgrade(world, goal=of(NEW, MessageTimeout="30"))
        assert world.touches == []

    async def test_machines_that_come_or_go(self, world: World) -> None:
        goal = of(NEW)
        spare = Place("spare1", Role.SPARE, "10.0.0.9")
        with pytest.raises(Unsafe, match="machine spare1"):
            await upgrade(world, goal=replace(goal, places=(*goal.places, spare)))

    @pytest.mark.parametrize("protocol", [PROTOCOL - 2, PROTOCOL + 2])
    async def test_protocols_too_far_apart(self, world: World, protocol: int) -> None:
        world.protocol = protocol
        with pytest.raises(Unsafe, match=f"found protocol {protocol} "):
            await upgrade(world)

    async def test_another_one_at_work(self, world: World) -> None:
        world.locked = True
        with pytest.raises(Unsafe, match="under way"):
            await upgrade(world)

    async def test_a_blueprint_that_a_newer_one_wrote(self, world: World) -> None:
        class Newer(Rolling):
            async def applied(self) -> Blueprint | None:
                raise HpcliError("applied.json", "damaged: ValueError('format 2, expected 1: another hpcli wrote it')")

        with pytest.raises(Unsafe, match="format 2") as caught:
            await replace(upgrading(world), machines=Newer(world)).upgrade()
        assert "use that hpcli" in caught.value.hint

    async def test_nothing_that_was_ever_applied(self, world: World) -> None:
        world.applied = None
        with pytest.raises(NotFound):
            await upgrade(world)

    async def test_a_controller_out_of_reach(self, world: World) -> None:
        world.unreachable = frozenset({CTL})
        with pytest.raises(Unreachable):
            await upgrade(world)
        assert world.touches == []


class TestFailures:
    async def test_a_controller_that_does_not_come_up_goes_back_and_all_is_as_it_was(self, world: World) -> None:
        world.sick = frozenset({CTL})
        with pytest.raises(HpcliError, match="ImportError: no such thing") as caught:
            await upgrade(world)
        assert "ctl has the hpcli of before again" in caught.value.hint
        assert world.all_have(OLD, of(OLD))

    async def test_a_canary_that_does_not_come_up_goes_back_alone(self, world: World) -> None:
        world.sick = frozenset({"c1"})
        with pytest.raises(HpcliError, match=r"hpcli-agent of c1.*ImportError") as caught:
            await upgrade(world)
        assert "is on ctl, the one before on c[1-12],login1" in caught.value.hint
        assert {host for host, code in world.code.items() if code == NEW.id} == {CTL}
        assert world.runs["c1"] == OLD.id
        assert world.files["c1"]["/etc/hpcli/release"].text == "old\n"
        assert not [touch for touch in world.touches if touch.startswith("push c2")]

    async def test_a_mended_release_goes_on_from_there(self, world: World) -> None:
        world.sick = frozenset({"c1"})
        with pytest.raises(HpcliError):
            await upgrade(world)
        await upgrade(world, NEWER)
        assert world.all_have(NEWER, of(NEWER))

    async def test_one_of_a_batch_stops_the_rest(self, world: World) -> None:
        """c2's agent starts, and is never heard of."""
        world.sick = frozenset({"c2"})
        with pytest.raises(HpcliError, match=r"upgrade of c2: c2: .*report") as caught:
            await upgrade(world)
        assert "is on c[1,3-5],ctl, the one before on c[2,6-12],login1" in caught.value.hint
        assert {host for host, code in world.code.items() if code == OLD.id} == {*expand("c[6-12]"), "login1"}
        world.sick = frozenset()
        world.touches.clear()
        await upgrade(world)
        assert world.all_have(NEW, of(NEW))
        assert not [touch for touch in world.touches if touch in ("push c1", "push ctl", "push c3")]

    async def test_a_node_that_goes_out_of_reach_in_its_batch(self, world: World) -> None:
        machines = Rolling(world)

        class Loses(Rolling):
            async def rerun(self, goal: Blueprint, hosts: Sequence[str]) -> None:
                if "c7" in hosts:
                    world.unreachable = frozenset({"c7"})
                await super().rerun(goal, hosts)

        with pytest.raises(HpcliError, match="upgrade of c7: c7: no route"):
            await replace(upgrading(world), machines=Loses(world)).upgrade()
        assert world.runs["c8"] == NEW.id
        assert world.runs["c10"] == OLD.id
        with pytest.raises(HpcliError, match="upgrade of c7") as caught:
            await replace(upgrading(world), machines=machines).upgrade()
        assert "is on c[1-6,8-12],ctl,login1, the one before on c7" in caught.value.hint
        world.unreachable = frozenset()
        await upgrade(world)
        assert world.all_have(NEW, of(NEW))

    async def test_a_node_that_was_out_of_reach_from_the_start_holds_nobody_up(self, world: World) -> None:
        world.unreachable = frozenset({"c1"})
        with pytest.raises(HpcliError, match="upgrade of c1"):
            await upgrade(world)
        assert {host for host, code in world.code.items() if code == OLD.id} == {"c1"}
        assert world.pending == (of(NEW),)
        world.unreachable = frozenset()
        assert [turn.hosts for turn in await upgrade(world)] == [("c1",)]
        assert world.all_have(NEW, of(NEW))

    async def test_a_controller_that_was_dead_before_comes_back(self, world: World) -> None:
        world.runs[CTL] = ""
        await upgrade(world)
        assert world.all_have(NEW, of(NEW))


async def test_killed_anywhere_the_next_one_finishes_it() -> None:
    whole = World.standing(of(OLD))
    await upgrade(whole)
    for after in range(1, len(whole.touches)):
        world = World.standing(of(OLD))
        world.kill_after = after
        with pytest.raises(Killed):
            await upgrade(world)
        world.kill_after = -1
        await upgrade(world)
        assert world.all_have(NEW, of(NEW)), f"killed after {world.touches[after - 1]}"


@pytest.mark.parametrize("sick", [CTL, "c1"])
async def test_killed_while_going_back_a_mended_one_finishes_it(sick: str) -> None:
    whole = World.standing(of(OLD))
    whole.sick = frozenset({sick})
    with pytest.raises(HpcliError):
        await upgrade(whole)
    for after in range(place(whole, f"push {sick}") + 1, len(whole.touches)):
        world = World.standing(of(OLD))
        world.sick, world.kill_after = frozenset({sick}), after
        with pytest.raises(Killed):
            await upgrade(world)
        world.kill_after = -1
        await upgrade(world, NEWER)
        assert world.all_have(NEWER, of(NEWER)), f"killed after {world.touches[after - 1]}"
