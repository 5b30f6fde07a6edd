"""/dev/kmsg: its record format, what a reader must survive, and the real one where it may be read."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from hpcli.probe.kmsg import RECORDS_PER_POLL, Cursor, KmsgKernelLog, parse_record

# Recorded from /dev/kmsg of Linux 6.18.
PLAIN = b"6,9,0,-;NX (Execute Disable) protection: active\n"
WITH_DEVICE = (
    b"5,340,1425349,-;virtio_blk virtio1: [vda] new size: 536870912 512-byte logical blocks (275 GB/256 GiB)\n"
    b" SUBSYSTEM=virtio\n DEVICE=+virtio:virtio1\n"
)
# Composed: written by a program (facility user), by a daemon (3), with a caller field, and an Xid.
FROM_USER = b"12,341,1425400,-;NVRM: Xid (PCI:0000:18:00): 79, I am a liar\n"
FROM_DAEMON = b"30,342,1425401,-;systemd[1]: Started.\n"
WITH_CALLER = b"4,343,1425402,c,caller=T27;NVRM: Xid (PCI:0000:18:00): 79, GPU has fallen off the bus.\n"


@dataclass
class FakeKmsg:
    """Gives one record, or raises one error, per read; then would block."""

    replies: list[bytes | OSError] = field(default_factory=list)
    opened: int = 0

    def open(self) -> int:
        self.opened += 1
        return os.open(os.devnull, os.O_RDONLY)

    def read(self, fd: int, size: int) -> bytes:
        if not self.replies:
            raise BlockingIOError(errno.EAGAIN, "would block")
        reply = self.replies.pop(0)
        if isinstance(reply, OSError):
            raise reply
        return reply[:size]


def reader(*replies: bytes | OSError, cursor: Cursor | None = None) -> KmsgKernelLog:
    kmsg = FakeKmsg(list(replies))
    return KmsgKernelLog("boot-1", cursor, kmsg.open, kmsg.read)


@pytest.fixture
def drain() -> Callable[[KmsgKernelLog], list[str]]:
    def poll(log: KmsgKernelLog) -> list[str]:
        try:
            return [record.text for record in log.poll()]
        finally:
            log.close()

    return poll


Drain = Callable[[KmsgKernelLog], list[str]]


def test_the_record_format() -> None:
    record = parse_record(WITH_DEVICE, "boot-1")
    assert record and (record.boot_id, record.seq) == ("boot-1", 340)
    assert record.text == "virtio_blk virtio1: [vda] new size: 536870912 512-byte logical blocks (275 GB/256 GiB)"
    caller = parse_record(WITH_CALLER, "boot-1")
    assert caller and caller.text.startswith("NVRM: Xid")


@pytest.mark.parametrize("raw", [b"", b"\n", b"hello", b"6,9,0", b"6;x", b",,,;x", b"6,x,0,-;y", b"\xff" * 9000])
def test_what_is_no_record_is_passed_over(raw: bytes) -> None:
    assert parse_record(raw, "boot-1") is None


def test_only_the_kernel_is_believed(drain: Drain) -> None:
    assert drain(reader(FROM_USER, PLAIN, FROM_DAEMON)) == ["NX (Execute Disable) protection: active"]


def test_an_overrun_is_survived(drain: Drain) -> None:
    overrun = OSError(errno.EPIPE, "Broken pipe")
    assert len(drain(reader(PLAIN, overrun, WITH_DEVICE, overrun))) == 2


def test_another_error_says_why_and_opens_again() -> None:
    kmsg = FakeKmsg([PLAIN, OSError(errno.EIO, "Input/output error"), WITH_DEVICE])
    log = KmsgKernelLog("boot-1", None, kmsg.open, kmsg.read)
    assert len(log.poll()) == 1
    assert log.fault == "/dev/kmsg: Input/output error"
    assert len(log.poll()) == 1
    assert (log.fault, kmsg.opened) == ("", 2)
    log.close()


def test_no_permission_is_no_lines() -> None:
    def refuse() -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    log = KmsgKernelLog("boot-1", None, refuse)
    assert log.poll() == []
    assert log.fault == "/dev/kmsg: Operation not permitted"


def test_a_saved_cursor_skips_what_was_seen_in_this_boot(drain: Drain) -> None:
    first = reader(PLAIN, WITH_DEVICE)
    assert len(drain(first)) == 2
    assert first.cursor == Cursor("boot-1", 340)
    assert drain(reader(PLAIN, WITH_DEVICE, WITH_CALLER, cursor=first.cursor)) == [
        "NVRM: Xid (PCI:0000:18:00): 79, GPU has fallen off the bus."
    ]
    assert len(drain(reader(PLAIN, WITH_DEVICE, cursor=Cursor("boot-0", 99999)))) == 2


def test_a_flood_is_read_in_portions() -> None:
    flood = [b"6,%d,0,-;x\n" % number for number in range(RECORDS_PER_POLL + 5)]
    log = reader(*flood)
    assert [len(log.poll()), len(log.poll()), len(log.poll())] == [RECORDS_PER_POLL, 5, 0]
    log.close()


def test_the_real_one() -> None:
    log = KmsgKernelLog("boot-1")
    records = log.poll()
    log.close()
    if log.fault:
        pytest.skip(f"{log.fault}")
    assert [record.seq for record in records] == sorted({record.seq for record in records})
    assert all("\n" not in record.text for record in records)
