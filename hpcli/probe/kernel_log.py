"""The kernel log as a file of lines, for a node that has one of its own."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hpcli.ports import LogRecord

MAX_LINE = 8192
"""Bytes kept of a line."""

READ_SIZE = 1 << 16
READS_PER_POLL = 16
"""At most 1 MiB per poll, so that a flood in one node's log does not hold up the others."""


@dataclass(slots=True)
class LineCutter:
    """Cuts bytes into lines of at most MAX_LINE; never holds more than that of an unfinished one."""

    _held: bytes = b""

    def feed(self, chunk: bytes) -> list[str]:
        """Lines that are complete now; bytes that are not UTF-8 are replaced."""
        *complete, rest = chunk.split(b"\n")
        lines = []
        for part in complete:
            lines.append(_text(self._held + part[:MAX_LINE]))
            self._held = b""
        self._held = (self._held + rest[:MAX_LINE])[:MAX_LINE]
        return lines


def _text(raw: bytes) -> str:
    return raw[:MAX_LINE].decode(errors="replace").rstrip("\r")


@dataclass(slots=True)
class FileKernelLog:
    """Follows `path`: appends, truncation, replacement. A new boot starts at the top of the file.

    While `boot_id` gives "" the node is off and nothing is read. A fresh reader sees the whole
    present boot, so that what stands in the log is found again after a restart of the agent.
    """

    path: Path
    boot_id: Callable[[], str]
    _boot: str = ""
    _inode: int = 0
    _offset: int = 0
    _seq: int = 0
    _cutter: LineCutter = field(default_factory=LineCutter)

    def poll(self) -> list[LogRecord]:
        """Complete lines since the last call. Never blocks."""
        boot = self.boot_id()
        if not boot:
            return []
        try:
            status = self.path.stat()
        except OSError:
            return []
        if boot != self._boot or status.st_ino != self._inode or status.st_size < self._offset:
            self._rewind(boot, status.st_ino)
        if status.st_size == self._offset:
            return []
        return [self._record(line) for line in self._read(boot)]

    def _rewind(self, boot: str, inode: int) -> None:
        if boot != self._boot:
            self._seq = 0
        self._boot, self._inode, self._offset, self._cutter = boot, inode, 0, LineCutter()

    def _record(self, line: str) -> LogRecord:
        self._seq += 1
        return LogRecord(self._boot, self._seq, line)

    def _read(self, boot: str) -> list[str]:
        lines: list[str] = []
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return lines
        try:
            # Between stat and open the node may have been booted: then the next poll starts afresh.
            if os.fstat(fd).st_ino != self._inode or self.boot_id() != boot:
                return lines
            for _ in range(READS_PER_POLL):
                chunk = os.pread(fd, READ_SIZE, self._offset)
                self._offset += len(chunk)
                lines += self._cutter.feed(chunk)
                if len(chunk) < READ_SIZE:
                    break
        finally:
            os.close(fd)
        return lines
