"""Nodes and jobs of the simulated world. Mutable: the world moves them."""

from dataclasses import dataclass, field

from hpcli.domain.job import Job
from hpcli.domain.node import Node
from hpcli.spec.hostlist import fold

FOREVER = float("inf")


@dataclass(slots=True)
class SimNode:
    """A machine with its slurmd, and what slurmctld thinks of it. Times are seconds since the epoch.

    `powered` and `frozen` are the machine's; `down`, `drain`, `fail`, `responding` are slurmctld's opinion.
    """

    name: str
    cpus: int = 4
    memory: int = 1000
    gpus: int = 0
    weight: int = 1
    partitions: tuple[str, ...] = ("main",)
    features: tuple[str, ...] = ()
    powered: bool = True
    frozen: bool = False
    down: bool = False
    drain: bool = False
    fail: bool = False
    responding: bool = True
    expected: bool = False
    reason: str = ""
    boot: int = 1
    instance: int = 1
    boot_time: float = 0.0
    up_at: float = FOREVER
    silent_since: float = FOREVER

    @property
    def answers(self) -> bool:
        return self.powered and not self.frozen

    @property
    def schedulable(self) -> bool:
        return self.answers and not (self.down or self.drain or self.fail)

    @property
    def boot_id(self) -> str:
        return f"{self.name}-boot-{self.boot}" if self.powered else ""

    @property
    def instance_id(self) -> str:
        return f"{self.name}-instance-{self.instance}"


@dataclass(slots=True)
class SimJob:
    """A job. `ranks` maps the nodes that still run its processes to the moment when those end."""

    id: str
    label: str
    name: str = "wrap"
    user: str = "user"
    partition: str = "main"
    comment: str = ""
    node_count: int = 1
    cpus: int = 1
    gpus: int = 0
    wish: tuple[str, ...] = ()
    requeue: bool = True
    no_kill: bool = False
    ignores_term: bool = False
    work: float = FOREVER
    exit_code: int = 0
    stdout: str = ""
    stderr: str = ""
    work_dir: str = ""
    held: str = ""
    state: str = "PENDING"
    after: str = ""
    nodes: tuple[str, ...] = ()
    batch_host: str = ""
    ranks: dict[str, float] = field(default_factory=dict)
    submit_time: float = 0.0
    eligible_time: float = 0.0
    start_time: float = 0.0
    restarts: int = 0

    @property
    def ends_at(self) -> float:
        """When its own work is done, if nothing comes between."""
        return self.start_time + self.work if self.state == "RUNNING" else FOREVER

    def answers_to(self, job_id: str) -> bool:
        return job_id in (self.label, self.label.partition("_")[0])


def seen_job(job: SimJob, now: float) -> Job:
    """Give the job as squeue shows it."""
    pending = job.state == "PENDING"
    waits = "BeginTime" if job.eligible_time > now else "Resources"
    return Job(
        id=job.id,
        label=job.label,
        name=job.name,
        user=job.user,
        partition=job.partition,
        state=job.state,
        reason=(job.held or waits) if pending else "",
        nodes=fold(job.ranks if job.state == "COMPLETING" else job.nodes) if job.nodes else "",
        node_count=len(job.nodes) or job.node_count,
        batch_host=job.batch_host,
        requeue=job.requeue,
        restarts=job.restarts,
        comment=job.comment,
        submit_time=job.submit_time,
        start_time=job.eligible_time if pending else job.start_time,
    )


def seen_node(node: SimNode, jobs: list[SimJob]) -> Node:
    """Give the node as `scontrol show node` shows it; `jobs` are those on it."""
    cpus = sum(job.cpus for job in jobs if job.state != "COMPLETING")
    return Node(
        name=node.name,
        states=_states(node, cpus, completing=any(job.state == "COMPLETING" for job in jobs)),
        reason=node.reason,
        partitions=node.partitions,
        features=node.features,
        cpus=node.cpus,
        cpus_alloc=cpus,
        memory=node.memory,
        gpus=node.gpus,
        gpus_alloc=sum(job.gpus for job in jobs),
        weight=node.weight,
        addr="127.0.0.1",
        boot_time=node.boot_time,
        slurmd_start_time=node.boot_time,
    )


def _states(node: SimNode, cpus: int, *, completing: bool) -> frozenset[str]:
    base = "DOWN" if node.down else _load(node, cpus)
    flags = {
        "DRAIN": node.drain,
        "FAIL": node.fail,
        "NOT_RESPONDING": not node.responding,
        "COMPLETING": completing and not node.down,
    }
    return frozenset({base, *(flag for flag, is_set in flags.items() if is_set)})


def _load(node: SimNode, cpus: int) -> str:
    if not cpus:
        return "IDLE"
    return "ALLOCATED" if cpus >= node.cpus else "MIXED"
