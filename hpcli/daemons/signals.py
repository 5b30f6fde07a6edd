"""How a daemon waits for its end."""

import asyncio
import signal
from typing import Any


async def until_stopped(*tasks: "asyncio.Task[Any]") -> None:
    """Return on SIGTERM or SIGINT; raise what a task raised if one ends by itself."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    waiter = asyncio.create_task(stopped.wait())
    done, _ = await asyncio.wait({waiter, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    for task in done - {waiter}:
        task.result()
