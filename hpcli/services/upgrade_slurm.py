"""Another patch release of Slurm on a cluster that we built: slurmdbd, slurmctld, one slurmd, the others, clients.

The order is that of Slurm's upgrade guide. The database is dumped and slurmctld's state copied before anything changes;
jobs live on while slurmctld and their slurmd are away.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hpcli.domain.blueprint import Blueprint, Role
from hpcli.domain.names import fold
from hpcli.domain.node import Node
from hpcli.domain.rollout import CODE, Rollout, has_file, rollout
from hpcli.domain.slurm_release import Offer, choose, refuse_adopted
from hpcli.errors import HpcliError, TimedOut, Unreachable, Unsafe
from hpcli.machines import Machines
from hpcli.ports import Clock, Progress, SlurmGateway
from hpcli.services.plan import not_there
from hpcli.services.unbroken import unbroken
from hpcli.services.upgrade import MOST_TOLD, Turn, on_each

ANSWER_LIMIT = 90.0
BACK_LIMIT = 60.0
BACK_LIMIT_PER_NODE = 0.2
POLL = 0.5
LOST = frozenset({"NOT_RESPONDING", "UNKNOWN", "DOWN"})


class SlurmPackages(Protocol):
    """Slurm's packages on the machines of a cluster. Everything is safe to repeat."""

    async def offer(self, host: str) -> Offer:
        """What is installed and to be had, asked afresh."""
        ...

    async def fetch(self, host: str, version: str) -> None:
        """Download it, so that no network is needed any more."""
        ...

    async def install(self, host: str, version: str) -> None:
        """Install it; slurmd and the agent there stop before and start after, also when it fails."""
        ...

    async def dump(self) -> str:
        """Copy the accounting database into a file on the controller's machine and say where, "" without accounting."""
        ...

    async def accounting_answers(self) -> None:
        """Wait until slurmdbd answers. Raises `HpcliError`."""
        ...


@dataclass(frozen=True, slots=True)
class SlurmOutlook:
    """What an upgrade of Slurm would do. `served`: slurmctld answers now. `absent`: out of touch, and why."""

    applied: Blueprint
    target: str
    installed: Mapping[str, str]
    order: Rollout
    absent: Mapping[str, HpcliError]
    served: bool

    @property
    def nothing(self) -> bool:
        return not self.order.hosts

    @property
    def accounting(self) -> bool:
        return has_file(self.applied, self.controller, "slurmdbd.conf")

    @property
    def controller(self) -> str:
        return next(place.name for place in self.applied.places if place.role is Role.CONTROLLER)


@dataclass(frozen=True, slots=True)
class SlurmDone:
    """What was done, and where what it could be undone with lies on the controller's machine."""

    turns: tuple[Turn, ...] = ()
    dump: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True)
class SlurmUpgrade:
    """Upgrades of one cluster's Slurm. `wanted` is a version, "" for the newest; `release` the id of this hpcli."""

    machines: Machines
    packages: SlurmPackages
    gateway: SlurmGateway
    clock: Clock
    progress: Progress
    release: str
    wanted: str = ""
    size: int = 0

    async def look(self) -> SlurmOutlook:
        """Ask all machines; nothing is changed but apt's lists. Raises `Unsafe` for what must not be done in place."""
        applied = await self.machines.applied()
        if applied is None:
            raise not_there("that was meant")
        refuse_adopted(applied)
        if await self.machines.pending():
            raise Unsafe(
                "Slurm", "found a change of the cluster that did not end, expected none", "hpcli cluster apply"
            )
        hosts = [host for host, own in applied.files.items() if own]
        absent = await self._require_scripts(hosts)
        self.progress.step(f"asking {len(hosts) - len(absent)} machines for their packages")
        offers, faults = await on_each([host for host in hosts if host not in absent], self.packages.offer)
        for host, fault in faults.items():
            if not isinstance(fault, Unreachable):
                raise fault
            absent[host] = fault
        return await self._outlook(applied, offers, absent)

    async def upgrade(self) -> tuple[SlurmOutlook, SlurmDone]:
        """Raises `HpcliError` that says what is where, and how to go back or on."""
        async with self.machines.lock():
            outlook = await self.look()
            if outlook.nothing:
                return outlook, SlurmDone()
            return outlook, await SlurmRoll(self, outlook).carry_out()

    async def nodes(self) -> Mapping[str, Node]:
        return {node.name: node for node in await self.gateway.nodes()}

    async def served(self) -> bool:
        try:
            return bool(await self.nodes())
        except HpcliError:
            return False

    async def _outlook(
        self, applied: Blueprint, offers: Mapping[str, Offer], absent: Mapping[str, HpcliError]
    ) -> SlurmOutlook:
        controller = next(place.name for place in applied.places if place.role is Role.CONTROLLER)
        if controller in absent:
            raise absent[controller]
        target = choose(offers, self.wanted)
        served = await self.served()
        done = {host for host, offer in offers.items() if offer.is_at(target) and (served or host != controller)}
        order = rollout(applied.places, done, absent, self.size)
        installed = {host: offer.installed for host, offer in offers.items()}
        return SlurmOutlook(applied, target, installed, order, absent, served)

    async def _require_scripts(self, hosts: Sequence[str]) -> dict[str, HpcliError]:
        """This hpcli's own scripts do the work there. Gives who is out of reach, and why."""

        async def code(host: str) -> str:
            found = (await self.machines.read({host: [CODE]})).get(host, {})
            return found[CODE].text.strip() if CODE in found else ""

        found, faults = await on_each(hosts, code)
        other = [host for host, release in found.items() if release != self.release]
        if other:
            what = f"found another hpcli on {fold(other)}, expected the one that runs here ({self.release})"
            raise Unsafe("Slurm", what, "put it there first: hpcli cluster upgrade")
        for fault in faults.values():
            if not isinstance(fault, Unreachable):
                raise fault
        return faults


@dataclass(slots=True)
class SlurmRoll:
    """One upgrade of Slurm under way."""

    upgrade: SlurmUpgrade
    outlook: SlurmOutlook
    dump: str = ""
    state: str = ""
    taken: list[Turn] = field(default_factory=list)

    async def carry_out(self) -> SlurmDone:
        order = self.outlook.order
        if order.controller:
            await self._timed((order.controller,), lambda _: self._central(order.controller))
        for hosts in order.turns():
            if hosts != (order.controller,):
                await self._timed(hosts, self._turn)
        if order.late:
            await self._timed(order.late, self._turn)
        return SlurmDone(tuple(self.taken), self.dump, self.state)

    async def _timed(self, hosts: tuple[str, ...], work: Callable[[Sequence[str]], Awaitable[None]]) -> None:
        began = self.upgrade.clock.now()
        self.upgrade.progress.step(f"Slurm {self.outlook.target} on {fold(hosts)}")
        await work(hosts)
        self.taken.append(Turn(hosts, round(self.upgrade.clock.now() - began, 3)))

    async def _central(self, host: str) -> None:
        """Everything that can fail without harm comes first; then nothing may stop us until slurmctld is back."""
        packages = self.upgrade.packages
        await packages.fetch(host, self.outlook.target)
        self.upgrade.progress.step("dumping the accounting database")
        self.dump = await packages.dump()
        try:
            await unbroken(self._swap(host))
        except HpcliError as failure:
            raise await self._explained(host, failure) from failure

    async def _swap(self, host: str) -> None:
        """slurmdbd before slurmctld: it understands the older, not the other way round."""
        machines = self.upgrade.machines
        await machines.service("stop", "slurmctld", [host])
        self.state = await machines.keep_state()
        if self.outlook.accounting:
            await machines.service("stop", "slurmdbd", [host])
        await self.upgrade.packages.install(host, self.outlook.target)
        await self._serve(host)

    async def _serve(self, host: str) -> None:
        if self.outlook.accounting:
            await self.upgrade.machines.service("start", "slurmdbd", [host])
            await self.upgrade.packages.accounting_answers()
        await self.upgrade.machines.service("start", "slurmctld", [host])
        deadline = self.upgrade.clock.now() + ANSWER_LIMIT
        while not await self.upgrade.served():
            if self.upgrade.clock.now() > deadline:
                raise TimedOut("slurmctld", f"no answer within {ANSWER_LIMIT:g} s of its start")
            await self.upgrade.clock.sleep(POLL)

    async def _explained(self, host: str, failure: HpcliError) -> HpcliError:
        """Try once more to be in service, and say where everything is."""
        words = await self._words("slurmctld", host)
        try:
            await self._serve(host)
            now = "slurmctld is in service again"
        except HpcliError as again:
            now = f"slurmctld is out of service: {again.message}"
        said = f"{failure.message}{f': {words}' if words else ''}; {now}"
        return HpcliError(f"Slurm {self.outlook.target} on {host}", said, self._way_back(host))

    def _way_back(self, host: str) -> str:
        old = self.outlook.installed[host]
        kept = [("database dump", self.dump), ("slurmctld's state", self.state)]
        copies = ", ".join(f"{what} {path}" for what, path in kept if path) or "nothing was changed"
        load = f", gzip -cd {self.dump} | mariadb" if self.dump else ""
        back = f"install {old} again{load}, lifecycle/state restore {self.state or 'COPY'}"
        return f"on {host}: {copies}; to go back: stop both daemons, {back}; to go on: mend it, run the same again"

    async def _turn(self, hosts: Sequence[str]) -> None:
        before = await self.upgrade.nodes()

        async def install(host: str) -> None:
            await self.upgrade.packages.fetch(host, self.outlook.target)
            await self.upgrade.packages.install(host, self.outlook.target)

        _, faults = await on_each(hosts, install)
        alive = [host for host in hosts if host not in faults and host in before and not before[host].states & LOST]
        faults |= {host: TimedOut(f"node {host}", "not registered again") for host in await self._lost(alive, before)}
        if faults:
            self.taken.append(Turn(tuple(host for host in hosts if host not in faults), 0.0))
            raise await self._stopped(faults)

    async def _lost(self, hosts: Sequence[str], before: Mapping[str, Node]) -> list[str]:
        """Those whose new slurmd slurmctld has not heard of in time."""
        deadline = self.upgrade.clock.now() + BACK_LIMIT + BACK_LIMIT_PER_NODE * len(hosts)
        while True:
            now = await self.upgrade.nodes()
            lost = [host for host in hosts if not _is_back(now.get(host), before[host])]
            if not lost or self.upgrade.clock.now() > deadline:
                return lost
            await self.upgrade.clock.sleep(POLL)

    async def _stopped(self, faults: Mapping[str, HpcliError]) -> HpcliError:
        told = []
        for host in list(faults)[:MOST_TOLD]:
            words = "" if isinstance(faults[host], Unreachable) else await self._words("slurmd", host)
            told.append(f"{host}: {faults[host].message}{f': {words}' if words else ''}")
        told += [f"and {len(faults) - MOST_TOLD} more"] * (len(faults) > MOST_TOLD)
        lack = set(self.outlook.order.hosts) - {host for turn in self.taken for host in turn.hosts}
        hint = (
            f"Slurm {self.outlook.target} is on all but {fold(lack)}, which their old one serves as well; mend that, "
        )
        return HpcliError(
            f"Slurm {self.outlook.target} on {fold(faults)}", "; ".join(told), f"{hint}run the same again"
        )

    async def _words(self, service: str, host: str) -> str:
        try:
            return await self.upgrade.machines.last_words(service, host)
        except HpcliError:
            return ""


def _is_back(now: Node | None, before: Node) -> bool:
    return now is not None and now.slurmd_start_time != before.slurmd_start_time and not now.states & LOST
