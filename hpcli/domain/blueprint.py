"""What a cluster's machines are to look like, or do look like: the value that plan, apply and drift compare."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

FORMAT = 1
"""Of a blueprint as JSON; goes up when an older hpcli could not read it."""


ADOPTED = "adopted"
"""The provider of a cluster whose Slurm somebody else built: none of its files are ours, nor its jobs' state."""


class Role(StrEnum):
    CONTROLLER = "controller"
    LOGIN = "login"
    COMPUTE = "compute"
    SPARE = "spare"
    """A machine that takes the place of a broken one; nothing runs there until then."""


@dataclass(frozen=True, slots=True)
class Place:
    """One machine: its name in the cluster, and the address at which the others reach it.

    `base` names what it was made from, such as an image, "" where hpcli did not make it; another base means
    another machine. `hostname` is what `hostname -s` says there, "" until it was asked; `systemd` runs there.
    `host_key` is its public SSH host key, where others than the administrator must know it.
    """

    name: str
    role: Role
    address: str
    base: str = ""
    hostname: str = ""
    systemd: bool = False
    host_key: str = ""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file that hpcli owns on a machine. The text of a `secret` one is shown nowhere."""

    path: str
    text: str
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    secret: bool = False

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A whole cluster: which machines, and every file of hpcli's on each. `slurm_version` is as 24.11.5."""

    cluster: str
    provider: str
    slurm_version: str
    spec_text: str
    places: tuple[Place, ...]
    files: Mapping[str, tuple[ConfigFile, ...]]

    @property
    def fingerprint(self) -> str:
        """Equal for equal blueprints; 16 hex digits."""
        return hashlib.sha256(json.dumps(to_dict(self), sort_keys=True).encode()).hexdigest()[:16]

    def place(self, name: str) -> Place | None:
        return next((place for place in self.places if place.name == name), None)

    def file(self, host: str, path: str) -> ConfigFile | None:
        return next((file for file in self.files.get(host, ()) if file.path == path), None)


def to_dict(blueprint: Blueprint) -> dict[str, Any]:
    """As JSON: each distinct text once, under its SHA-256, since most hosts share most files."""
    texts: dict[str, str] = {}
    files: dict[str, list[dict[str, Any]]] = {}
    for host, own in blueprint.files.items():
        files[host] = []
        for file in own:
            digest = hashlib.sha256(file.text.encode()).hexdigest()
            texts[digest] = file.text
            files[host].append({**asdict(file), "text": digest})
    places = [asdict(place) for place in blueprint.places]
    plain = {name: getattr(blueprint, name) for name in ("cluster", "provider", "slurm_version", "spec_text")}
    return {"format": FORMAT, **plain, "places": places, "files": files, "texts": texts}


def from_dict(raw: Mapping[str, Any]) -> Blueprint:
    """Raises KeyError, TypeError or ValueError for what `to_dict` of this hpcli did not write."""
    if raw.get("format") != FORMAT:
        raise ValueError(f"format {raw.get('format')}, expected {FORMAT}: another hpcli wrote it")
    texts = raw["texts"]
    return Blueprint(
        cluster=raw["cluster"],
        provider=raw["provider"],
        slurm_version=raw["slurm_version"],
        spec_text=raw["spec_text"],
        places=tuple(Place(**{**place, "role": Role(place["role"])}) for place in raw["places"]),
        files={
            host: tuple(ConfigFile(**{**file, "text": texts[file["text"]]}) for file in own)
            for host, own in raw["files"].items()
        },
    )


def with_goal(pending: tuple[Blueprint, ...], goal: Blueprint) -> tuple[Blueprint, ...]:
    """Goals that were begun, and this one as the newest."""
    return (*(one for one in pending if one != goal), goal)
