"""What a job wrote: the last lines of its files, or all that comes until it has ended."""

import codecs
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpcli.domain.job import Job, JobFiles
from hpcli.errors import HpcliError, NotFound, Unreachable
from hpcli.ports import Clock, SlurmGateway

READ_INTERVAL = 0.25
ASK_INTERVAL = 2.0
_CHUNK = 1 << 20

Write = Callable[[str, str], None]
"""Takes a file's path and the text that it grew by."""


@dataclass(frozen=True, slots=True)
class LogText:
    """The end of one output file of a job."""

    job: str
    path: str
    text: str


async def read_logs(gateway: SlurmGateway, label: str, lines: int) -> tuple[LogText, ...]:
    """Read the last `lines` lines (0: all) of each output file. Raises `NotFound` when there is none yet."""
    found = await job_files(gateway, label)
    there = [(files.job, path) for files in found for path in paths_of(files) if Path(path).exists()]
    if not there:
        raise _nothing_written(found[0])
    return tuple(LogText(job.label, path, _last_lines(path, lines)) for job, path in there)


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
class Tail:
    """A file that grows, is truncated, is replaced, or is not there yet."""

    path: Path
    offset: int = 0
    _inode: int = 0
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )

    def skip_to_last(self, lines: int) -> None:
        """Start `lines` lines before the end of what is there (0: at its beginning)."""
        if lines and self.path.exists():
            self.offset = _offset_of_last(self.path, lines)
            self._inode = self.path.stat().st_ino

    def read(self) -> str:
        """Give what is new, at most 1 MiB of it; "" for nothing or no file. Raises OSError when unreadable."""
        try:
            with self.path.open("rb") as log:
                self._begin_again_if_other(os.fstat(log.fileno()))
                log.seek(self.offset)
                chunk = log.read(_CHUNK)
        except FileNotFoundError:
            return ""
        self.offset += len(chunk)
        return self._decoder.decode(chunk)

    def _begin_again_if_other(self, now: os.stat_result) -> None:
        replaced = self._inode not in (0, now.st_ino)
        if replaced or now.st_size < self.offset:
            self.offset = 0
            self._decoder.reset()
        self._inode = now.st_ino


@dataclass(slots=True)
class Follower:
    """Follows the files of one job through requeues until the job has ended."""

    gateway: SlurmGateway
    clock: Clock
    label: str
    write: Write
    note: Callable[[str], None]
    tails: dict[str, Tail] = field(default_factory=dict)

    async def follow(self, lines: int) -> tuple[Job, ...]:
        """Write all that comes, from the last `lines` lines on; give the job, or an array's tasks, at their end."""
        found = await job_files(self.gateway, self.label)
        self._watch(found, lines)
        self._announce(found)
        while not all(files.job.ended for files in found):
            await self._copy_for(ASK_INTERVAL)
            found = await self._ask(found)
            self._watch(found, 0)
        while self._copy():
            pass
        return tuple(files.job for files in found)

    def _announce(self, found: Sequence[JobFiles]) -> None:
        waiting = [files.job for files in found if files.job.pending]
        if waiting:
            self.note(f"job {waiting[0].label} is {waiting[0].state}{_why(waiting[0])}; waiting for it to start")

    def _watch(self, found: Sequence[JobFiles], lines: int) -> None:
        for path in (path for files in found for path in paths_of(files)):
            if path not in self.tails:
                self.tails[path] = Tail(Path(path))
                self.tails[path].skip_to_last(lines)

    async def _copy_for(self, seconds: float) -> None:
        until = self.clock.now() + seconds
        while self.clock.now() < until:
            if not self._copy():
                await self.clock.sleep(READ_INTERVAL)

    def _copy(self) -> bool:
        news = [(path, text) for path, tail in self.tails.items() if (text := _read(tail))]
        for path, text in news:
            self.write(path, text)
        return bool(news)

    async def _ask(self, before: tuple[JobFiles, ...]) -> tuple[JobFiles, ...]:
        """Ask Slurm how the job is; a controller that is away for a moment ends nothing."""
        try:
            found = await job_files(self.gateway, self.label)
        except Unreachable as error:
            self.note(f"{error.subject}: {error.message}; still following")
            return before
        for files, earlier in zip(found, before, strict=False):
            if files.job.restarts > earlier.job.restarts:
                self.note(f"job {files.job.label} was requeued (restart {files.job.restarts})")
        return found


def _read(tail: Tail) -> str:
    try:
        return tail.read()
    except OSError as error:
        raise _unreadable(str(tail.path), error) from None


def _last_lines(path: str, lines: int) -> str:
    try:
        with Path(path).open("rb") as log:
            log.seek(_offset_of_last(Path(path), lines) if lines else 0)
            return log.read().decode(errors="replace")
    except OSError as error:
        raise _unreadable(path, error) from None


def _offset_of_last(path: Path, lines: int) -> int:
    """Find where the last `lines` lines begin, reading from the end."""
    with path.open("rb") as log:
        end = log.seek(0, os.SEEK_END)
        tail = b""
        while end and tail.count(b"\n") <= lines:
            start = max(0, end - _CHUNK)
            log.seek(start)
            tail = log.read(end - start) + tail
            end = start
    kept = tail.splitlines(keepends=True)[-lines:]
    return end + len(tail) - sum(len(line) for line in kept)


def _unreadable(path: str, error: OSError) -> HpcliError:
    return HpcliError(path, f"found {error.strerror or error}, expected a readable file")


def _nothing_written(files: JobFiles) -> NotFound:
    job = files.job
    where = files.stdout or "no output file"
    if job.pending:
        hint = f"it is {job.state}{_why(job)}; hpcli logs -F {job.label} waits for it"
    else:
        hint = "is this machine's file system the one that the job wrote to?"
    return NotFound(f"job {job.label}", f"found nothing at {where}, expected the job's output", hint)


def _why(job: Job) -> str:
    return f" ({job.reason})" if job.reason else ""
