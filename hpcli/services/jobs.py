"""Jobs as people ask for them: the queue with arrays folded, and cancelling what was named."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ClusterShell.RangeSet import RangeSet

from hpcli.domain.job import Job
from hpcli.errors import JobFailed, NotFound
from hpcli.ports import SlurmGateway

_ORDER = ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED")


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A job, or the waiting tasks of an array that share their state and reason. `where` is a hostlist or a reason.

    `start_time` is in seconds since the epoch; of a pending job it says when it may begin.
    """

    job: str
    name: str
    user: str
    partition: str
    state: str
    time_used: str
    time_limit: str
    node_count: int
    where: str
    restarts: int
    start_time: float


async def queue(gateway: SlurmGateway, user: str = "") -> tuple[QueueRow, ...]:
    """List jobs that run or wait, those of `user` or everybody's; running ones first."""
    jobs = [job for job in await gateway.jobs() if not job.ended and user in ("", job.user)]
    return tuple(_row(group) for group in _folded(sorted(jobs, key=_urgency)))


async def find_active(gateway: SlurmGateway, labels: Sequence[str]) -> tuple[Job, ...]:
    """Give the jobs that `labels` (ids, array ids, task ids) name and that have not ended.

    Raises `NotFound` for a label that Slurm knows nothing of.
    """
    jobs = await gateway.jobs()
    unknown = [label for label in labels if not any(_names(label, job) for job in jobs)]
    if unknown:
        raise NotFound(f"job {','.join(unknown)}", "found no such job, expected one that waits or runs", SEE_QUEUE)
    return tuple(job for job in jobs if not job.ended and any(_names(label, job) for label in labels))


async def wait_outcome(gateway: SlurmGateway, label: str) -> None:
    """Raise `JobFailed` unless the job, which has ended, completed."""
    for files in await gateway.job_files(label):
        raise_if_failed(files.job)


def raise_if_failed(job: Job) -> None:
    if job.ended and job.state != "COMPLETED":
        raise JobFailed(
            f"job {job.label}",
            f"found it ended {job.state}{f' ({job.reason})' if job.reason else ''}, expected COMPLETED",
            f"see: hpcli logs {job.label}",
        )


SEE_QUEUE = "see: hpcli queue --all"


def _names(label: str, job: Job) -> bool:
    return label == job.label or label == job.label.partition("_")[0]


def _urgency(job: Job) -> tuple[int, int, int]:
    first, _, task = job.label.partition("_")
    rank = _ORDER.index(job.state) if job.state in _ORDER else len(_ORDER)
    return rank, _number(first), _number(task)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _folded(jobs: Iterable[Job]) -> list[list[Job]]:
    """Put the pending tasks of an array with the same reason together."""
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        array, _, task = job.label.partition("_")
        foldable = job.pending and task.isdigit()
        key = (array, job.state, job.reason) if foldable else (job.label,)
        groups.setdefault(key, []).append(job)
    return list(groups.values())


def _row(group: Sequence[Job]) -> QueueRow:
    job = group[0]
    return QueueRow(
        job=job.label if len(group) == 1 else _array_label(group),
        name=job.name,
        user=job.user,
        partition=job.partition,
        state=job.state,
        time_used=job.time_used,
        time_limit=job.time_limit,
        node_count=job.node_count,
        where=job.nodes or (f"({job.reason})" if job.reason else ""),
        restarts=max(one.restarts for one in group),
        start_time=job.start_time,
    )


def _array_label(group: Sequence[Job]) -> str:
    tasks = RangeSet.fromlist([job.label.partition("_")[2] for job in group])
    return f"{group[0].label.partition('_')[0]}_[{tasks}]"
