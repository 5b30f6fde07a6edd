"""What a job wrote: the last lines of its files, or all that comes until it has ended."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hpcli.domain.job import Job, JobFiles
from hpcli.errors import NotFound
from hpcli.ports import Clock, SlurmGateway
from hpcli.services.log_files import LocalFiles, LogFiles, Tail
from hpcli.services.patience import Patience

__all__ = ["Follower", "LogText", "Tail", "Write", "job_files", "paths_of", "read_logs"]

ASK_INTERVAL = 2.0

Write = Callable[[str, str], None]
"""Takes a file's path and the text that it grew by."""


@dataclass(frozen=True, slots=True)
class LogText:
    """The end of one output file of a job."""

    job: str
    path: str
    text: str


async def read_logs(
    gateway: SlurmGateway, label: str, lines: int, files: LogFiles | None = None
) -> tuple[LogText, ...]:
    """Read the last `lines` lines (0: all) of each output file. Raises `NotFound` when there is none yet."""
    found = await job_files(gateway, label)
    texts = await (files or LocalFiles()).last([path for one in found for path in paths_of(one)], lines)
    there = [(one.job, path) for one in found for path in paths_of(one) if path in texts]
    if not there:
        raise _nothing_written(found[0])
    return tuple(LogText(job.label, path, texts[path]) for job, path in there)


async def job_files(gateway: SlurmGateway, label: str) -> tuple[JobFiles, ...]:
    """Raises `NotFound` with a way out when Slurm has forgotten the job."""
    try:
        return await gateway.job_files(label)
    except NotFound:
        raise NotFound(
            f"job {label}",
            "found no record of it; Slurm forgets ended jobs after MinJobAge (300 s by default)",
            "the file is where --output said, by default slurm-JOBID.out in the folder you submitted from",
        ) from None


def paths_of(files: JobFiles) -> tuple[str, ...]:
    """Standard output and, where it is another file, standard error."""
    return tuple(dict.fromkeys(path for path in (files.stdout, files.stderr) if path and path != os.devnull))


@dataclass(slots=True)
class Follower:
    """Follows the files of one job through requeues, and through an outage of the way to it, until it has ended."""

    gateway: SlurmGateway
    clock: Clock
    label: str
    write: Write
    note: Callable[[str], None]
    files: LogFiles | None = None
    _patience: Patience = field(init=False)

    def __post_init__(self) -> None:
        self._patience = Patience(self.clock, self.note, "still following")

    async def follow(self, lines: int) -> tuple[Job, ...]:
        """Write all that comes, from the last `lines` lines on; give the job, or an array's tasks, at their end."""
        files = self.files or LocalFiles(self.clock)
        found = await job_files(self.gateway, self.label)
        _watch(files, found, lines)
        self._announce(found)
        while not all(one.job.ended for one in found):
            await self._copy_for(files, ASK_INTERVAL)
            found = await self._ask(files, found)
            _watch(files, found, 0)
        await self._copy_rest(files)
        return tuple(one.job for one in found)

    def _announce(self, found: Sequence[JobFiles]) -> None:
        waiting = [files.job for files in found if files.job.pending]
        if waiting:
            self.note(f"job {waiting[0].label} is {waiting[0].state}{_why(waiting[0])}; waiting for it to start")

    async def _copy_for(self, files: LogFiles, seconds: float) -> None:
        until = self.clock.now() + seconds
        while (left := until - self.clock.now()) > 0:
            await self._copy(files, left)

    async def _copy_rest(self, files: LogFiles) -> None:
        while await self._copy(files, 0) != 0:
            pass

    async def _copy(self, files: LogFiles, seconds: float) -> int | None:
        """How many files had news; None when they could not be asked."""
        news = await self._patience.ask(lambda: files.news(seconds))
        for path, text in news or ():
            self.write(path, text)
        return None if news is None else len(news)

    async def _ask(self, files: LogFiles, before: tuple[JobFiles, ...]) -> tuple[JobFiles, ...]:
        """Ask Slurm how the job is; a controller that is away for a moment ends nothing."""
        try:
            found = await self._patience.ask(lambda: job_files(self.gateway, self.label))
        except NotFound:
            # We were cut off for so long that Slurm has forgotten it.
            await self._copy_rest(files)
            raise
        if found is None:
            return before
        for one, earlier in zip(found, before, strict=False):
            if one.job.restarts > earlier.job.restarts:
                self.note(f"job {one.job.label} was requeued (restart {one.job.restarts})")
        return found


def _watch(files: LogFiles, found: Sequence[JobFiles], lines: int) -> None:
    files.watch([path for one in found for path in paths_of(one)], lines)


def _nothing_written(files: JobFiles) -> NotFound:
    job = files.job
    where = files.stdout or "no output file"
    if job.pending:
        hint = f"it is {job.state}{_why(job)}; hpcli logs -F {job.label} waits for it"
    else:
        hint = "is the file system here (from afar: of the login node) the one that the job wrote to?"
    return NotFound(f"job {job.label}", f"found nothing at {where}, expected the job's output", hint)


def _why(job: Job) -> str:
    return f" ({job.reason})" if job.reason else ""
