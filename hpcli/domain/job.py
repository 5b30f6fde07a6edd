"""A Slurm job as hpcli sees it."""

from dataclasses import dataclass

NO_EVICT = "hpcli:no-evict"

RUNNING_STATES = frozenset({"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING"})
PENDING_STATES = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})


@dataclass(frozen=True, slots=True)
class Job:
    """One job or array task. Times are seconds since the epoch, 0.0 when Slurm has none.

    `id` is Slurm's own number, `label` what people type (`123_4`). `nodes` is a hostlist.
    """

    id: str
    label: str
    name: str
    user: str
    partition: str
    state: str
    reason: str = ""
    account: str = ""
    nodes: str = ""
    node_count: int = 0
    batch_host: str = ""
    requeue: bool = True
    restarts: int = 0
    comment: str = ""
    submit_time: float = 0.0
    start_time: float = 0.0
    time_used: str = ""
    time_limit: str = ""

    @property
    def on_nodes(self) -> bool:
        """The job holds nodes or is still being cleaned off them."""
        return self.state in RUNNING_STATES

    @property
    def pending(self) -> bool:
        return self.state in PENDING_STATES

    @property
    def may_be_evicted(self) -> bool:
        return NO_EVICT not in self.comment

    @property
    def ended(self) -> bool:
        return not self.on_nodes and not self.pending


@dataclass(frozen=True, slots=True)
class JobFiles:
    """A job and where its batch script's output goes, as far as Slurm has filled the patterns in."""

    job: Job
    stdout: str
    stderr: str
    work_dir: str
