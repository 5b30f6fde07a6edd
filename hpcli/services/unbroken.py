"""Work that must not stop half way: Ctrl-C waits for its end."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def unbroken(work: Coroutine[Any, Any, None]) -> None:
    """Finish what was begun, then be cancelled. Raises what `work` raises."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if failure := task.exception():
            raise failure from None
        raise
