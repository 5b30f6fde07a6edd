"""What a cluster's containers were made with: written before the engine is touched, read to make one anew."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hpcli.domain.blueprint import Place, Role
from hpcli.errors import HpcliError, NotFound
from hpcli.providers.docker.shape import Bind, Shape

NAME = "containers.json"


@dataclass(frozen=True, slots=True)
class Record:
    """A cluster's containers as they are to be. `subnet` is "" before one was chosen, `shape` None before `make`.

    `refused` are subnets that the engine did not take though nothing here shows who has them.
    """

    cluster: str
    subnet: str = ""
    shape: Shape | None = None
    places: tuple[Place, ...] = ()
    refused: tuple[str, ...] = ()

    def with_places(self, more: Iterable[Place]) -> "Record":
        """Add these, in place of those of the same name."""
        merged = {place.name: place for place in (*self.places, *more)}
        return replace(self, places=tuple(merged.values()))

    def without(self, names: Iterable[str]) -> "Record":
        gone = set(names)
        return replace(self, places=tuple(place for place in self.places if place.name not in gone))

    def place(self, name: str) -> Place:
        """Raises `NotFound`."""
        found = next((place for place in self.places if place.name == name), None)
        if found is None:
            raise NotFound(f"node {name}", f"found no such machine in cluster {self.cluster}, expected one of its own")
        return found


def read_record(home: Path, cluster: str) -> Record:
    """An empty one before the first `make`. Raises `HpcliError` when the file is damaged."""
    path = home / NAME
    try:
        return _parse(json.loads(path.read_text()))
    except FileNotFoundError:
        return Record(cluster)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HpcliError(
            str(path), f"found a damaged record: {error!r}", "take the cluster down and make it anew"
        ) from None


def write_record(home: Path, record: Record) -> None:
    """Whole or not at all, 0600. Raises `HpcliError`."""
    write_private(home / NAME, json.dumps(asdict(record), indent=1) + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a file, whole or not at all, that nobody else may read. Raises `HpcliError`."""
    fresh = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except OSError as error:
        raise HpcliError(
            str(error.filename or path), f"cannot be written: {error.strerror}", "whose is it, and is its disk full?"
        ) from None


def _parse(raw: dict[str, Any]) -> Record:
    places = tuple(Place(**{**place, "role": Role(place["role"])}) for place in raw.pop("places"))
    return Record(places=places, shape=_shape(raw.pop("shape")), refused=tuple(raw.pop("refused")), **raw)


def _shape(raw: dict[str, Any] | None) -> Shape | None:
    return Shape(binds=tuple(Bind(**bind) for bind in raw.pop("binds")), **raw) if raw else None
