"""Joining the parts of the keeper: its power over machines comes with what its home holds."""

import logging
from pathlib import Path

from hpcli.domain.keeper_settings import KeeperSettings
from hpcli.machines import RemoteTransport
from hpcli.providers.docker.containers import Containers
from hpcli.providers.docker.engine import Engine
from hpcli.providers.kept import Power
from hpcli.providers.remote.docker import DockerGround
from hpcli.providers.remote.ground import ClusterKey
from hpcli.providers.remote.hosts import HostsGround
from hpcli.providers.remote.layout import RemoteHome, read_record
from hpcli.providers.remote.machines import RemoteMachines
from hpcli.providers.remote.power import DockerPower, HostsPower
from hpcli.providers.remote.release import this_release
from hpcli.spec.load import parse_spec
from hpcli.spec.model import Spec
from hpcli.transport.process import LocalTransport
from hpcli.transport.reach import connect
from hpcli.transport.target import SshTarget

log = logging.getLogger(__name__)


class LoggedProgress:
    """Implements `ports.Progress` for a daemon."""

    def step(self, text: str) -> None:
        log.info("%s", text)


def power_of(settings: KeeperSettings) -> Power:
    """The means to reboot and replace the machines of the keeper's cluster."""
    home = RemoteHome(settings.cluster, Path(settings.home))
    record, local, progress = read_record(home), LocalTransport(), LoggedProgress()
    spec = _spec(home.spec.read_text())
    if settings.provider == "docker":
        containers = Containers(Engine(local), settings.cluster, home.folder)
        ground = DockerGround(home, containers, _connect, local, progress)
        machines = RemoteMachines(spec, ground, progress, this_release, lambda: None, record.places)
        return DockerPower(machines, containers)
    key = ClusterKey(home.identity.read_text(), Path(f"{home.identity}.pub").read_text().strip())
    hosts = HostsGround(settings.cluster, record.reach, _connect, home, local)
    return HostsPower(
        machines=RemoteMachines(spec, hosts, progress, this_release, lambda: None, record.places),
        spec=spec,
        key=key,
        user=record.reach.user,
        port=record.reach.port,
        local=local,
    )


def _connect(target: SshTarget) -> RemoteTransport:
    return connect(target, lasting=True)


def _spec(text: str) -> Spec:
    """The files that it names are on another machine: they are not looked for."""
    return parse_spec(text, "cluster.yaml")
