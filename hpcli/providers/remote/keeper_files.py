"""What the keeper on a hosts cluster's controller needs: the cluster's key, everybody's host key, the spec."""

from collections.abc import Sequence
from pathlib import Path

from hpcli.domain.blueprint import ConfigFile, Place, Role
from hpcli.domain.keeper_settings import KeeperSettings, keeper_settings_text
from hpcli.providers.remote.ground import ClusterKey
from hpcli.providers.remote.layout import Reach, RemoteHome, RemoteRecord, record_text
from hpcli.render.machine import KEEPER_SOCKET
from hpcli.spec.effective import effective_text
from hpcli.spec.model import Spec

FOLDER = "/etc/hpcli/keeper"
SLURM_UID = 64030
"""Debian's own number of user slurm and of its group, the same on every machine (adduser in its packages)."""


def keeper_files(spec: Spec, places: Sequence[Place], admin: str, port: int, key: ClusterKey) -> list[ConfigFile]:
    """A home for the keeper like the one that the administrator's machine has."""
    home = RemoteHome(spec.name, Path(FOLDER))
    settings = KeeperSettings(
        cluster=spec.name,
        socket=KEEPER_SOCKET,
        allowed_uids=(SLURM_UID,),
        nodes=tuple(place.name for place in places if place.role is Role.COMPUTE),
        provider=spec.provider,
        home=FOLDER,
        socket_gid=SLURM_UID,
    )
    reach = Reach(admin, port, str(home.identity), str(home.known_hosts))
    record = RemoteRecord(spec.name, spec.provider, 0.0, reach, places=tuple(places), complete=True)
    return [
        ConfigFile(str(home.identity), key.private, 0o600, secret=True),
        ConfigFile(f"{home.identity}.pub", f"{key.public}\n"),
        ConfigFile(str(home.record), record_text(record), 0o600),
        ConfigFile(str(home.spec), effective_text(spec), 0o600),
        known_hosts_file(places, port),
        ConfigFile("/etc/hpcli/keeper.json", keeper_settings_text(settings), 0o600),
    ]


def known_hosts_file(places: Sequence[Place], port: int) -> ConfigFile:
    """Another port than 22 is part of a name (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
    lines = []
    for place in places:
        host = place.address if port in (0, 22) else f"[{place.address}]:{port}"
        if place.host_key:
            lines.append(f"{host} {place.host_key}\n")
    return ConfigFile(f"{FOLDER}/known_hosts", "".join(lines), 0o600)


def authorized_line(key: ClusterKey, controller: Place) -> str:
    """The line that lets the keeper in, from the controller's address alone where that is a number."""
    if not controller.address.replace(".", "").isdigit():
        return key.public
    return f'from="{controller.address}" {key.public}'
