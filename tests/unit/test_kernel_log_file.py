"""Following a node's kernel-log file: appends, replacement, boots, and lines that nobody should write."""

import os
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpcli.probe.kernel_log import MAX_LINE, READ_SIZE, READS_PER_POLL, FileKernelLog


@dataclass
class Machine:
    """A node's folder, as far as its log goes."""

    path: Path
    boot: str = "boot-1"

    def append(self, raw: bytes) -> None:
        with self.path.open("ab") as log:
            log.write(raw)

    def restart(self, raw: bytes = b"") -> None:
        """As a local node boots: the old log aside, a new one, then the boot id."""
        self.path.rename(self.path.with_suffix(".1"))
        self.path.write_bytes(raw)
        self.boot += "+"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "kernel.log").touch()
    return Machine(tmp_path / "kernel.log")


@pytest.fixture
def log(machine: Machine) -> FileKernelLog:
    return FileKernelLog(machine.path, lambda: machine.boot)


def texts(log: FileKernelLog) -> list[str]:
    return [record.text for record in log.poll()]


def test_follows_appends(machine: Machine, log: FileKernelLog) -> None:
    machine.append(b"one\ntwo\n")
    assert [(r.boot_id, r.seq, r.text) for r in log.poll()] == [("boot-1", 1, "one"), ("boot-1", 2, "two")]
    assert log.poll() == []
    machine.append(b"three\n")
    assert [(r.seq, r.text) for r in log.poll()] == [(3, "three")]


def test_a_partial_line_waits_for_its_end(machine: Machine, log: FileKernelLog) -> None:
    machine.append(b"NVRM: Xi")
    assert texts(log) == []
    machine.append(b"d 79")
    assert texts(log) == []
    machine.append(b" x\nnext")
    assert texts(log) == ["NVRM: Xid 79 x"]


def test_a_fresh_reader_finds_the_present_boot_again(machine: Machine, log: FileKernelLog) -> None:
    machine.append(b"one\n")
    assert texts(log) == ["one"]
    assert texts(FileKernelLog(machine.path, lambda: machine.boot)) == ["one"]


def test_truncation_and_replacement(machine: Machine, log: FileKernelLog, tmp_path: Path) -> None:
    machine.append(b"a long first line\n")
    assert texts(log) == ["a long first line"]
    machine.path.write_bytes(b"short\n")
    assert texts(log) == ["short"]
    other = tmp_path / "other"
    other.write_bytes(b"of the same or greater length\n")
    other.replace(machine.path)
    assert texts(log) == ["of the same or greater length"]


def test_a_new_boot_starts_at_the_top(machine: Machine, log: FileKernelLog) -> None:
    machine.append(b"old\n")
    assert texts(log) == ["old"]
    machine.append(b"never read, its boot is over\n")
    machine.restart(b"new and a good deal longer than what the old file held by then\n")
    records = log.poll()
    assert [(r.boot_id, r.seq) for r in records] == [("boot-1+", 1)]
    assert records[0].text.startswith("new and")


def test_a_new_boot_in_a_file_of_the_same_inode(machine: Machine, log: FileKernelLog) -> None:
    machine.append(b"old\n")
    assert texts(log) == ["old"]
    machine.path.write_bytes(b"new\nmore\n")
    machine.boot = "boot-2"
    assert texts(log) == ["new", "more"]


def test_a_node_that_is_off_keeps_its_lines(machine: Machine, log: FileKernelLog) -> None:
    machine.boot = ""
    machine.append(b"early\n")
    assert log.poll() == []
    machine.boot = "boot-2"
    assert texts(log) == ["early"]


def test_a_boot_between_look_and_read_takes_nothing(machine: Machine) -> None:
    machine.append(b"line\n")
    boots = iter(["boot-1", "boot-2", "boot-2", "boot-2"])
    log = FileKernelLog(machine.path, lambda: next(boots))
    assert log.poll() == []
    assert [(r.boot_id, r.text) for r in log.poll()] == [("boot-2", "line")]


@pytest.mark.parametrize("gone", ["missing", "folder"])
def test_no_log_is_no_lines(tmp_path: Path, gone: str) -> None:
    path = tmp_path / "kernel.log"
    if gone == "folder":
        path = path / "deeper"
    assert FileKernelLog(path, lambda: "boot").poll() == []


def test_a_pipe_in_its_place_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / "kernel.log"
    os.mkfifo(path)
    assert FileKernelLog(path, lambda: "boot").poll() == []


def test_bytes_that_are_not_utf8_are_replaced(machine: Machine, log: FileKernelLog) -> None:
    machine.append(b"NVRM: \xff\xfe\x80 Xid\r\n\xc3\n\n")
    assert texts(log) == ["NVRM: \ufffd\ufffd\ufffd Xid", "\ufffd", ""]


def test_a_line_of_a_megabyte_is_cut_and_costs_no_memory(machine: Machine, log: FileKernelLog) -> None:
    machine.append(b"A" * (4 << 20) + b"\nNVRM: Xid\n")
    found: list[str] = []
    tracemalloc.start()
    while len(found) < 2:
        found += texts(log)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(text) for text in found] == [MAX_LINE, 9]
    assert peak < 8 * READ_SIZE


def test_a_flood_is_read_in_portions(machine: Machine, log: FileKernelLog) -> None:
    line = b"x" * 1023 + b"\n"
    count = 3 * READS_PER_POLL * READ_SIZE // len(line)
    machine.append(line * count)
    portions = [len(log.poll()) for _ in range(4)]
    assert portions == [count // 3, count // 3, count // 3, 0]
