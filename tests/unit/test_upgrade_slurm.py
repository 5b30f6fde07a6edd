"""A patch release of Slurm on a cluster in memory: the order, what is refused, failures, kill -9 anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from hpcli.domain.blueprint import ADOPTED
from hpcli.domain.names import expand, fold
from hpcli.domain.node import Node
from hpcli.domain.rollout import CODE
from hpcli.domain.slurm_release import Offer, Package
from hpcli.errors import HpcliError, Unreachable, Unsafe
from hpcli.machines import FoundFile
from hpcli.services.upgrade_slurm import SlurmDone, SlurmOutlook, SlurmUpgrade
from tests.scenario.fake_cluster import CTL, FakeCluster, FakeGateway, FakeMachines, Killed, Quiet, make_blueprint

OLD, NEW = "22.05.8-4", "22.05.9-1"
RELEASE = "today"
BASE = make_blueprint("c[1-6]", database=True)


@dataclass
class World(FakeCluster):
    """And its packages. `cursed`: the new version does not come up there; `poor`: it cannot be installed there."""

    installed: dict[str, str] = field(default_factory=dict)
    offered: str = NEW
    underway: set[str] = field(default_factory=set)
    started: dict[str, float] = field(default_factory=dict)
    cursed: frozenset[str] = frozenset()
    poor: frozenset[str] = frozenset()
    code: str = RELEASE

    @classmethod
    def standing(cls) -> "World":
        world = cls.made_from(BASE)
        assert isinstance(world, World)
        world.installed = dict.fromkeys(BASE.files, OLD)
        world.started = dict.fromkeys(world.slurmd, 1.0)
        return world

    def whole(self, version: str) -> bool:
        up = bool(self.slurmctld) and self.slurmdbd and all(self.slurmd.values()) and not self.locked
        return up and set(self.installed.values()) == {version} and not self.underway


@dataclass
class SlurmMachines(FakeMachines):
    """Also `services.upgrade_slurm.SlurmPackages`."""

    world: World

    async def read(self, wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Mapping[str, FoundFile]]:
        self._reach(wanted)
        return {host: {CODE: FoundFile("", 0o644, "root", "root", f"{self.world.code}\n")} for host in wanted}

    async def offer(self, host: str) -> Offer:
        self._reach([host])
        have = self.world.installed[host]
        return Offer(
            (Package("slurmd", have, self.world.offered, (self.world.offered, have)),), host in self.world.underway
        )

    async def fetch(self, host: str, version: str) -> None:
        self._reach([host])
        self.world.touch(f"fetch {host}")

    async def install(self, host: str, version: str) -> None:
        """As lifecycle/upgrade: what ran there runs again in the end, unless we are killed."""
        self._reach([host])
        assert host != CTL or not (self.world.slurmctld or self.world.slurmdbd), "the central daemons run"
        self.world.underway.add(host)
        self.world.touch(f"install {host}")
        if host in self.world.poor:
            self.world.underway.discard(host)
            raise HpcliError(f"host {host}", "upgrade packages: E: no room")
        self.world.installed[host] = version
        self.world.clock.at += 1
        if host in self.world.slurmd and host not in self.world.cursed:
            self.world.started[host] = self.world.clock.now()
        self.world.underway.discard(host)

    async def dump(self) -> str:
        self.world.touch("dump")
        return "/var/lib/hpcli/dumps/it.sql.gz"

    async def accounting_answers(self) -> None:
        assert self.world.slurmdbd
        self.world.touch("accounts")

    async def service(self, verb: str, name: str, hosts: Sequence[str]) -> None:
        if (verb, name) == ("start", "slurmctld"):
            assert self.world.slurmdbd, "slurmctld before slurmdbd"
            if CTL in self.world.cursed and self.world.installed[CTL] == NEW:
                raise HpcliError("host ctl", "service slurmctld: ended at its start")
        await super().service(verb, name, hosts)

    async def last_words(self, name: str, host: str) -> str:
        return f"fatal: {name} is cursed" if host in self.world.cursed else ""


@dataclass
class Gateway(FakeGateway):
    world: World

    async def nodes(self, hostlist: str = "") -> tuple[Node, ...]:
        nodes = await super().nodes(hostlist)
        return tuple(replace(node, slurmd_start_time=self.world.started[node.name]) for node in nodes)


def upgrading(world: World, wanted: str = "", size: int = 2) -> SlurmUpgrade:
    machines = SlurmMachines(world)
    return SlurmUpgrade(machines, machines, Gateway(world), world.clock, Quiet(), RELEASE, wanted, size)


async def upgrade(world: World, wanted: str = "") -> tuple[SlurmOutlook, SlurmDone]:
    return await upgrading(world, wanted).upgrade()


@pytest.fixture
def world() -> World:
    return World.standing()


class TestOrder:
    async def test_dump_slurmctld_stops_state_slurmdbd_stops_packages_and_up_again(self, world: World) -> None:
        _, done = await upgrade(world)
        central = [touch for touch in world.touches if touch.split()[-1] in (CTL, "dump", "keep_state", "accounts")]
        assert central == [
            "fetch ctl",
            "dump",
            "stop slurmctld ctl",
            "keep_state",
            "stop slurmdbd ctl",
            "install ctl",
            "start slurmdbd ctl",
            "accounts",
            "start slurmctld ctl",
        ]
        assert (done.dump, done.state) == ("/var/lib/hpcli/dumps/it.sql.gz", "/copy/1")
        assert world.whole(NEW)

    async def test_controller_one_node_batches_login(self, world: World) -> None:
        _, done = await upgrade(world)
        assert [fold(turn.hosts) for turn in done.turns] == [CTL, "c1", "c[2-3]", "c[4-5]", "c6", "login1"]

    async def test_jobs_live_on(self, world: World) -> None:
        world.jobs["7"] = ("c[1-6]", world.clock.now() + 1e6)
        await upgrade(world)
        assert (list(world.busy()), world.lost) == (["7"], [])

    async def test_looking_touches_nothing(self, world: World) -> None:
        found = await upgrading(world).look()
        assert (found.target, found.order.hosts[0], world.touches) == (NEW, CTL, [])

    async def test_the_second_one_does_nothing(self, world: World) -> None:
        await upgrade(world)
        world.touches.clear()
        outlook, done = await upgrade(world)
        assert (outlook.nothing, done.turns, world.touches) == (True, (), [])


class TestRefusals:
    @pytest.mark.parametrize("offered", ["22.05.9-1", "24.11.5-4"])
    async def test_another_series(self, world: World, offered: str) -> None:
        world.offered = offered
        with pytest.raises(Unsafe, match="patch release") as caught:
            await upgrade(world, "24.11.5" if offered == "22.05.9-1" else "")
        assert "build new machines" in caught.value.hint
        assert world.touches == []

    async def test_somebody_elses_slurm(self, world: World) -> None:
        world.applied = replace(BASE, provider=ADOPTED)
        with pytest.raises(Unsafe, match="adopted"):
            await upgrade(world)

    async def test_a_change_that_did_not_end(self, world: World) -> None:
        world.pending = (BASE,)
        with pytest.raises(Unsafe, match="did not end"):
            await upgrade(world)

    async def test_machines_with_another_hpcli(self, world: World) -> None:
        world.code = "yesterday"
        with pytest.raises(Unsafe, match="another hpcli on") as caught:
            await upgrade(world)
        assert caught.value.hint.endswith("hpcli cluster upgrade")

    async def test_a_controller_out_of_reach(self, world: World) -> None:
        world.unreachable = frozenset({CTL})
        with pytest.raises(Unreachable):
            await upgrade(world)


class TestFailures:
    async def test_packages_that_do_not_fit_on_the_controller_leave_the_old_slurm_in_service(
        self, world: World
    ) -> None:
        world.poor = frozenset({CTL})
        with pytest.raises(HpcliError, match="no room; slurmctld is in service again") as caught:
            await upgrade(world)
        assert "/var/lib/hpcli/dumps/it.sql.gz" in caught.value.hint and "/copy/1" in caught.value.hint
        assert world.whole(OLD)

    async def test_a_slurmctld_that_does_not_come_up_says_where_everything_is(self, world: World) -> None:
        world.cursed = frozenset({CTL})
        with pytest.raises(HpcliError, match="fatal: slurmctld is cursed; slurmctld is out of service") as caught:
            await upgrade(world)
        for words in ("/var/lib/hpcli/dumps/it.sql.gz", "state restore /copy/1", f"install {OLD} again"):
            assert words in caught.value.hint
        assert {host for host, version in world.installed.items() if version == NEW} == {CTL}
        world.cursed = frozenset()
        await upgrade(world)
        assert world.whole(NEW)

    async def test_a_first_node_that_does_not_come_up_stops_the_rest(self, world: World) -> None:
        world.cursed = frozenset({"c1"})
        with pytest.raises(HpcliError, match=r"on c1: c1: not registered again: fatal: slurmd is cursed"):
            await upgrade(world)
        assert {host for host, version in world.installed.items() if version == OLD} == {*expand("c[2-6]"), "login1"}

    async def test_one_of_a_batch_stops_the_rest_and_the_next_goes_on(self, world: World) -> None:
        world.poor = frozenset({"c2"})
        with pytest.raises(HpcliError, match="on c2: c2: upgrade packages: E: no room") as caught:
            await upgrade(world)
        assert "on all but c[2,4-6],login1" in caught.value.hint
        world.poor = frozenset()
        world.touches.clear()
        await upgrade(world)
        assert world.whole(NEW)
        assert "install ctl" not in world.touches and "install c1" not in world.touches

    async def test_a_node_out_of_reach_holds_nobody_up(self, world: World) -> None:
        world.unreachable = frozenset({"c1"})
        with pytest.raises(HpcliError, match="on c1: c1: no route"):
            await upgrade(world)
        assert {host for host, version in world.installed.items() if version == OLD} == {"c1"}
        world.unreachable = frozenset()
        await upgrade(world)
        assert world.whole(NEW)

    async def test_a_node_that_was_down_before_is_not_waited_for(self, world: World) -> None:
        world.slurmd["c3"] = ""
        world.cursed = frozenset({"c3"})
        await upgrade(world)
        assert set(world.installed.values()) == {NEW}


async def test_killed_anywhere_the_next_one_finishes_it() -> None:
    whole = World.standing()
    await upgrade(whole)
    for after in range(1, len(whole.touches)):
        world = World.standing()
        world.kill_after = after
        with pytest.raises(Killed):
            await upgrade(world)
        world.kill_after = -1
        await upgrade(world)
        assert world.whole(NEW), f"killed after {world.touches[after - 1]}"
