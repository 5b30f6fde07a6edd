"""Replacing a host: the old machine keeps everything until the new one has taken its place."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hpcli.domain.blueprint import Blueprint, to_dict
from hpcli.errors import HpcliError, NotFound, Unreachable
from hpcli.ports import Completed
from hpcli.providers.remote.blueprint import Ingredients, Secrets, make_blueprint
from hpcli.providers.remote.build import RemoteBuild
from hpcli.providers.remote.ground import ClusterKey
from hpcli.providers.remote.hosts import HostsGround, places_of, spares_of
from hpcli.providers.remote.layout import Reach, RemoteHome
from hpcli.providers.remote.machines import APPLIED, RemoteMachines
from hpcli.providers.remote.power import HostsPower
from hpcli.providers.remote.release import Release
from hpcli.spec.load import parse_spec
from hpcli.transport.process import LocalTransport
from hpcli.transport.target import SshTarget

SPEC = """
name: small
provider: hosts
controller: {name: ctl}
compute: [{name: gpu, nodes: "c[1-2]", cpus: 2, memory: 1G}]
hosts: {user: admin, addresses: {ctl: 10.0.0.1, "c[1-2]": "10.0.1.[1-2]"}, spare_machines: [10.0.1.9]}
"""
FACTS = """os_id=debian\nos_version=12\ncodename=bookworm\narch=x86_64\nhostname=box\nsystemd=no\npython=3.11.2
slurm=22.05.8\ndisk_free_mib=9000\nmemory_mib=4000\ncpus=4\nuid=0\nsudo=yes\nepoch=1000.0\n"""
KEY = ClusterKey("PRIVATE KEY\n", "ssh-ed25519 AAAAkey hpcli-small")


@dataclass
class Box:
    """A machine that notes what it is asked to run. `gone`: it lets nobody in; `bare`: no scripts there yet."""

    facts: str = FACTS
    gone: bool = False
    bare: bool = False
    fails: str = ""
    ran: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    async def run(self, argv: Sequence[str], *, stdin: str = "", **_: object) -> Completed:
        words = [word for word in argv if word not in ("sudo", "-n", "--")]
        if self.gone:
            raise Unreachable("host box", "it did not let admin in")
        if self.bare and words[0].startswith("/opt/hpcli"):
            raise NotFound(words[0], "no such program there")
        self.ran.append(" ".join(words))
        if words[:2] == ["bash", "-s"]:
            self.bare = self.bare and "release" not in stdin
        out = {"id": "0\n", "bash": self.facts}.get(words[0], "")
        failed = self.fails and self.fails in " ".join(words)
        return Completed(tuple(argv), 1 if failed else 0, out, "it broke" if failed else "")

    async def follow(self, argv: Sequence[str], _told: Callable[[str], None], **_: object) -> Completed:
        return await self.run(argv)

    def hold(self, argv: Sequence[str]) -> AbstractAsyncContextManager[str]:
        @asynccontextmanager
        async def locked() -> object:
            yield "locked"

        return locked()  # type: ignore[arg-type]

    async def put(self, content: bytes, path: str, mode: int = 0o600) -> None:
        self.files[path] = content

    async def get(self, path: str) -> bytes:
        if path not in self.files:
            raise NotFound(path, "found no such file")
        return self.files[path]

    async def close(self) -> None:
        pass

    def was_asked(self, words: str) -> bool:
        return any(words in line for line in self.ran)


class Quiet:
    def step(self, text: str) -> None:
        pass


class Still:
    def now(self) -> float:
        return 1000.0


@dataclass
class Site:
    """Four machines by address, and the power over them."""

    home: Path
    boxes: dict[str, Box] = field(
        default_factory=lambda: {one: Box() for one in ("10.0.0.1", "10.0.1.1", "10.0.1.2", "10.0.1.9")}
    )

    @property
    def machines(self) -> RemoteMachines:
        def connect(target: SshTarget) -> Box:
            return self.boxes[target.host]

        spec = parse_spec(SPEC, "cluster.yaml")
        ground = HostsGround("small", Reach("admin"), connect, RemoteHome("small", self.home), LocalTransport())  # type: ignore[arg-type]
        places = (*places_of(spec), *spares_of(spec))
        return RemoteMachines(spec, ground, Quiet(), lambda: Release(b"", "r1"), lambda: None, places)

    def applied(self) -> Blueprint:
        spec = parse_spec(SPEC, "cluster.yaml")
        wanted = (*places_of(spec), *spares_of(spec))
        places = [replace(one, hostname=one.name, host_key=f"ssh-ed25519 AAAA{one.name}") for one in wanted]
        given = Ingredients("hosts", "admin", False, True, 0, Secrets("munge", ""), key=KEY)
        return make_blueprint(spec, SPEC, places, "22.05", given)

    @property
    def build(self) -> RemoteBuild:
        spec, machines = parse_spec(SPEC, "cluster.yaml"), self.machines
        home = RemoteHome("small", self.home)
        return RemoteBuild(home, spec, SPEC, machines.ground, machines, Quiet(), Still())  # type: ignore[arg-type]

    @property
    def power(self) -> HostsPower:
        self.boxes["10.0.0.1"].files[APPLIED] = json.dumps([to_dict(self.applied())]).encode()
        return HostsPower(
            self.machines,
            parse_spec(SPEC, "cluster.yaml"),
            KEY,
            "admin",
            0,
            Box(),
            now=lambda: 1000.0,  # type: ignore[arg-type]
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    home = tmp_path / "home"
    home.mkdir()
    return Site(home)


def met(work: Awaitable[object]) -> HpcliError:
    async def go() -> object:
        return await work

    with pytest.raises(HpcliError) as caught:
        asyncio.run(go())
    return caught.value


def test_a_spare_takes_the_place_and_the_old_machine_is_retired_last(site: Site) -> None:
    asyncio.run(site.power.replace("c1"))
    assert site.boxes["10.0.1.9"].was_asked("run.sh") and site.boxes["10.0.1.9"].was_asked("service start all")
    # The key goes last: without it nobody could come in again to retire what is left.
    assert site.boxes["10.0.1.1"].ran[-2] == "/opt/hpcli/lifecycle/retire"
    assert site.boxes["10.0.1.1"].ran[-1].startswith("bash -s remove")
    assert site.boxes["10.0.1.2"].was_asked("run.sh"), "its /etc/hosts must name the new machine"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Box(gone=True), "did not let admin in"),
        (Box(facts=FACTS.replace("os_id=debian", "os_id=fedora")), "found fedora 12, expected Debian"),
        (Box(facts=FACTS.replace("cpus=4", "cpus=1")), "found 1 CPUs, expected 2"),
        (Box(fails="run.sh"), "it broke"),
    ],
    ids=["unreachable", "other system", "too small", "bootstrap fails"],
)
def test_a_new_machine_that_is_no_good_costs_the_old_one_nothing(site: Site, wrong: Box, words: str) -> None:
    site.boxes["10.0.1.9"] = wrong
    assert words in str(met(site.power.replace("c1")))
    assert not site.boxes["10.0.1.1"].was_asked("retire")


def test_a_machine_installed_anew_has_no_files_and_gets_our_scripts_before_any(site: Site) -> None:
    machines, bare = site.machines, site.boxes["10.0.1.1"]
    bare.bare = True
    assert asyncio.run(machines.read({"c1": ["/etc/slurm/slurm.conf"]})) == {"c1": {}}
    asyncio.run(machines.write({"c1": site.applied().files["c1"]}))
    asked = [line.split()[0] for line in bare.ran]
    assert asked.index("bash") < asked.index("/opt/hpcli/lifecycle/files")


def test_what_is_wrong_with_any_machine_is_told_at_once(site: Site) -> None:
    site.boxes["10.0.0.1"].facts = FACTS.replace("uid=0\nsudo=yes", "uid=1000\nsudo=no").replace("9000", "10")
    site.boxes["10.0.1.1"].gone = True
    site.boxes["10.0.1.2"].facts = FACTS.replace("os_id=debian", "os_id=fedora")
    error = met(site.build.goal(None))
    for words in (
        "ctl: found no passwordless sudo, expected root or sudo -n, and found 10 MiB free below /opt",
        "c1: host box: it did not let admin in",
        "c2: found fedora 12",
    ):
        assert words in error.message
    assert "no machine was changed" in error.hint and not isinstance(error, Unreachable)


def test_down_goes_on_where_a_machine_that_did_not_answer_kept_it(site: Site) -> None:
    site.boxes["10.0.1.2"].gone = True
    error = met(site.build.down(site.machines.places))
    assert "c2" in error.subject and str(site.home) in error.hint and isinstance(error, Unreachable)
    assert site.boxes["10.0.1.1"].was_asked("retire") and site.boxes["10.0.1.1"].was_asked("bash -s remove")
    for address in ("10.0.0.1", "10.0.1.1"):
        site.boxes[address].bare = True
    site.boxes["10.0.1.2"].gone = False
    asyncio.run(site.build.down(site.machines.places))
    assert site.boxes["10.0.1.2"].was_asked("retire") and not site.home.exists()


def test_down_retires_the_machine_that_took_a_place(site: Site) -> None:
    asyncio.run(site.power.replace("c1"))
    archive = site.boxes["10.0.0.1"]
    applied = replace(
        site.applied(),
        places=tuple(
            replace(one, address="10.0.1.9") if one.name == "c1" else one
            for one in site.applied().places
            if one.name != "spare-1"
        ),
    )
    archive.files[APPLIED] = json.dumps([to_dict(applied)]).encode()
    asyncio.run(site.build.down(site.machines.places))
    assert site.boxes["10.0.1.9"].ran[-1] == "/opt/hpcli/lifecycle/retire"


def test_machines_are_looked_for_where_the_keeper_put_them(site: Site) -> None:
    """The record here still has the old address: drift, too, must look at the new machine."""
    moved = [replace(one, address="10.0.1.9") if one.name == "c1" else one for one in site.applied().places]
    applied = replace(site.applied(), places=tuple(moved))
    site.boxes["10.0.0.1"].files[APPLIED] = json.dumps([to_dict(applied)]).encode()
    machines = site.machines
    asyncio.run(machines.applied())
    before = len(site.boxes["10.0.1.1"].ran)
    asyncio.run(machines.read({"c1": ["/etc/slurm/slurm.conf"]}))
    assert site.boxes["10.0.1.9"].ran[-1].endswith("files read") and len(site.boxes["10.0.1.1"].ran) == before
