"""Containers on a real engine: made, stopped, replaced, removed; strangers beside them are left alone."""

import asyncio
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from hpcli.daemons.keeper import listening
from hpcli.domain.blueprint import Place, Role
from hpcli.domain.keeper_settings import KeeperSettings
from hpcli.errors import HpcliError, NotFound, TimedOut, Unreachable, Unsafe
from hpcli.providers.docker import known_hosts
from hpcli.providers.docker.answers import FoundContainer
from hpcli.providers.docker.containers import Containers
from hpcli.providers.docker.engine import Engine
from hpcli.providers.docker.image import build_script, built_image, named_image
from hpcli.providers.docker.keys import key_pair
from hpcli.providers.docker.shape import Bind, Shape
from hpcli.transport.process import LocalTransport

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parent.parent.parent
NAMES = ("controller", "c1", "c2")
LOCAL = LocalTransport()


class Quiet:
    def step(self, text: str) -> None:
        pass


async def built(stage: str) -> str:
    done = await LOCAL.run([str(ROOT / "docker-slurm" / "build.sh"), "22.05", stage], timeout=1800)
    assert done.code == 0, done.err
    return done.out.strip()


@dataclass
class Cluster:
    """A cluster of three containers, not made yet."""

    name: str
    home: Path
    image: str
    engine: Engine = field(default_factory=lambda: Engine(LOCAL))

    @property
    def containers(self) -> Containers:
        return Containers(self.engine, self.name, self.home)

    async def shape(self, **more: object) -> Shape:
        pair = await key_pair(LOCAL, self.home, self.name)
        return Shape(self.image, pair.public, **more)  # type: ignore[arg-type]

    async def places(self, names: Sequence[str] = NAMES) -> list[Place]:
        addresses = await self.containers.reserve(names)
        roles = [Role.CONTROLLER, *[Role.COMPUTE] * (len(names) - 1)]
        return [Place(name, role, addresses[name]) for name, role in zip(names, roles, strict=True)]

    async def make(self, names: Sequence[str] = NAMES, **more: object) -> dict[str, FoundContainer]:
        await self.containers.make(await self.shape(**more), await self.places(names))
        return await self.found()

    async def found(self) -> dict[str, FoundContainer]:
        return {one.name: one for one in await self.containers.found()}

    async def ssh(self, host: str, *command: str) -> str:
        """Run a command as the administrator; host keys are those of the cluster's file, strictly."""
        options = (
            *("BatchMode=yes", "StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null"),
            f"UserKnownHostsFile={self.home}/known_hosts",
        )
        words = [word for option in options for word in ("-o", option)]
        argv = ["ssh", "-F", "none", "-i", str(self.home / "id_ed25519"), *words, f"admin@{host}", *command]
        done = await LOCAL.run(argv)
        assert done.code == 0, done.err
        return done.out.strip()

    def container(self, node: str) -> str:
        return f"hpcli-{self.name}-{node}"

    async def left(self) -> list[str]:
        """Whatever the engine still has of this cluster, by any name or label."""
        found = []
        for kind in ("container", "network", "volume"):
            every = ["--all"] if kind == "container" else []
            for chosen in (f"label=hpcli.cluster={self.name}", f"name=hpcli-{self.name}"):
                found += (await self.engine.call(kind, "ls", *every, "--quiet", "--filter", chosen)).split()
        return found


@pytest.fixture(scope="module")
def image() -> str:
    return asyncio.run(built("machine"))


@pytest.fixture
async def cluster(tmp_path: Path, image: str) -> AsyncIterator[Cluster]:
    cluster = Cluster(f"e2-{os.getpid()}", tmp_path / "home", image)
    try:
        yield cluster
    finally:
        await cluster.containers.destroy()


async def test_made_once_then_left_alone(cluster: Cluster) -> None:
    first = await cluster.make()
    assert {name: one.state for name, one in first.items()} == dict.fromkeys(NAMES, "running")
    assert first["controller"].address.endswith(".10")
    hosts = known_hosts.read(cluster.home)
    assert await cluster.make() == first
    assert known_hosts.read(cluster.home) == hosts
    c1 = first["c1"].address
    assert await cluster.ssh(c1, "hostname; sudo -n id -u; getent hosts controller") == (
        f"c1\n0\n{first['controller'].address}   controller"
    )
    await cluster.containers.destroy()
    assert await cluster.left() == []
    await cluster.containers.destroy()


async def test_those_that_are_off_are_started(cluster: Cluster) -> None:
    first = await cluster.make()
    await cluster.engine.call("stop", "--time", "1", first["c1"].id)
    await cluster.engine.call("pause", first["c2"].id)
    assert (await cluster.found())["c1"].address == first["c1"].address
    assert await cluster.make() == first
    assert await cluster.ssh(first["c1"].address, "hostname") == "c1"


async def test_a_network_that_was_pruned_is_made_again(cluster: Cluster) -> None:
    first = await cluster.make()
    await cluster.engine.call("stop", "--time", "1", *(one.id for one in first.values()))
    await cluster.engine.call("network", "rm", f"hpcli-{cluster.name}")
    assert await cluster.make() == first
    assert (await cluster.ssh(first["c2"].address, "getent hosts c1")).split()[0] == first["c1"].address


async def test_restart_is_a_reboot(cluster: Cluster) -> None:
    one = (await cluster.make())["c1"]
    hosts = known_hosts.read(cluster.home)
    before = await _started(cluster, one)
    await cluster.ssh(one.address, "sudo touch /kept /run/lost")
    await cluster.containers.restart("c1")
    assert (await cluster.found())["c1"] == one
    assert await _started(cluster, one) > before
    assert known_hosts.read(cluster.home) == hosts
    assert await cluster.ssh(one.address, "ls /kept; ls /run/lost 2>/dev/null || true") == "/kept"


async def test_recreate_is_another_machine_at_the_same_address(cluster: Cluster) -> None:
    first = await cluster.make()
    old = first["c1"]
    hosts = known_hosts.read(cluster.home).splitlines()
    await cluster.ssh(old.address, "sudo touch /lost; touch kept")
    await cluster.containers.recreate("c1")
    new = await cluster.found()
    assert new["c1"].address == old.address
    assert new["c1"].id != old.id
    assert new["c2"] == first["c2"]
    now = known_hosts.read(cluster.home).splitlines()
    assert len(now) == len(hosts)
    assert len(set(now) & set(hosts)) == len(hosts) - 1
    assert await cluster.ssh(old.address, "ls /lost 2>/dev/null; ls") == "kept"


async def test_recreate_goes_on_where_it_was_interrupted(cluster: Cluster) -> None:
    old = (await cluster.make())["c1"]
    await cluster.engine.call("rm", "--force", old.id)
    with pytest.raises(NotFound, match="node c1"):
        await cluster.containers.restart("c1")
    await cluster.containers.recreate("c1")
    assert (await cluster.found())["c1"].address == old.address
    with pytest.raises(NotFound, match="node c9"):
        await cluster.containers.recreate("c9")


async def test_a_strangers_container_is_never_touched(cluster: Cluster) -> None:
    argv = ("run", "--detach", "--name", cluster.container("c1"), cluster.image, "machine")
    stranger = (await cluster.engine.call(*argv)).strip()
    try:
        before = await _started_of(cluster.engine, stranger)
        with pytest.raises(Unsafe, match=cluster.container("c1")):
            await cluster.make()
        assert await cluster.found() == {}
        await cluster.containers.remove(["c1"])
        await cluster.containers.destroy()
        assert await _started_of(cluster.engine, stranger) == before
    finally:
        await cluster.engine.call("rm", "--force", stranger)


async def test_a_stranger_in_the_place_of_a_machine(cluster: Cluster) -> None:
    one = (await cluster.make(("controller", "c1")))["c1"]
    await cluster.engine.call("rm", "--force", one.id)
    argv = ("run", "--detach", "--name", cluster.container("c1"), cluster.image, "machine")
    stranger = (await cluster.engine.call(*argv)).strip()
    try:
        for step in (cluster.containers.recreate, cluster.containers.restart):
            with pytest.raises(Unsafe, match=cluster.container("c1")):
                await step("c1")
        assert await _started_of(cluster.engine, stranger)
    finally:
        await cluster.engine.call("rm", "--force", stranger)


async def test_two_clusters_side_by_side(cluster: Cluster, tmp_path: Path) -> None:
    other = Cluster(f"{cluster.name}-b", tmp_path / "other", cluster.image)
    try:
        mine, theirs = await cluster.make(), await other.make()
        subnets = {IPv4Network(f"{one['c1'].address}/24", strict=False) for one in (mine, theirs)}
        assert len(subnets) == 2
        await cluster.containers.destroy()
        assert await other.found() == theirs
        assert await other.ssh(theirs["c1"].address, "hostname") == "c1"
    finally:
        await other.containers.destroy()
    assert await other.left() == []


async def test_somebody_elses_cluster_of_the_same_name(cluster: Cluster, tmp_path: Path) -> None:
    mine = await cluster.make(("controller",))
    theirs = Cluster(cluster.name, tmp_path / "theirs", cluster.image)
    with pytest.raises(Unsafe, match="not this cluster's"):
        await theirs.make()
    await theirs.containers.destroy()
    assert await cluster.found() == mine


async def test_one_more_and_one_less(cluster: Cluster) -> None:
    first = await cluster.make(("controller", "c1"))
    more = await cluster.make(("controller", "login1", "c1"))
    assert {name: more[name] for name in first} == first
    await cluster.containers.remove(["c1"])
    assert set(await cluster.found()) == {"controller", "login1"}
    assert "c1," not in known_hosts.read(cluster.home)
    assert await cluster.ssh(more["login1"].address, "hostname") == "login1"


async def test_an_address_that_is_not_the_machines_own(cluster: Cluster) -> None:
    first = await cluster.make(("controller",))
    places = await cluster.places(("controller",))
    for address, why in ((places[0].address[:-2] + "99", "found its container at"), ("10.9.9.9", "found its")):
        moved = [dataclasses.replace(places[0], address=address)]
        with pytest.raises(HpcliError, match=why):
            await cluster.containers.make(await cluster.shape(), moved)
    foreign = dataclasses.replace(places[0], name="c1", address="10.9.9.9")
    with pytest.raises(HpcliError, match=r"machine c1: found address 10\.9\.9\.9, expected one of the network's"):
        await cluster.containers.make(await cluster.shape(), [foreign])
    assert await cluster.found() == first


async def test_mounts_and_memory(cluster: Cluster, tmp_path: Path) -> None:
    source = tmp_path / "a, b"
    source.mkdir()
    (source / "file").write_text("seen")
    keeper = tmp_path / "keeper"
    keeper.mkdir()
    found = await cluster.make(binds=(Bind(str(source), "/data", True),), memory="256m", keeper=str(keeper))
    address = found["c1"].address
    assert (
        await cluster.ssh(address, "cat /data/file; echo; sudo touch /data/x 2>/dev/null || echo closed")
        == "seen\nclosed"
    )
    assert await cluster.ssh(address, "ls -d /run/hpcli/keeper 2>/dev/null || echo none") == "none"
    assert await cluster.ssh(found["controller"].address, "ls -d /run/hpcli/keeper") == "/run/hpcli/keeper"
    raw = (await cluster.engine.inspect("container", [found["c1"].id]))[0]
    assert raw["HostConfig"]["Memory"] == 256 << 20
    assert raw["HostConfig"]["Privileged"] is False


async def test_a_mount_of_nothing_then_of_something(cluster: Cluster, tmp_path: Path) -> None:
    """A container that could not start is made anew when what was wrong is right."""
    with pytest.raises(HpcliError, match=r"mount .*nothing: found no such folder"):
        await cluster.make(binds=(Bind(str(tmp_path / "nothing"), "/data"),))
    (tmp_path / "nothing").mkdir()
    found = await cluster.make(binds=(Bind(str(tmp_path / "nothing"), "/data"),))
    assert {one.state for one in found.values()} == {"running"}


@asynccontextmanager
async def changed_image(cluster: Cluster, script: str) -> AsyncIterator[str]:
    """The cluster's image with this for its process 1; gone again afterwards, and the cluster with it."""
    name, image = f"e2-commit-{os.getpid()}", f"e2-changed:{os.getpid()}"
    await cluster.engine.call("create", "--name", name, cluster.image, "machine")
    try:
        entrypoint = json.dumps(["bash", "-c", script])
        await cluster.engine.call("commit", "--change", f"ENTRYPOINT {entrypoint}", name, image)
        yield image
    finally:
        await cluster.containers.destroy()
        await cluster.engine.call("rm", name)
        await cluster.engine.call("image", "rm", "--force", image)


async def test_a_container_that_ends_says_its_last_words(cluster: Cluster) -> None:
    async with changed_image(cluster, "echo no key today; exit 3") as broken:
        with pytest.raises(HpcliError, match="expected it running; its last words: no key today"):
            await Cluster(cluster.name, cluster.home, broken).make(("controller",))


async def test_one_whose_sshd_never_comes_says_its_last_words(cluster: Cluster) -> None:
    async with changed_image(cluster, "echo waiting for a disk; exec sleep 600") as silent:
        cluster.image = silent
        impatient = dataclasses.replace(cluster.containers, wait=1.5)
        with pytest.raises(TimedOut, match=r"no SSH server at .* its last words: waiting for a disk"):
            await impatient.make(await cluster.shape(), await cluster.places(("controller",)))


async def test_every_step_waits_for_sshd(cluster: Cluster) -> None:
    raw = (await cluster.engine.inspect("image", [cluster.image]))[0]
    own = shlex.join(raw["Config"]["Entrypoint"])
    async with changed_image(cluster, f"sleep 1; exec {own} machine") as slow:
        cluster.image = slow
        address = (await cluster.make(("controller", "c1")))["c1"].address
        assert await cluster.ssh(address, "hostname") == "c1"
        await cluster.containers.restart("c1")
        assert await cluster.ssh(address, "hostname") == "c1"
        await cluster.containers.recreate("c1")
        assert await cluster.ssh(address, "hostname") == "c1"
        await cluster.engine.call("stop", "--time", "1", cluster.container("c1"))
        await cluster.make(("controller", "c1"))
        assert await cluster.ssh(address, "hostname") == "c1"


async def test_an_image_that_is_not_there(cluster: Cluster) -> None:
    with pytest.raises(NotFound, match="image e2-nosuch:1"):
        await Cluster(cluster.name, cluster.home, "e2-nosuch:1").make(("controller",))
    with pytest.raises(NotFound, match=r"neither here nor in a registry"):
        await named_image(cluster.engine, "127.0.0.1:1/e2-nosuch:1", Quiet())
    assert await named_image(cluster.engine, cluster.image, Quiet()) == cluster.image


async def test_an_installed_package_builds_no_image() -> None:
    with pytest.raises(HpcliError, match=r"docker\.image: found no docker-slurm/"):
        await built_image(LOCAL, None, "22.05", Quiet())
    assert build_script() == ROOT / "docker-slurm" / "build.sh"


async def test_an_engine_that_is_gone(cluster: Cluster) -> None:
    gone = Engine(LOCAL, {"DOCKER_HOST": "tcp://127.0.0.1:1"})
    containers = Containers(gone, cluster.name, cluster.home)
    for step in (gone.version, containers.found, containers.destroy, lambda: containers.reserve(NAMES)):
        with pytest.raises(Unreachable, match=r"found none that answers at tcp://127\.0\.0\.1:1"):
            await step()


MAKE = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = sys.argv[4:]
from test_docker_provider import Cluster
asyncio.run(Cluster(sys.argv[1], Path(sys.argv[2]), sys.argv[3]).make())
"""


async def test_killed_in_the_middle_then_made_again(cluster: Cluster) -> None:
    argv = [sys.executable, "-c", MAKE, cluster.name, str(cluster.home), cluster.image, str(Path(__file__).parent)]
    with subprocess.Popen(argv, cwd=ROOT) as child:
        while child.poll() is None and not await cluster.found():
            await asyncio.sleep(0.01)
        child.send_signal(signal.SIGKILL)
    found = await cluster.make()
    assert {name: one.state for name, one in found.items()} == dict.fromkeys(NAMES, "running")
    for one in found.values():
        assert await cluster.ssh(one.address, "hostname") == one.name


ASK = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect("/run/hpcli/keeper/socket")
connection.sendall(b'{"step": "reboot", "node": "c1"}\\n')
print(connection.makefile().readline())
"""


async def test_the_keeper_is_asked_from_the_controllers_container(cluster: Cluster, tmp_path: Path) -> None:
    """The kernel tells a container's uids as they are: SlurmUser is obeyed, an ordinary user is not."""
    folder = tmp_path / "keeper"
    folder.mkdir(mode=0o755)
    cluster.image = await built("slurm")
    found = await cluster.make(("controller", "c1"), keeper=str(folder))
    controller = found["controller"].id
    slurm = int(await cluster.engine.call("exec", controller, "id", "-u", "slurm"))
    settings = KeeperSettings(
        cluster.name, str(folder / "socket"), (slurm,), ("c1",), "docker", str(cluster.home), socket_mode=0o666
    )

    async def ask(user: str) -> str:
        return await cluster.engine.call("exec", "--user", user, controller, "/opt/hpcli/venv/bin/python", "-c", ASK)

    before = await _started(cluster, found["c1"])
    async with listening(settings, _Power(cluster.containers)):
        assert "found uid 1000 asking" in await ask("admin")
        assert await _started(cluster, found["c1"]) == before
        assert (await ask("slurm")).strip() == '{"ok": true}'
        assert await _started(cluster, found["c1"]) > before


@dataclass
class _Power:
    containers: Containers

    async def reboot(self, node: str) -> None:
        await self.containers.restart(node)

    async def replace(self, node: str) -> None:
        await self.containers.recreate(node)


async def _started(cluster: Cluster, one: FoundContainer) -> str:
    return await _started_of(cluster.engine, one.id)


async def _started_of(engine: Engine, container: str) -> str:
    raw = (await engine.inspect("container", [container]))[0]
    assert raw["State"]["Running"]
    return str(raw["State"]["StartedAt"])
