"""What hpcli reads of pyslurm's structures, as Protocols: pyslurm itself has no types, and a recording may stand in."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol


class PyNode(Protocol):
    """One of `pyslurm.Nodes`. Numbers are None for 0 and for "not set" alike; memory is in MiB."""

    name: str
    state: str
    reason: str | None
    partitions: list[str]
    active_features: list[str]
    total_cpus: int
    allocated_cpus: int
    real_memory: int | None
    allocated_memory: int
    configured_gres: Mapping[str, int]
    allocated_tres: Mapping[str, int | str]
    weight: int | None
    address: str | None
    boot_time: int | None
    slurmd_start_time: int | None


class PyJob(Protocol):
    """One of `pyslurm.Jobs`: a job, an array task, or all tasks of an array that still wait."""

    id: int
    array_id: int | None
    array_task_id: int | None
    array_tasks_waiting: str | None
    heterogeneous_id: int | None
    heterogeneous_offset: int | None
    name: str | None
    user_id: int
    partition: str
    state: str
    state_reason: str | None
    account: str | None
    allocated_nodes: str | None
    num_nodes: int | None
    is_batch_job: bool
    batch_host: str | None
    submit_host: str | None
    is_requeueable: bool
    requeue_count: int
    comment: str | None
    priority: int | None
    submit_time: int | None
    eligible_time: int | None
    start_time: int | None
    run_time: int | None
    time_limit: int | None

    @property
    def user_name(self) -> str | None:
        """Raises KeyError for a user that this machine does not know."""
        ...


class Loaded(Protocol):
    """A collection that slurmctld was asked for: `pyslurm.Nodes.load()` and the like."""

    def keys(self) -> Iterable[str]: ...

    def values(self) -> Iterable[Any]: ...


class Loader(Protocol):
    def load(self) -> Loaded: ...


class OldNodes(Protocol):
    """pyslurm's older interface, which alone says GresUsed and CfgTRES."""

    def get(self) -> Mapping[str, Mapping[str, Any]]: ...


class Pyslurm(Protocol):
    """The module."""

    __version__: str
    PyslurmError: type[Exception]

    @property
    def Nodes(self) -> Loader: ...  # noqa: N802 (pyslurm's name)

    @property
    def Jobs(self) -> Loader: ...  # noqa: N802

    @property
    def Partitions(self) -> Loader: ...  # noqa: N802

    def node(self) -> OldNodes: ...
