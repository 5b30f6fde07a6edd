"""The only place that chooses adapters and joins them to services.

Heavy adapters are imported where they are chosen, so that each command loads only what it uses.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcli.domain.settings import Address, ControllerSettings
from hpcli.errors import HpcliError, NotFound
from hpcli.ports import Clock, Controller, Credentials, Progress, Provider, SlurmGateway, Store
from hpcli.transport.process import LocalTransport

if TYPE_CHECKING:
    from hpcli.providers.local.build import LocalBuild
    from hpcli.providers.local.layout import Layout

CLUSTER_VARIABLE = "HPCLI_CLUSTER"


def local_transport() -> LocalTransport:
    return LocalTransport()


def clock() -> Clock:
    from hpcli.probe.clock import SystemClock

    return SystemClock()


def slurm_gateway(cluster: str | None) -> SlurmGateway:
    """The Slurm of a local cluster, else of HPCLI_CLUSTER, else of this machine. Raises `NotFound`."""
    name = cluster or os.environ.get(CLUSTER_VARIABLE)
    return gateway_for(str(layout_of(name).slurm_conf) if name else "")


def gateway_for(slurm_conf: str) -> SlurmGateway:
    """The Slurm of this configuration file; "" is the one that Slurm's own tools would find."""
    from hpcli.slurm.cli import CliGateway

    return CliGateway(local_transport(), {"SLURM_CONF": slurm_conf} if slurm_conf else {})


def layout_of(cluster: str) -> "Layout":
    """Raises `NotFound` when there is no local cluster of that name."""
    from hpcli.providers.local.layout import Layout

    return Layout.existing(cluster)


def credentials(munge_socket: str) -> Credentials:
    from hpcli.providers.local.programs import find_munge
    from hpcli.transport.munge import Munge

    munge, unmunge = find_munge()
    return Munge(local_transport(), munge, unmunge, munge_socket)


def store(path: str) -> Store:
    from hpcli.store.sqlite import SqliteStore

    return SqliteStore(Path(path))


def provider(settings: ControllerSettings) -> Provider:
    """The provider of the controller's cluster."""
    if settings.provider != "local":
        raise HpcliError(
            f"provider {settings.provider}", "found no such provider, expected local", "check cluster.yaml"
        )
    from hpcli.providers.local.build import agent_argv
    from hpcli.providers.local.provider import LocalProvider

    return LocalProvider.open(settings.cluster, agent_argv(layout_of(settings.cluster)))


def build(spec_path: Path, progress: Progress) -> "LocalBuild":
    """The build of a spec's cluster. Raises `SpecInvalid` with every problem of the file."""
    from hpcli.health.registry import check_names
    from hpcli.providers.local.build import LocalBuild
    from hpcli.providers.local.layout import Layout
    from hpcli.spec.load import load_spec

    spec = load_spec(spec_path, known_checks=check_names())
    return LocalBuild(Layout.of(spec.name), spec, spec_path.read_text(), local_transport(), progress)


def controller(cluster: str | None) -> Controller:
    """The controller of a local cluster. Raises `NotFound`."""
    from hpcli.providers.local.record import read_record

    name = cluster or os.environ.get(CLUSTER_VARIABLE)
    if not name:
        raise NotFound(
            "controller", "found no cluster named, expected one", f"use --cluster NAME or set {CLUSTER_VARIABLE}"
        )
    layout = layout_of(name)
    address = Address("127.0.0.1", read_record(layout.record).ports.controller)
    return RemoteController(address, credentials(str(layout.munge_socket)))


class RemoteController:
    """A controller reached over the network. Implements `ports.Controller`."""

    def __init__(self, address: Address, credentials: Credentials) -> None:
        self._address = address
        self._credentials = credentials

    async def ask(self, what: str, **details: object) -> Any:
        """Raises `Unreachable`, `TimedOut`, or the error that the controller answered with."""
        from hpcli.transport.channel import ask

        reply = await ask(self._address, self._credentials, {"kind": "ask", "what": what, **details})
        if not reply.get("ok"):
            raise _told(reply)
        return reply["result"]


def _told(reply: Mapping[str, Any]) -> HpcliError:
    """The error in the controller's reply, as the class that it was."""
    kinds = {kind.code: kind for kind in HpcliError.__subclasses__()}
    kind = kinds.get(str(reply.get("code")), HpcliError)
    return kind(str(reply.get("subject")), str(reply.get("message")), str(reply.get("hint", "")))
