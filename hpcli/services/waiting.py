"""Waiting for the end of a job from afar, whatever becomes of the connection."""

from collections.abc import Callable

from hpcli.domain.job import JobFiles
from hpcli.ports import Clock, SlurmGateway
from hpcli.services.jobs import raise_if_failed
from hpcli.services.logs import ASK_INTERVAL, job_files
from hpcli.services.patience import Patience
from hpcli.services.submission import Submission

WAIT = frozenset({"-W", "--wait"})


def without_wait(submission: Submission, words: tuple[str, ...]) -> tuple[str, ...]:
    """`words` for sbatch, but for its own waiting: it would end with the connection, and we not know how the job did.

    `words` are those of the submission as they are, or as `carried`.
    """
    kept = len(submission.script) or (2 if words[-2:-1] == ("--wrap",) else 0)
    options = words[: len(words) - kept]
    return (*(word for word in options if word not in WAIT), *words[len(words) - kept :])


async def wait_for_end(gateway: SlurmGateway, clock: Clock, label: str, note: Callable[[str], None]) -> None:
    """Return when the job, or each task of an array, has completed. Raises `JobFailed`, `NotFound`."""
    patience = Patience(clock, note, f"still waiting for job {label}")

    async def ask() -> tuple[JobFiles, ...]:
        return await job_files(gateway, label)

    while True:
        found = await patience.ask(ask)
        if found and all(one.job.ended for one in found):
            break
        await clock.sleep(ASK_INTERVAL)
    for one in found:
        raise_if_failed(one.job)
