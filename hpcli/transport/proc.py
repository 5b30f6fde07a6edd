"""Who is running on this machine: processes as /proc shows them, and how to end them."""

import json
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A process; `start` (clock ticks since boot) tells it from a later one with the same pid."""

    pid: int
    parent: int
    start: int
    state: str


def look_up(pid: int) -> Process | None:
    """The living process with this pid; None when it is gone or a zombie."""
    try:
        raw = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may itself contain spaces and parentheses.
    fields = raw[raw.rindex(")") + 2 :].split()
    if fields[0] in "ZX":
        return None
    return Process(pid, int(fields[1]), int(fields[19]), fields[0])


def _living(pid: int) -> bool:
    """Whether a daemon, or what we are ending, still lives; if it was our child, nobody else waits for it.

    Looking at a process must not do this: asyncio would miss the exit codes of the programs that it runs.
    """
    try:
        os.waitpid(max(pid, 1), os.WNOHANG)
    except (ChildProcessError, OverflowError):
        pass
    return look_up(pid) is not None


def all_processes() -> Iterator[Process]:
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (process := look_up(int(entry.name))):
            yield process


def environment(pid: int) -> dict[str, str]:
    """A process's environment at its start; empty when it is gone or not ours to read."""
    try:
        raw = (PROC / str(pid) / "environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(pair.split("=", 1) for pair in raw.split("\0") if "=" in pair)


def name(pid: int) -> str:
    """The kernel's short name of a process; "" when it is gone."""
    try:
        return (PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def command(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def open_files(pid: int) -> set[str]:
    try:
        return {str(entry.readlink()) for entry in (PROC / str(pid) / "fd").iterdir()}
    except OSError:
        return set()


def descendants(roots: Iterable[int]) -> set[int]:
    """The roots and everything below them."""
    children: dict[int, list[int]] = {}
    for process in all_processes():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    queue = list(roots)
    while queue:
        pid = queue.pop()
        if pid not in found:
            found.add(pid)
            queue += children.get(pid, [])
    return found


def send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def end(pids: Iterable[int], grace: float) -> None:
    """SIGTERM, wait up to `grace` seconds, SIGKILL, and wait until they are gone."""
    left = {pid for pid in pids if _living(pid)}
    send(left, signal.SIGTERM)
    # A frozen process acts on SIGTERM only once it runs again.
    send(left, signal.SIGCONT)
    left = wait_gone(left, grace)
    send(left, signal.SIGKILL)
    wait_gone(left, 5.0)


def wait_gone(pids: set[int], seconds: float) -> set[int]:
    """Wait up to `seconds` for their end and return those that are left."""
    deadline = time.monotonic() + seconds
    while pids and time.monotonic() < deadline:
        time.sleep(0.01)
        pids = {pid for pid in pids if _living(pid)}
    return pids


def remember(path: Path, pid: int) -> None:
    """Write down which process serves a purpose, so that it is never taken for another."""
    process = look_up(pid)
    path.write_text(json.dumps({"pid": pid, "start": process.start if process else 0}))


def remembered(path: Path) -> int | None:
    """The pid written by `remember`, if that very process still lives."""
    try:
        raw = json.loads(path.read_text())
        pid, start = int(raw["pid"]), int(raw["start"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    process = look_up(pid) if _living(pid) else None
    return pid if process and process.start == start else None
