"""Time that stands still until somebody moves it."""

import asyncio
import heapq
from itertools import count

_ROUNDS = 50
"""Turns of the event loop that a woken task gets before time goes on; a tick of the controller takes fewer."""


class SimClock:
    """A clock whose sleepers wake only when `advance` passes their moment."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        """Seconds since the epoch, as far as the simulation has come."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been advanced by so much."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), wake))
        await wake

    async def advance(self, seconds: float) -> None:
        """Let time pass, waking each sleeper at its own moment and letting it run before going on."""
        target = self._now + seconds
        await _let_others_run()
        while self._sleepers and self._sleepers[0][0] <= target:
            self._now, _, wake = heapq.heappop(self._sleepers)
            if not wake.done():
                wake.set_result(None)
            await _let_others_run()
        self._now = target

    def jump(self, seconds: float) -> None:
        """Let time pass where nobody sleeps."""
        self._now += seconds


async def _let_others_run() -> None:
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
