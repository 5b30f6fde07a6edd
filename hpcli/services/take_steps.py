"""Taking the steps of an apply, one after the other. What each does is decided elsewhere; each is safe to repeat."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hpcli.domain.blueprint import Blueprint, ConfigFile
from hpcli.domain.drift import Everything
from hpcli.domain.names import fold
from hpcli.domain.steps import Act, Step
from hpcli.errors import HpcliError, TimedOut, Unreachable
from hpcli.machines import Machines
from hpcli.ports import Clock, Progress, SlurmGateway
from hpcli.services.emptying import Emptying
from hpcli.services.slurmctld import Slurmctld

SETTLE_LIMIT = 30.0
SETTLE_LIMIT_PER_NODE = 0.2
SETTLE_POLL = 0.2
ABSENT = frozenset({"NOT_RESPONDING", "UNKNOWN"})


@dataclass(slots=True)
class Steps:
    """The steps of one apply. `states`: every state that the cluster may be in, the last good one first.

    `absent` nodes were out of touch with slurmctld before; nobody waits for them.
    """

    machines: Machines
    gateway: SlurmGateway
    clock: Clock
    progress: Progress
    states: Sequence[Blueprint]
    goal: Blueprint
    found: Everything
    emptying: Emptying
    slurmctld: Slurmctld
    wait: float
    absent: frozenset[str] = frozenset()
    served: bool = False
    proven: bool = False
    silent: tuple[str, ...] = ()
    begun: set[Act] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)

    @property
    def undone(self) -> bool:
        """It was begun, and nothing is left of it: the cluster is as it was."""
        if Act.BEGIN not in self.begun:
            return False
        return self.begun <= _HARMLESS or (self.slurmctld.restored and self.begun <= _HARMLESS | _TAKEN_BACK)

    async def take(self, step: Step) -> None:
        """Raises `HpcliError`; what was done stays done."""
        self.progress.step(str(step))
        self.begun.add(step.act)
        if step.act in _RESTARTS:
            await self.machines.service("restart", _RESTARTS[step.act], step.hosts)
            return
        acts: Mapping[Act, Callable[[Sequence[str]], Awaitable[object]]] = {
            Act.TRY: self._try,
            Act.BEGIN: lambda _: self.machines.keep_pending(self.goal),
            Act.CREATE: lambda hosts: self.machines.create(self.goal, hosts),
            Act.DRAIN: lambda hosts: self.emptying.empty(hosts, self.wait),
            Act.REBUILD: self._rebuild,
            Act.QUIET: self._quiet,
            Act.WRITE: self._write,
            Act.RERUN: lambda hosts: self.machines.rerun(self.goal, hosts),
            Act.ACCOUNTS: lambda hosts: self.machines.rerun(self.goal, hosts),
            Act.DATABASE: lambda hosts: self.machines.service("start", "mariadb", hosts),
            Act.STOP: lambda _: self.slurmctld.stop(),
            Act.KEEP: lambda _: self.slurmctld.keep_state(),
            Act.START: lambda _: self._start("start"),
            Act.RECONFIGURE: lambda _: self._start("reload"),
            Act.SLURMD: self._slurmd,
            Act.SETTLE: self._settle,
            Act.RESUME: self._resume,
            Act.NO_ACCOUNTING: self._stop_accounting,
            Act.RETIRE: self._retire,
            Act.COMMIT: lambda _: self.machines.keep_applied(self.goal),
        }
        await acts[step.act](step.hosts)

    async def break_off(self) -> None:
        """After a failure or Ctrl-C: agents watch again, and nodes that were emptied for nothing take jobs again.

        Once slurmctld has the new files they stay drained until the next apply. Never raises `HpcliError`.
        """
        try:
            if self.silent and Act.AGENT not in self.begun:
                await self.machines.service("start", "hpcli-agent", self.silent)
            if not self.served:
                await self.emptying.give_back()
        except HpcliError as error:
            # The first error is what matters; the next apply does both.
            self.progress.step(f"left for the next apply: {error}")

    async def _try(self, _: Sequence[str]) -> None:
        if words := await self.machines.try_slurm(self.goal):
            raise HpcliError(
                "slurmctld",
                f"refuses the new configuration: {words}",
                "nothing was touched, the cluster runs as before; mend cluster.yaml, then plan again",
            )

    async def _rebuild(self, hosts: Sequence[str]) -> None:
        await self._retire(hosts)
        await self.machines.create(self.goal, hosts)

    async def _quiet(self, hosts: Sequence[str]) -> None:
        self.silent = tuple(hosts)
        await self.machines.service("stop", "hpcli-agent", hosts)

    async def _write(self, _: Sequence[str]) -> None:
        """Only what differs from what was found; files that are ours no more go."""
        files: dict[str, tuple[ConfigFile, ...]] = {}
        gone: dict[str, tuple[str, ...]] = {}
        for host, own in self.goal.files.items():
            lies = self.found.get(host, {})
            files[host] = tuple(file for file in own if not _lies_so(file, lies))
            wanted = {file.path for file in own}
            known = {file.path for state in self.states for file in state.files.get(host, ())}
            gone[host] = tuple(sorted(known - wanted))
        await self.machines.write({host: own for host, own in files.items() if own})
        await self.machines.remove({host: paths for host, paths in gone.items() if paths})

    async def _start(self, verb: str) -> None:
        await self.slurmctld.start(verb)
        self.served = True

    async def _slurmd(self, hosts: Sequence[str]) -> None:
        """The first that does not come up takes everything back; one of many is a fault of its machine."""
        try:
            await self.machines.service("restart", "slurmd", hosts)
        except HpcliError as failure:
            if self.proven or not self.slurmctld.old.place(hosts[0]):
                raise
            raise await self._slurmd_back(hosts, failure) from failure
        self.proven = True

    async def _slurmd_back(self, hosts: Sequence[str], failure: HpcliError) -> HpcliError:
        words = await self.machines.last_words("slurmd", hosts[0]) or failure.message
        self.progress.step("slurmd does not come up: putting the old configuration back")
        try:
            await self.slurmctld.restore()
            await self.machines.service("restart", "slurmd", hosts)
        except HpcliError as again:
            hint = f"nor with the old one: {again.message}; its files are the old ones again"
            return HpcliError(f"slurmd of {hosts[0]}", f"it did not come up with the new configuration: {words}", hint)
        return HpcliError(
            f"slurmd of {hosts[0]}",
            f"it did not come up with the new configuration: {words}",
            "the old configuration is back in service on all machines; mend cluster.yaml, plan again",
        )

    async def _settle(self, hosts: Sequence[str]) -> None:
        """Until slurmctld has heard of every one of these nodes."""
        limit = SETTLE_LIMIT + SETTLE_LIMIT_PER_NODE * len(hosts)
        deadline = self.clock.now() + limit
        wanted = set(hosts) - self.absent
        while True:
            seen = {node.name: node.states for node in await self.gateway.nodes() if node.name in wanted}
            missing = [name for name in hosts if name in wanted and seen.get(name, ABSENT) & ABSENT]
            if not missing:
                return
            self.progress.step(f"{len(wanted) - len(missing)} of {len(wanted)} nodes are back")
            if self.clock.now() > deadline:
                words = await self.machines.last_words("slurmd", missing[0])
                raise TimedOut(
                    f"node {fold(missing)}",
                    f"not registered with slurmctld within {limit:g} s; slurmd of {missing[0]}: {words or 'silent'}",
                    "mend that, then apply again: it goes on from here",
                )
            await self.clock.sleep(SETTLE_POLL)

    async def _resume(self, _: Sequence[str]) -> None:
        """Slurm asks a resumed node whether it is there before it gives it jobs."""
        await self._settle(await self.emptying.give_back())

    async def _stop_accounting(self, hosts: Sequence[str]) -> None:
        for name in ("slurmdbd", "mariadb"):
            await self.machines.service("stop", name, hosts)

    async def _retire(self, hosts: Sequence[str]) -> None:
        """A machine that is gone already cannot be asked to leave."""
        try:
            await self.machines.retire(hosts)
        except Unreachable as error:
            self.warnings.append(f"taken out without a word to it: {error}")


_HARMLESS = {Act.TRY, Act.BEGIN, Act.DRAIN, Act.QUIET}
_TAKEN_BACK = {Act.WRITE, Act.STOP, Act.KEEP, Act.START, Act.RECONFIGURE, Act.SLURMD}
"""What `Slurmctld.restore` undoes; a slurmd that was restarted in vain is restarted with it."""

_RESTARTS = {
    Act.MUNGE: "munge",
    Act.SLURMDBD: "slurmdbd",
    Act.AGENT: "hpcli-agent",
    Act.KEEPER: "hpcli-keeper",
    Act.CONTROLLER: "hpcli-controller",
}


def _lies_so(file: ConfigFile, lies: Mapping[str, object]) -> bool:
    there = lies.get(file.path)
    return there is not None and all(
        getattr(there, name) == getattr(file, name) for name in ("text", "mode", "owner", "group")
    )
