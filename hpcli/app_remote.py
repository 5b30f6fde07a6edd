"""Joining the parts for docker and hosts clusters; imported where such a cluster is meant."""

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcli.domain.blueprint import ADOPTED, Role
from hpcli.domain.cluster import Built
from hpcli.errors import TimedOut, Unreachable, error_of
from hpcli.machines import RemoteTransport
from hpcli.ports import Clock, Progress, SlurmGateway
from hpcli.providers.remote.layout import RemoteHome, RemoteRecord, read_record
from hpcli.transport.process import LocalTransport
from hpcli.transport.reach import connect

if TYPE_CHECKING:
    from hpcli.providers.remote.build import RemoteBuild
    from hpcli.providers.remote.facts import Facts
    from hpcli.providers.remote.ground import Ground
    from hpcli.providers.remote.keeper_process import KeeperBeside
    from hpcli.providers.remote.release import Release
    from hpcli.spec.model import Spec

HPCLI = "/usr/local/bin/hpcli"
READING = frozenset({"status", "journal"})
ASK_LIMIT = 30.0
REMOTE_POLL = 0.5


def record_of(name: str) -> RemoteRecord:
    """Raises `NotFound` when no remote cluster of that name is known here."""
    return read_record(RemoteHome.of(name))


def build(
    spec: "Spec", text: str, progress: Progress, clock: Clock, left_out: frozenset[str] = frozenset()
) -> "RemoteBuild":
    """The build of a docker, hosts or adopted cluster."""
    from hpcli.providers.remote.build import RemoteBuild
    from hpcli.providers.remote.machines import RemoteMachines
    from hpcli.providers.remote.release import pack_folder, this_release

    home = RemoteHome.of(spec.name)
    ground = ground_of(spec, home, progress)
    folder = spec.packages.folder
    machines = RemoteMachines(
        spec=spec,
        ground=ground,
        progress=progress,
        release=this_release,
        packages=lambda: pack_folder(Path(folder)) if folder else None,
        wheels=wheels(home, spec.packages.pip_index or "", progress) if spec.provider == ADOPTED else None,
    )
    return RemoteBuild(home, spec, text, ground, machines, progress, clock, left_out)


def wheels(home: RemoteHome, index: str, progress: Progress) -> "Callable[[Facts], Awaitable[Release]]":
    """Python packages for machines of a site, which often have no network: downloaded here, by the pip that is here."""
    from hpcli.providers.remote.release import requirements
    from hpcli.providers.remote.wheel_store import WheelStore
    from hpcli.providers.remote.wheels import Downloads

    downloads = Downloads(LocalTransport(), sys.executable, progress, index)
    return WheelStore(downloads, requirements().splitlines(), home.folder / "wheels").release


def ground_of(spec: "Spec", home: RemoteHome, progress: Progress) -> "Ground":
    if spec.provider != "docker":
        from hpcli.providers.remote.hosts import HostsGround, reach_of

        keyless = spec.provider == ADOPTED
        return HostsGround(spec.name, reach_of(spec.hosts), connect, home, LocalTransport(), keyless=keyless)
    from hpcli.providers.docker.containers import Containers
    from hpcli.providers.docker.engine import Engine
    from hpcli.providers.remote.docker import DockerGround

    local = LocalTransport()
    containers = Containers(Engine(local), spec.name, home.folder, spec.docker.subnet or "")
    return DockerGround(home, containers, connect, local, progress)


def login(record: RemoteRecord) -> RemoteTransport:
    """Where people's commands run, as the administrator who reaches the machines."""
    return connect(record.reach.target(record.login.address))


def slurm_gateway(name: str) -> SlurmGateway:
    """The cluster's Slurm through its login node."""
    from hpcli.slurm.cli import CliGateway

    record = record_of(name)
    return CliGateway(login(record), record.environment, ambient=())


def admin_gateway(name: str) -> SlurmGateway:
    """The cluster's Slurm as root on the controller's machine: for draining and returning nodes."""
    from hpcli.slurm.cli import CliGateway
    from hpcli.transport.root import AsRoot

    record = record_of(name)
    root = AsRoot(connect(record.reach.target(record.controller.address)))
    return CliGateway(root, record.environment, ambient=())


class ControllerOverSsh:
    """A controller asked through hpcli on its own machine. Implements `ports.Controller`."""

    def __init__(self, name: str) -> None:
        self._record = record_of(name)
        self._plain = connect(self._record.reach.target(self._record.controller.address))

    async def ask(self, what: str, **details: object) -> Any:
        """Raises `Unreachable`, or the error that the controller answered with."""
        from hpcli.transport.root import AsRoot

        transport = self._plain if what in READING else AsRoot(self._plain)
        answer = await transport.run([HPCLI, "ask", what], stdin=json.dumps(details), timeout=ASK_LIMIT)
        try:
            reply = json.loads(answer.out)
        except ValueError:
            words = (answer.err.strip() or answer.out.strip() or f"ended with {answer.code}").splitlines()[-1]
            raise Unreachable(
                f"controller of {self._record.name}", words, "is hpcli-controller running there?"
            ) from None
        if not reply.get("ok"):
            raise error_of(reply)
        return reply["result"]


async def bring_up(work: "RemoteBuild", clock: Clock) -> float:
    """Make and start everything, wait until it is whole, and say how many seconds it took. Safe to repeat."""
    begun = clock.now()

    async def ready() -> None:
        from hpcli.services.cluster import Readiness

        name = work.spec.name
        readiness = Readiness(
            slurm_gateway(name),
            ControllerOverSsh(name),
            clock,
            work.progress,
            lambda: "",
            lambda _node: "",
            REMOTE_POLL,
            idle=not work.machines.adopted,
        )
        try:
            await readiness.wait([place.name for place in work.machines.places if place.role is Role.COMPUTE])
        except TimedOut as error:
            raise await work.explained(error) from None

    try:
        await work.up(ready)
    finally:
        await work.machines.close()
    return clock.now() - begun


async def revive(spec: "Spec", text: str, progress: Progress, clock: Clock) -> tuple[str, ...]:
    """Start what of a docker cluster is off, make what is gone; says what was gone. Others are left as they are."""
    from hpcli.services.revived import take_back

    record = record_of(spec.name)
    work = build(spec, text, progress, clock)
    try:
        gone = await work.revive(record.places, record.slurm_version)
        await take_back(admin_gateway(spec.name), clock)
        return gone
    finally:
        await work.machines.close()


def what_down_removes(name: str) -> str:
    """In words, for whoever is asked whether to go on."""
    record = record_of(name)
    if record.provider == "docker":
        return f"end every job of cluster {name} and remove its {len(record.places)} containers, network and volumes"
    return f"end every job of cluster {name} and remove hpcli's daemons and files from {len(record.places)} machines"


async def take_down(name: str, progress: Progress, clock: Clock) -> None:
    """Stop everything of ours on the machines, remove those that we made, forget the cluster. Raises `HpcliError`."""
    from hpcli.spec.load import parse_spec

    record, home = record_of(name), RemoteHome.of(name)
    text = home.spec.read_text()
    work = build(parse_spec(text, str(home.spec)), text, progress, clock)
    keeper_beside(home, work.spec).stop()
    try:
        await work.down(record.places)
    finally:
        await work.machines.close()


def keeper_beside(home: RemoteHome, spec: "Spec") -> "KeeperBeside":
    from hpcli.providers.remote.keeper_process import KeeperBeside

    return KeeperBeside(home, spec.name, spec.provider, spec.node_names)


def built(name: str) -> Built:
    """A remote cluster as it is known here. Raises `NotFound`."""
    from hpcli.providers.remote.keeper_process import KeeperBeside

    record, home = record_of(name), RemoteHome.of(name)
    keeper = KeeperBeside(home, name, record.provider, record.nodes)
    alive = (*(("record",) if record.complete else ()), *(("keeper",) if keeper.alive else ()))
    expected = {"record"} | ({"keeper"} if record.provider == "docker" else set())
    return Built(
        name=name,
        provider=record.provider,
        slurm_version=record.slurm_version or "?",
        folder=str(home.folder),
        slurm_conf="of the site" if record.provider == ADOPTED else f"{record.controller.name}:/etc/slurm/slurm.conf",
        nodes=record.nodes,
        alive=alive,
        dead=tuple(sorted(expected - set(alive))),
    )


def preview(spec: "Spec", text: str) -> dict[str, str]:
    """Files as `up` would write them, by machine and path: one machine of each role, secrets left out.

    Nothing is asked and nothing made: machines are taken to be called as in the spec, those of hosts to run systemd.
    """
    from hpcli.providers.remote.preview import preview as render

    return render(spec, text)
