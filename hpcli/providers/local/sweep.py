"""Ending everything that belongs to a local cluster, whatever state it is in."""

import contextlib
import os
import shutil
from collections.abc import Iterator

from hpcli.providers.local.daemons import HOME_MARK
from hpcli.providers.local.layout import Layout
from hpcli.transport import proc


def sweep(layout: Layout, grace: float = 0.3) -> int:
    """End every process of the cluster, remembered or not, and say how many there were.

    Daemons first in order of dependence would be nicer to their logs; all at once is safe, for
    whoever asks for this keeps nothing of their state, or has lost part of it already.
    """
    found = _everything(layout)
    proc.end(found, grace)
    # A step that was just starting may have slipped through the first look.
    late = _everything(layout)
    proc.end(late, 0.0)
    for file in layout.pids.glob("*.json"):
        file.unlink(missing_ok=True)
    return len(found | late)


def remove(layout: Layout) -> None:
    """End everything and remove every file. Safe to repeat."""
    sweep(layout)
    # Whoever finds the rest of it, should we be killed now, knows that it is none to keep.
    with contextlib.suppress(OSError):
        layout.record.unlink()
    shutil.rmtree(layout.runtime, ignore_errors=True)
    shutil.rmtree(layout.home, ignore_errors=True)
    for folder in (layout.runtime.parent, layout.home.parent, layout.home.parent.parent):
        with contextlib.suppress(OSError):
            # Other clusters may live in them; only empty folders go.
            folder.rmdir()


def _everything(layout: Layout) -> set[int]:
    """With their children: a job may have emptied the environment of those."""
    return proc.descendants(_members(layout)) - {os.getpid()}


def _members(layout: Layout) -> Iterator[int]:
    for process in proc.all_processes():
        if process.pid != os.getpid() and _belongs(process.pid, layout):
            yield process.pid


def _belongs(pid: int, layout: Layout) -> bool:
    """One of our daemons, a slurmstepd, or a job's process; a shell that has SLURM_CONF set is neither."""
    environment = proc.environment(pid)
    if environment.get(HOME_MARK) == str(layout.home):
        return True
    if environment.get("SLURM_CONF") != str(layout.slurm_conf):
        return False
    return "SLURMD_NODENAME" in environment or proc.command(pid).startswith("slurmstepd")
