"""The kernel log of a real machine: /dev/kmsg.

The record format is that of Documentation/ABI/testing/dev-kmsg in the Linux source.
"""

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from hpcli.ports import LogRecord
from hpcli.probe.kernel_log import MAX_LINE

KMSG = "/dev/kmsg"
RECORDS_PER_POLL = 2000
KERNEL_FACILITY = 0

_HEAD = re.compile(r"(\d{1,10}),(\d{1,20}),\d{1,20},[^;\n]{0,200};")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last record that was taken. A caller that saves it is not told of older ones again."""

    boot_id: str
    seq: int


def open_kmsg() -> int:
    """Raises OSError where the kernel log may not be read."""
    return os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


@dataclass(slots=True)
class KmsgKernelLog:
    """Records of the kernel facility alone: whoever may write to /dev/kmsg writes with another one.

    `opener` returns a descriptor of which each read gives one record, as /dev/kmsg does. `fault`
    says why nothing can be read, "" when all is well.
    """

    boot_id: str
    cursor: Cursor | None = None
    opener: Callable[[], int] = open_kmsg
    read: Callable[[int, int], bytes] = os.read
    fault: str = ""
    _fd: int = field(default=-1)

    def poll(self) -> list[LogRecord]:
        """New records, oldest first; at most RECORDS_PER_POLL. Never blocks."""
        if self._fd < 0 and not self._open():
            return []
        records: list[LogRecord] = []
        for _ in range(RECORDS_PER_POLL):
            raw = self._next()
            if raw is None:
                break
            record = parse_record(raw, self.boot_id)
            if record and self._is_new(record):
                self.cursor = Cursor(self.boot_id, record.seq)
                records.append(record)
        return records

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> bool:
        try:
            self._fd = self.opener()
        except OSError as error:
            self.fault = f"{KMSG}: {error.strerror or error}"
            return False
        self.fault = ""
        return True

    def _next(self) -> bytes | None:
        """One record; b"" where the ring overran us and the next read goes on with the oldest left."""
        try:
            return self.read(self._fd, MAX_LINE) or None
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.EINTR):
                return b""
            self.fault = f"{KMSG}: {error.strerror or error}"
            self.close()
            return None

    def _is_new(self, record: LogRecord) -> bool:
        cursor = self.cursor
        return cursor is None or cursor.boot_id != self.boot_id or record.seq > cursor.seq


def parse_record(raw: bytes, boot_id: str) -> LogRecord | None:
    """One record of /dev/kmsg; None when it is not the kernel's own or not a record.

    Continuation lines (" KEY=value", the device it is about) are not part of the text.
    """
    text = raw.decode(errors="replace")
    head = _HEAD.match(text)
    if not head or int(head[1]) >> 3 != KERNEL_FACILITY:
        return None
    message = text[head.end() :].split("\n", 1)[0]
    return LogRecord(boot_id, int(head[2]), message)
