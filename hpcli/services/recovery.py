"""The recovery loop: look, decide, act, until there is nothing left to do now."""

import asyncio
import logging
from dataclasses import dataclass

from hpcli.domain.ledger import Kind, Ledger
from hpcli.domain.policy import Policy
from hpcli.domain.recovery import decide
from hpcli.errors import HpcliError
from hpcli.ports import Clock
from hpcli.services.apply import Executor, Hands, Scribe
from hpcli.services.observe import Journal, Observer

log = logging.getLogger(__name__)

ROUNDS = 12
EVICTING_INTERVAL = 0.2
REPAIRING_INTERVAL = 1.0
EVICTION_WATCH = 120.0


@dataclass(slots=True)
class Recovery:
    """Ties observation, decision and action together. `wake` is set by every report and every end of a step.

    With a policy that only observes, what is decided goes to a scribe that has no way to Slurm, provider or agents.
    """

    observer: Observer
    executor: Executor
    journal: Journal
    policy: Policy
    clock: Clock
    wake: asyncio.Event
    interval: float
    _gate_closed: bool = True

    async def run(self) -> None:
        """Tick for ever; a tick that fails is logged, and the next one looks afresh."""
        while True:
            self.wake.clear()
            try:
                self.note_mode()
                await self.tick()
                await self._set_gate()
            except HpcliError as error:
                log.warning("no action, cannot see: %s", error)
            await self._rest()

    async def tick(self) -> None:
        """Act until the decision is empty, or the same one comes again. Raises `HpcliError` when blind."""
        previous: tuple[object, ...] = ()
        for _round in range(ROUNDS):
            seen = await self.observer.look(self.executor.in_flight)
            actions = decide(seen, self.policy)
            if not actions or actions == previous:
                return
            for action in actions:
                log.info("%s", action)
                await self._hands.apply(action)
            previous = actions

    def note_mode(self) -> None:
        """Write down when it changes who is to be believed: what was done before, and what was only decided."""
        if self.policy.effective != self.journal.ledger.mode:
            self.journal.write(Kind.MODE, mode=self.policy.effective)

    @property
    def gate_open(self) -> bool:
        """Whether a Prolog must let every job start: while we touch no node, it must not either."""
        ledger = self.journal.ledger
        return bool(ledger.breaker_open or ledger.paused or self.policy.observes)

    def reset_breaker(self, who: str) -> bool:
        """Let repairs begin again; False when the breaker was not open."""
        if not self.journal.ledger.breaker_open:
            return False
        self.journal.write(Kind.BREAKER, open="", by=who)
        self.wake.set()
        return True

    def pause(self, reason: str, who: str) -> None:
        """Take no step at all until resumed; an empty reason resumes."""
        self.journal.write(Kind.PAUSE, reason=reason, by=who)
        self.wake.set()

    def _interval(self) -> float:
        return next_interval(self.journal.ledger, self.clock.now(), self.interval, self.policy.evict_grace)

    @property
    def _hands(self) -> Hands:
        return Scribe(self.journal) if self.policy.observes else self.executor

    async def _set_gate(self) -> None:
        """Tell the agents that are connected when it changes; every later one is greeted with it."""
        closed = not self.gate_open
        if closed != self._gate_closed:
            await self.executor.agents.set_gate(closed)
            self._gate_closed = closed

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self._interval()):
                await self.wake.wait()
        except TimeoutError:
            pass


def next_interval(ledger: Ledger, now: float, idle: float, grace: float) -> float:
    """Seconds until the next look: short while jobs are being moved, longer while machines boot.

    The end of a job's grace is met to the point: Slurm 22.05 looks for the end of a job's processes
    ever more seldom, 2.5 s and then only 5 s after it asked for it.
    """
    moving = [
        eviction
        for repair in ledger.repairs
        for eviction in repair.evictions
        if not eviction.running_again and now - eviction.at < EVICTION_WATCH
    ]
    if moving:
        ends = [left for eviction in moving if (left := eviction.at + grace - now) > 0 and not eviction.killed]
        return min(EVICTING_INTERVAL, idle, *ends)
    under_way = any(not repair.observed for repair in ledger.open.values())
    return min(REPAIRING_INTERVAL, idle) if under_way else idle
