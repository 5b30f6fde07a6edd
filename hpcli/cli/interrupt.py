"""Ending early without leaving anything behind."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Result = TypeVar("Result")


def end_like_ctrl_c() -> None:
    """Let SIGTERM and SIGHUP (a closed terminal) end the command just as Ctrl-C does."""
    for number in _heard():
        signal.signal(number, signal.default_int_handler)


def run_or_undo(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end, or to the first signal: that cancels the work, and whatever follows leaves its cleaning up alone.

    Raises `KeyboardInterrupt` after a signal.
    """
    came: list[int] = []
    try:
        return asyncio.run(_guarded(work, came))
    except BaseException:
        if came:
            raise KeyboardInterrupt from None
        raise


async def _guarded(work: Coroutine[Any, Any, Result], came: list[int]) -> Result:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)

    def stop(number: int) -> None:
        if not came:
            task.cancel()
        came.append(number)

    for number in _heard():
        loop.add_signal_handler(number, stop, number)
    return await task


def _heard() -> list[signal.Signals]:
    """What nohup(1), or a shell's `&`, lets us ignore stays ignored."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
