"""Taking turns: of one user's clusters, one comes up at a time.

Two that came up at once would choose the same ports; and two of the same name would end each other's daemons.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from hpcli.errors import Unsafe
from hpcli.ports import Progress
from hpcli.providers.local.layout import Layout

POLL = 0.05


@asynccontextmanager
async def our_turn(folder: Path, progress: Progress) -> AsyncIterator[bool]:
    """Lock a folder; True when somebody else had to be waited for. The kernel unlocks it when we are killed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    waited = False
    try:
        while not _locked(descriptor):
            if not waited:
                progress.step("waiting for another cluster that is coming up")
            waited = True
            await asyncio.sleep(POLL)
        yield waited
    finally:
        os.close(descriptor)


@contextmanager
def cluster_lock(layout: Layout) -> Iterator[None]:
    """Hold a cluster against other applies; the kernel frees it when we die. Raises `Unsafe` naming the holder."""
    path = layout.home / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _locked(descriptor):
            holder = path.read_text(errors="replace").strip() or "somebody"
            found = f"found an apply under way ({holder}), expected none"
            raise Unsafe(f"cluster {layout.name}", found, "wait for it to end")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()} since {time.strftime('%F %T')}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
