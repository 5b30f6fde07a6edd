"""Holding a program open from its first line on until we leave, however it was started."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from hpcli.errors import HpcliError, TimedOut
from hpcli.ports import Completed
from hpcli.transport.output import Output

FIRST_LINE_LIMIT = 60.0
LEAVE_LIMIT = 2.0
"""Seconds in which a program whose input was closed must end by itself."""

Start = Callable[[Output, asyncio.Event], Awaitable[Completed]]
"""Runs a program to its end, its standard input closed when the event is set; cancelling kills it."""


@asynccontextmanager
async def held(start: Start, subject: str) -> AsyncIterator[str]:
    """Give the program's first line; leaving closes its standard input and, if that does not end it, kills it."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()
    leave = asyncio.Event()

    def told(text: str) -> None:
        if not line.done():
            line.set_result(text)

    running = asyncio.ensure_future(start(Output(told), leave))
    try:
        yield await _first(line, running, subject)
    finally:
        leave.set()
        await _end(running)


async def _first(line: asyncio.Future[str], running: asyncio.Future[Completed], subject: str) -> str:
    either: set[asyncio.Future[str] | asyncio.Future[Completed]] = {line, running}
    await asyncio.wait(either, timeout=FIRST_LINE_LIMIT, return_when=asyncio.FIRST_COMPLETED)
    if line.done():
        return line.result()
    if not running.done():
        raise TimedOut(subject, f"found no line within {FIRST_LINE_LIMIT:g} s, expected it to say that it is ready")
    ended = running.result()
    words = ended.err.strip().splitlines()
    why = "; ".join(words[-3:]) if words else f"it ended with {ended.code} before it said a line"
    raise HpcliError(subject, why, f"run by hand: {' '.join(ended.argv)}")


async def _end(running: asyncio.Future[Completed]) -> None:
    await asyncio.wait({running}, timeout=LEAVE_LIMIT)
    running.cancel()
    # Whatever became of it, the one who leaves has no use for it any more.
    await asyncio.gather(running, return_exceptions=True)
