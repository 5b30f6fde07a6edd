"""Output files of jobs as they grow, on this machine."""

import codecs
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hpcli.errors import HpcliError
from hpcli.ports import Clock

READ_INTERVAL = 0.25
CHUNK = 1 << 20


class LogFiles(Protocol):
    """Files that grow, are truncated, are replaced, or are not there yet, wherever they lie.

    Everything raises `HpcliError` for a file that cannot be read.
    """

    async def last(self, paths: Sequence[str], lines: int) -> Mapping[str, str]:
        """The last `lines` lines (0: all) of each file that exists."""
        ...

    def watch(self, paths: Sequence[str], lines: int) -> None:
        """Watch these as well: from `lines` lines before the end of what is there (0: from its beginning)."""
        ...

    async def news(self, seconds: float) -> Sequence[tuple[str, str]]:
        """What files grew by since the last call; waits so long for something to come.

        Raises `Unreachable` or `TimedOut` when there is no way to them now: then nothing is lost, nor told twice.
        """
        ...


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
                chunk = log.read(CHUNK)
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


class LocalFiles:
    """Files of this machine. Implements `LogFiles`; without a clock it waits for nothing."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock
        self._tails: dict[str, Tail] = {}

    async def last(self, paths: Sequence[str], lines: int) -> Mapping[str, str]:
        return {path: _last_lines(path, lines) for path in paths if Path(path).exists()}

    def watch(self, paths: Sequence[str], lines: int) -> None:
        for path in (path for path in paths if path not in self._tails):
            self._tails[path] = Tail(Path(path))
            self._tails[path].skip_to_last(lines)

    async def news(self, seconds: float) -> Sequence[tuple[str, str]]:
        if self._clock is None:
            return self._grown()
        until = self._clock.now() + seconds
        while not (found := self._grown()) and self._clock.now() < until:
            await self._clock.sleep(READ_INTERVAL)
        return found

    def _grown(self) -> list[tuple[str, str]]:
        return [(path, text) for path, tail in self._tails.items() if (text := _read(tail))]


def unreadable(path: str, words: str) -> HpcliError:
    return HpcliError(path, f"found {words}, expected a readable file")


def _read(tail: Tail) -> str:
    try:
        return tail.read()
    except OSError as error:
        raise unreadable(str(tail.path), error.strerror or str(error)) from None


def _last_lines(path: str, lines: int) -> str:
    try:
        with Path(path).open("rb") as log:
            log.seek(_offset_of_last(Path(path), lines) if lines else 0)
            return log.read().decode(errors="replace")
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from None


def _offset_of_last(path: Path, lines: int) -> int:
    """Find where the last `lines` lines begin, reading from the end."""
    with path.open("rb") as log:
        end = log.seek(0, os.SEEK_END)
        tail = b""
        while end and tail.count(b"\n") <= lines:
            start = max(0, end - CHUNK)
            log.seek(start)
            tail = log.read(end - start) + tail
            end = start
    kept = tail.splitlines(keepends=True)[-lines:]
    return end + len(tail) - sum(len(line) for line in kept)
