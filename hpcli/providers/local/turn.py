"""Taking turns: of one user's clusters, one comes up at a time.

Two that came up at once would choose the same ports; and two of the same name would end each other's daemons.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hpcli.ports import Progress

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


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
