"""What the keeper is told at its start."""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hpcli.errors import HpcliError


@dataclass(frozen=True, slots=True)
class KeeperSettings:
    """`home` is the folder of the cluster's keys and records; root and `allowed_uids` may ask for `nodes`.

    The socket gets `socket_mode`, and `socket_gid` unless that is -1. Where the keeper is no root, and cannot give the
    socket to the controller's group, its folder keeps others out and the mode is 0666: who asks is checked anyway.
    Timeouts are in seconds, for one step.
    """

    cluster: str
    socket: str
    allowed_uids: tuple[int, ...]
    nodes: tuple[str, ...]
    provider: str
    home: str
    socket_mode: int = 0o660
    socket_gid: int = -1
    reboot_timeout: float = 900.0
    replace_timeout: float = 3600.0


_KNOWN = frozenset(one.name for one in fields(KeeperSettings))


def keeper_settings_text(settings: KeeperSettings) -> str:
    return json.dumps(asdict(settings), indent=1) + "\n"


def write_keeper_settings(path: Path, settings: KeeperSettings) -> None:
    """Whole or not at all, 0600. Raises OSError."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(keeper_settings_text(settings))
    fresh.replace(path)


def read_keeper_settings(path: Path) -> KeeperSettings:
    """Raises `HpcliError` when the file is missing or not ours."""
    try:
        raw = dict(json.loads(path.read_text()))
        uids = tuple(int(uid) for uid in raw.pop("allowed_uids"))
        nodes = tuple(map(str, raw.pop("nodes")))
        # A newer hpcli may have written more.
        known = {name: value for name, value in raw.items() if name in _KNOWN}
        return KeeperSettings(allowed_uids=uids, nodes=nodes, **known)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HpcliError(
            str(path), f"not usable as the keeper's settings: {error}", "render them anew: hpcli cluster up"
        ) from None
