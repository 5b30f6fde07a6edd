"""pyslurm's jobs as domain jobs: the same, field by field and in the same order, as queue.py makes of squeue's text.

What squeue(1) does by itself is done here: it sorts, and it takes waiting arrays apart. Pure.
"""

import re
from collections.abc import Iterable, Iterator

from hpcli.domain.job import PENDING_STATES, Job
from hpcli.slurm.parse import known
from hpcli.slurm.py_shapes import PyJob

_COMPACT = {
    "COMPLETING": "CG",
    "STAGE_OUT": "SO",
    "CONFIGURING": "CF",
    "RESIZING": "RS",
    "REQUEUED": "RQ",
    "REQUEUE_FED": "RF",
    "REQUEUE_HOLD": "RH",
    "SPECIAL_EXIT": "SE",
    "STOPPED": "ST",
    "REVOKED": "RV",
    "RESV_DEL_HOLD": "RD",
    "SIGNALING": "SI",
    "PENDING": "PD",
    "RUNNING": "R",
    "SUSPENDED": "S",
    "COMPLETED": "CD",
    "CANCELLED": "CA",
    "FAILED": "F",
    "TIMEOUT": "TO",
    "NODE_FAIL": "NF",
    "PREEMPTED": "PR",
    "BOOT_FAIL": "BF",
    "DEADLINE": "DL",
    "OUT_OF_MEMORY": "OOM",
}
"""squeue(1), JOB STATE CODES: by these, not by the long names, squeue sorts."""

_TASKS = re.compile(r"\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*")
_YEAR = 365 * 24 * 3600


def read_jobs(jobs: Iterable[PyJob], now: float) -> tuple[Job, ...]:
    """Read them all, in squeue's order. Raises ValueError for an array whose tasks libslurm does not spell out."""
    names: dict[int, str] = {}
    return tuple(_job(job, label, names) for job in _in_order(jobs, now) for label in _labels(job))


def _in_order(jobs: Iterable[PyJob], now: float) -> list[PyJob]:
    """Sort by partition, state, priority (-S P,t,-p), then the youngest start first.

    Jobs without a start time come last and turned round: to squeue none of two such is the first (sort.c).
    """
    all_jobs = list(jobs)
    begun = sorted((job for job in all_jobs if job.start_time), key=lambda job: -_start(job, now))
    rest = [job for job in all_jobs if not job.start_time]
    return sorted([*begun, *reversed(rest)], key=lambda job: (job.partition, _COMPACT[job.state], -(job.priority or 0)))


def _start(job: PyJob, now: float) -> float:
    start = float(job.start_time or 0)
    return max(start, now) if job.state == "PENDING" else start


def _labels(job: PyJob) -> Iterator[str]:
    """Give what people type for the job; one each for the tasks of an array that waits."""
    if job.array_tasks_waiting:
        yield from (f"{job.array_id}_{task}" for task in _tasks(job.array_tasks_waiting))
    elif job.array_id:
        # pyslurm says None for task 0.
        yield f"{job.array_id}_{job.array_task_id or 0}"
    elif job.heterogeneous_id:
        yield f"{job.heterogeneous_id}+{job.heterogeneous_offset or 0}"
    else:
        yield str(job.id)


def _tasks(text: str) -> Iterator[int]:
    """Expand `0-3,7`. libslurm cuts a long list with dots, and squeue has its own reading of a step (`0-40:2`)."""
    if not _TASKS.fullmatch(text):
        raise ValueError(f"found array tasks {text!r}, expected them all, such as 0-3,7")
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _job(job: PyJob, label: str, names: dict[int, str]) -> Job:
    if job.user_id not in names:
        names[job.user_id] = _user(job)
    start = job.eligible_time if job.state in PENDING_STATES else job.start_time
    return Job(
        id=str(job.id),
        label=label,
        name=job.name or "",
        user=names[job.user_id],
        partition=job.partition,
        state=job.state,
        reason=known(job.state_reason or "").replace(" ", "_"),
        account=known(job.account or ""),
        nodes=known(job.allocated_nodes or ""),
        node_count=job.num_nodes or 0,
        batch_host=known((job.batch_host if job.is_batch_job else job.submit_host) or ""),
        requeue=job.is_requeueable,
        restarts=job.requeue_count,
        comment=known(job.comment or ""),
        submit_time=float(job.submit_time or 0),
        start_time=float(start or 0),
        time_used=_clock(job.run_time or 0),
        # pyslurm says None for no limit.
        time_limit="UNLIMITED" if job.time_limit is None else _clock(job.time_limit * 60),
    )


def _user(job: PyJob) -> str:
    try:
        return job.user_name or str(job.user_id)
    except KeyError:
        return str(job.user_id)


def _clock(seconds: int) -> str:
    """Write seconds as squeue does: 1:05, 2:00:00, 3-00:00:00."""
    if not 0 <= seconds <= _YEAR:
        return "INVALID"
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}-{hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"
