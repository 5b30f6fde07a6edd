"""Rolling another hpcli over a cluster that stands: the controller, one canary, batches; a canary that fails goes back.

Jobs do not notice: Slurm's daemons are left alone. While a daemon of hpcli restarts, nobody acts on its silence: a
step needs a report, and more than half of the agents silent is no ground for any (`domain.recovery.decide`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from hpcli.domain.blueprint import Blueprint, Role
from hpcli.domain.change import Change
from hpcli.domain.difference import difference, merged
from hpcli.domain.drift import drift
from hpcli.domain.names import fold
from hpcli.domain.rollout import (
    CODE,
    Heard,
    Release,
    Rollout,
    has_all,
    has_file,
    heard_of,
    refuse_disturbing,
    refuse_far,
    refuse_pending,
    rollout,
)
from hpcli.errors import HpcliError, TimedOut, Unreachable, Unsafe
from hpcli.machines import FoundFile, Machines
from hpcli.ports import Clock, Controller, Progress
from hpcli.services.plan import not_there, refuse_drift

CONTROLLER, AGENT, KEEPER = "hpcli-controller", "hpcli-agent", "hpcli-keeper"
LIMIT = 60.0
LIMIT_PER_NODE = 0.2
POLL = 0.5
AT_ONCE = 32
MOST_TOLD = 5

Result = TypeVar("Result")


class Previous(Protocol):
    """The hpcli that a machine had before, from its own copy."""

    async def put_back(self, old: Blueprint, host: str) -> None:
        """Its code and the old files, however far the new ones came; no daemon restarts. Safe to repeat."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """Machines that got it together, and how many seconds that took."""

    hosts: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """What an upgrade would do. `lone`: no earlier try has left anything. `absent`: out of touch, and why."""

    old: Blueprint
    goal: Blueprint
    order: Rollout
    changes: tuple[Change, ...]
    heard: Heard
    absent: Mapping[str, HpcliError]
    lone: bool

    @property
    def nothing(self) -> bool:
        return self.lone and self.old == self.goal and not self.order.hosts


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Upgrades of one cluster to the hpcli that runs here. `size`: nodes in a batch, 0 for a tenth of them."""

    machines: Machines
    previous: Previous
    controller: Controller
    wanted: Callable[[Blueprint], Awaitable[Blueprint]]
    clock: Clock
    progress: Progress
    release: Release
    size: int = 0

    async def look(self) -> Outlook:
        """Touches nothing. Raises `Unsafe` for what an upgrade must not do, and `refuse_drift`'s for hand edits."""
        old = await self._applied()
        pending = await self.machines.pending()
        refuse_pending(old, pending)
        goal = await self.wanted(old)
        states = (old, *pending)
        changes = merged(difference(state, goal) for state in states)
        refuse_disturbing(changes)
        heard = await self.heard()
        refuse_far(heard)
        found, absent = await self._read((*states, goal))
        if control := absent.get(_controller(goal)):
            raise control
        refuse_drift(drift(states, found))
        done = [host for host, lies in found.items() if has_all(goal, host, lies, self.release, heard)]
        order = rollout(goal.places, done, self._silent(goal, heard, absent), self.size)
        return Outlook(old, goal, order, changes, heard, absent, not pending)

    async def upgrade(self) -> tuple[Turn, ...]:
        """What was done, nothing where all is done. Raises `HpcliError` as `look` and `Roll.carry_out` do."""
        async with self.machines.lock():
            outlook = await self.look()
            if outlook.nothing:
                return ()
            return await Roll(self, outlook).carry_out()

    async def _applied(self) -> Blueprint:
        try:
            applied = await self.machines.applied()
        except HpcliError as error:
            if "another hpcli wrote it" not in error.message:
                raise
            hint = "use that hpcli, or one newer: what it wrote cannot be read by this one"
            raise Unsafe(error.subject, error.message, hint) from None
        if applied is None:
            raise not_there("that was meant")
        return applied

    async def heard(self) -> Heard:
        try:
            return heard_of(await self.controller.ask("status"))
        except HpcliError:
            return Heard()

    async def _read(
        self, states: Sequence[Blueprint]
    ) -> tuple[Mapping[str, Mapping[str, FoundFile]], dict[str, HpcliError]]:
        """Every file of ours, by host; and the machines that are not to be reached, with the reason."""
        paths: dict[str, dict[str, None]] = {}
        for state in states:
            for host, own in state.files.items():
                if own:
                    paths.setdefault(host, {CODE: None}).update(dict.fromkeys(file.path for file in own))

        async def read(host: str) -> Mapping[str, FoundFile]:
            return (await self.machines.read({host: tuple(paths[host])})).get(host, {})

        found, faults = await on_each(paths, read)
        for fault in faults.values():
            if not isinstance(fault, Unreachable):
                raise fault
        return found, faults

    def _silent(self, goal: Blueprint, heard: Heard, absent: Mapping[str, HpcliError]) -> frozenset[str]:
        """Machines that nobody can wait for: out of reach, or without an agent's word while others are heard."""
        agents = [host for host in goal.files if has_file(goal, host, "agent.json")]
        mute = [host for host in agents if host not in heard.at] if heard.at else []
        return frozenset((*absent, *mute))


@dataclass(slots=True)
class Roll:
    """One rollout under way."""

    upgrade: Upgrade
    outlook: Outlook
    taken: list[Turn] = field(default_factory=list)

    async def carry_out(self) -> tuple[Turn, ...]:
        """Raises `HpcliError` that says what failed and which machines have what; the next one goes on from there."""
        machines, goal, order = self.upgrade.machines, self.outlook.goal, self.outlook.order
        await machines.keep_pending(goal)
        for hosts in order.turns():
            await self._take(hosts)
        if has_file(goal, _controller(goal), "keeper.json"):
            await machines.service("restart", KEEPER, [_controller(goal)])
        if order.late:
            await self._take(order.late)
        await machines.keep_applied(goal)
        return tuple(self.taken)

    async def _take(self, hosts: tuple[str, ...]) -> None:
        began = self.upgrade.clock.now()
        self.upgrade.progress.step(f"putting {self.upgrade.release} on {fold(hosts)}")
        await (self._first(hosts[0]) if hosts[0] == self.outlook.order.controller else self._turn(hosts))
        self.taken.append(Turn(hosts, round(self.upgrade.clock.now() - began, 3)))

    async def _first(self, host: str) -> None:
        try:
            await self.upgrade.machines.rerun(self.outlook.goal, [host])
            await self.upgrade.machines.service("restart", CONTROLLER, [host])
            await self._until(CONTROLLER, lambda heard: heard.version == self.upgrade.release.version)
        except HpcliError as failure:
            raise await self._back(CONTROLLER, host, failure) from failure

    async def _turn(self, hosts: Sequence[str]) -> None:
        """Each machine of it, and then each agent's word that it is the new one."""
        before = await self.upgrade.heard()
        _, faults = await on_each(hosts, self._put)
        agents = [host for host in hosts if host not in faults and has_file(self.outlook.goal, host, "agent.json")]
        try:
            await self._until("agents", lambda heard: all(self._new(heard, host, before) for host in agents), agents)
        except TimedOut:
            heard = await self.upgrade.heard()
            silent = [host for host in agents if not self._new(heard, host, before)]
            faults |= {host: TimedOut(f"node {host}", "its agent does not report as the new one") for host in silent}
        if self.outlook.order.canary in faults:
            canary = self.outlook.order.canary
            raise await self._back(AGENT, canary, faults[canary])
        if faults:
            raise await self._stopped(hosts, faults)

    async def _put(self, host: str) -> None:
        await self.upgrade.machines.rerun(self.outlook.goal, [host])
        if has_file(self.outlook.goal, host, "agent.json"):
            await self.upgrade.machines.service("restart", AGENT, [host])

    def _new(self, heard: Heard, host: str, before: Heard) -> bool:
        return heard.has(host, self.upgrade.release) and heard.anew(host, before)

    async def _until(self, who: str, well: Callable[[Heard], bool], hosts: Sequence[str] = ()) -> None:
        """Raises `TimedOut`."""
        limit = LIMIT + LIMIT_PER_NODE * len(hosts)
        deadline = self.upgrade.clock.now() + limit
        while not well(heard := await self.upgrade.heard()):
            if self.upgrade.clock.now() > deadline:
                found = f"answers as hpcli {heard.version}" if heard.version else "does not answer"
                raise TimedOut(who, f"not as it should be within {limit:g} s: the controller {found}")
            await self.upgrade.clock.sleep(POLL)

    async def _back(self, service: str, host: str, failure: HpcliError) -> HpcliError:
        """Put the old hpcli back on the one machine where the new one fails."""
        machines = self.upgrade.machines
        what = f"{service} of {host}"
        said = f"it is not well with {self.upgrade.release}: {await self._words(service, host, failure)}"
        self.upgrade.progress.step(f"{what} is not well: putting the hpcli of before back")
        before = await self.upgrade.heard()
        try:
            await self.upgrade.previous.put_back(self.outlook.old, host)
            await machines.service("restart", service, [host])
            if service == CONTROLLER:
                await self._until(CONTROLLER, lambda heard: bool(heard.version))
                if self.outlook.lone:
                    await machines.keep_applied(self.outlook.old)
            else:
                await self._until(AGENT, lambda heard: heard.anew(host, before))
        except HpcliError as again:
            said += f"; nor with the hpcli of before: {again.message}"
            return HpcliError(what, said, f"mend {host}, then run the same again; {self._who_has()}")
        return HpcliError(what, said, f"{host} has the hpcli of before again; {self._who_has()}")

    async def _stopped(self, hosts: Sequence[str], faults: Mapping[str, HpcliError]) -> HpcliError:
        self.taken.append(Turn(tuple(host for host in hosts if host not in faults), 0.0))
        told = [f"{host}: {await self._words(AGENT, host, faults[host])}" for host in list(faults)[:MOST_TOLD]]
        told += [f"and {len(faults) - MOST_TOLD} more"] * (len(faults) > MOST_TOLD)
        hint = f"{self._who_has()}; mend that, then run the same again: it goes on from here"
        return HpcliError(f"upgrade of {fold(faults)}", "; ".join(told), hint)

    def _who_has(self) -> str:
        names = [place.name for place in self.outlook.goal.places if place.role is not Role.SPARE]
        lack = set(self.outlook.order.hosts) - {host for turn in self.taken for host in turn.hosts}
        have = [name for name in names if name not in lack]
        told = f"{self.upgrade.release} is on {fold(have) or 'no machine'}"
        return f"{told}, the one before on {fold(lack)}" if lack else told

    async def _words(self, service: str, host: str, failure: HpcliError) -> str:
        """What happened, and the daemon's own last words."""
        if isinstance(failure, Unreachable):
            return failure.message
        try:
            words = await self.upgrade.machines.last_words(service, host)
        except HpcliError:
            return failure.message
        return f"{failure.message}: {words}" if words and words not in failure.message else failure.message


async def on_each(
    hosts: Iterable[str], work: Callable[[str], Awaitable[Result]]
) -> tuple[dict[str, Result], dict[str, HpcliError]]:
    """The same on many machines at once: results, and faults, by host. Whatever is no `HpcliError` is raised."""
    room = asyncio.Semaphore(AT_ONCE)
    results: dict[str, Result] = {}
    faults: dict[str, HpcliError] = {}

    async def one(host: str) -> None:
        async with room:
            try:
                results[host] = await work(host)
            except HpcliError as fault:
                faults[host] = fault

    await asyncio.gather(*(one(host) for host in hosts))
    return results, faults


def _controller(blueprint: Blueprint) -> str:
    return next(place.name for place in blueprint.places if place.role is Role.CONTROLLER)
