"""What the machine where `hpcli cluster` runs keeps of a remote cluster: how to reach it, and its keys."""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcli.domain.blueprint import Place, Role
from hpcli.errors import HpcliError, NotFound
from hpcli.providers.local.layout import Layout
from hpcli.render.machine import USUAL_PATH
from hpcli.transport.target import SshTarget

PROVIDERS = ("docker", "hosts", "adopted")


@dataclass(frozen=True, slots=True)
class RemoteHome:
    """The folder of one remote cluster, 0700."""

    name: str
    folder: Path

    @classmethod
    def of(cls, name: str) -> "RemoteHome":
        """Raises `UsageFault` for what cannot be a cluster's name."""
        return cls(name, Layout.of(name).home)

    @property
    def record(self) -> Path:
        return self.folder / "cluster.json"

    @property
    def spec(self) -> Path:
        return self.folder / "cluster.yaml"

    @property
    def identity(self) -> Path:
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def munge_key(self) -> Path:
        return self.folder / "munge.key"

    @property
    def keeper(self) -> Path:
        return self.folder / "keeper"

    def make(self, *, key: bool = True) -> None:
        """Create the folder, and with `key` the cluster's munge key, once."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if key and not self.munge_key.exists():
            # Printable, so that it travels as any other file's text; 512 random bits are what munge's own tool makes
            # at least twice over.
            write_secret(self.munge_key, secrets.token_hex(64))


@dataclass(frozen=True, slots=True)
class Reach:
    """How the administrator reaches the machines over SSH; "" and 0 are ssh's own choice."""

    user: str = ""
    port: int = 0
    identity: str = ""
    known_hosts: str = ""

    def target(self, address: str) -> SshTarget:
        return SshTarget(address, self.user, self.port, self.identity, self.known_hosts)


@dataclass(frozen=True, slots=True)
class RemoteRecord:
    """A remote cluster as this machine remembers it. `complete`: its first `up` has ended well.

    `programs` is the folder of Slurm's programs there, "" where they are on everybody's PATH.
    """

    name: str
    provider: str
    created: float
    reach: Reach
    slurm_version: str = ""
    places: tuple[Place, ...] = ()
    complete: bool = False
    programs: str = ""

    @property
    def controller(self) -> Place:
        return next(place for place in self.places if place.role is Role.CONTROLLER)

    @property
    def login(self) -> Place:
        """Where people's commands run: the first login node, else the controller."""
        return next((place for place in self.places if place.role is Role.LOGIN), self.controller)

    @property
    def environment(self) -> dict[str, str]:
        """What Slurm's commands need there beside what everybody has."""
        return {"PATH": f"{self.programs}:{USUAL_PATH}"} if self.programs else {}

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(place.name for place in self.places if place.role is Role.COMPUTE)


def record_text(record: RemoteRecord) -> str:
    plain = asdict(record)
    if not record.programs:
        # An older hpcli does not know it, and a keeper of one may still read this.
        del plain["programs"]
    return json.dumps(plain) + "\n"


def write_record(home: RemoteHome, record: RemoteRecord) -> None:
    write_secret(home.record, record_text(record))


def read_record(home: RemoteHome) -> RemoteRecord:
    """Raises `NotFound` when there is no such cluster, `HpcliError` when its record is damaged."""
    raw = _raw(home)
    try:
        places = tuple(Place(**{**place, "role": Role(place["role"])}) for place in raw.pop("places"))
        return RemoteRecord(places=places, reach=Reach(**raw.pop("reach")), **raw)
    except (KeyError, ValueError, TypeError) as error:
        raise _damaged(home, error) from None


def provider_of(name: str) -> str:
    """Which provider built the cluster of this name here. Raises `NotFound`."""
    found = _raw(RemoteHome.of(name)).get("provider", "local")
    return str(found)


def write_secret(path: Path, text: str) -> None:
    """Replace a file, readable by its owner alone at every moment."""
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)


def _raw(home: RemoteHome) -> dict[str, Any]:
    try:
        return dict(json.loads(home.record.read_text()))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        # Somebody else's folder, which we may not enter, is no cluster of ours either.
        raise NotFound(f"cluster {home.name}", "no cluster of that name here", "see: hpcli cluster list") from None
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(home, error) from None


def _damaged(home: RemoteHome, error: Exception) -> HpcliError:
    return HpcliError(
        str(home.record), f"damaged cluster record: {error!r}", f"remove what is left: hpcli cluster down {home.name}"
    )
