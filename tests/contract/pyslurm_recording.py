"""pyslurm's structures on disk: pyslurm_recorder.py writes them off a real one; here they pass for a module."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hpcli.domain.job import Job
from hpcli.domain.node import Node
from hpcli.slurm.py_library import Library
from hpcli.slurm.py_shapes import PyJob, PyNode

CASES = Path(__file__).parent.parent / "cases" / "slurm" / "pyslurm"
OLD = ("tres_fmt_str", "gres_used")


class Refused(Exception):
    """The recorded module's PyslurmError."""


class _Records:
    def __init__(self, records: Iterable[Any], names: Iterable[str] = ()) -> None:
        self._records, self._names = tuple(records), tuple(names)

    def load(self) -> "_Records":
        return self

    def values(self) -> Iterable[Any]:
        return self._records

    def keys(self) -> Iterable[str]:
        return self._names


class _Record(SimpleNamespace):
    """A record without a `user_name` is that of a user whom its machine does not know."""

    def __getattr__(self, name: str) -> Any:
        raise KeyError(self.user_id) if name == "user_name" else AttributeError(name)


class RecordedPyslurm:
    """Looks like the module `pyslurm` as far as hpcli looks. `deaf`: slurmctld does not answer it."""

    PyslurmError = Refused

    def __init__(self, case: Mapping[str, Any], deaf: bool = False) -> None:
        self._case = case
        self._deaf = deaf
        self.__version__ = case["pyslurm"]
        self.asked: list[str] = []

    @property
    def Nodes(self) -> _Records:  # noqa: N802
        return self._records("nodes")

    @property
    def Jobs(self) -> _Records:  # noqa: N802
        return self._records("jobs")

    @property
    def Partitions(self) -> _Records:  # noqa: N802
        return _Records((), self._ask("partitions"))

    def node(self) -> Any:
        return SimpleNamespace(get=lambda: self._ask("old_nodes"))

    def _records(self, kind: str) -> _Records:
        return _Records(_Record(**record) for record in self._ask(kind))

    def _ask(self, kind: str) -> Any:
        self.asked.append(kind)
        if self._deaf:
            raise Refused("Unable to contact slurm controller (connect failure)")
        return self._case[kind]


def opened(module: RecordedPyslurm, conf: str = "") -> Library:
    library = Library(lambda: module, set_conf=lambda _name, _value: None, present=lambda: False)
    library.open(conf)
    return library


def case(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CASES / f"{name}.json").read_text())
    return found


def structures(pyslurm: Any) -> dict[str, Any]:
    """Write down what hpcli reads of a real pyslurm."""
    return {
        "nodes": [_shown(node, PyNode) for node in pyslurm.Nodes.load().values()],
        "old_nodes": {name: {key: record[key] for key in OLD} for name, record in pyslurm.node().get().items()},
        "jobs": [_shown(job, PyJob) | {"user_name": job.user_name} for job in pyslurm.Jobs.load().values()],
        "partitions": list(pyslurm.Partitions.load().keys()),
    }


def as_json(objects: Iterable[Node | Job]) -> list[dict[str, Any]]:
    plain = [asdict(one) for one in objects]
    return [{key: sorted(v) if isinstance(v, frozenset) else v for key, v in one.items()} for one in plain]


def nodes_of(records: Iterable[Mapping[str, Any]]) -> tuple[Node, ...]:
    tuples = ("partitions", "features")
    return tuple(
        Node(**{**record, "states": frozenset(record["states"]), **{key: tuple(record[key]) for key in tuples}})
        for record in records
    )


def jobs_of(records: Iterable[Mapping[str, Any]]) -> tuple[Job, ...]:
    return tuple(Job(**record) for record in records)


def _shown(record: Any, shape: type) -> dict[str, Any]:
    return {name: getattr(record, name) for name in shape.__annotations__}
