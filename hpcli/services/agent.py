"""What an agent does: tail kernel logs, sample checks, keep the verdicts, report, obey the controller."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hpcli.domain.check import CheckResult
from hpcli.domain.report import NodeReport
from hpcli.ports import Clock
from hpcli.services.watch import NodeWatch, verdict, write_verdict

log = logging.getLogger(__name__)

TAIL_INTERVAL = 0.1
SETTLE_INTERVAL = 0.5
TAIL_COST = 0.002
"""Seconds of tailing allowed per node and round, so that 256 nodes on one agent cost a few percent of a core."""


class Link(Protocol):
    """The way to the controller. Sending never fails: only the newest report of a node matters."""

    async def send(self, reports: Sequence[NodeReport]) -> None: ...


class MachineChecks(Protocol):
    async def __call__(self) -> Sequence[CheckResult]:
        """Results of the checks that all nodes of this machine share."""
        ...


@dataclass(slots=True)
class AgentService:
    """Serves the nodes in `watches`. `kill` ends a job's processes on a node and counts them.

    `gate`: Prologs hold jobs back from a faulty node; as the settings say until the controller says otherwise.
    `reboot` does that to this machine, None where the nodes are no machines.
    """

    watches: Mapping[str, NodeWatch]
    verdicts: Mapping[str, Path]
    machine_checks: MachineChecks
    kill: Callable[[str, str], int]
    link: Link
    clock: Clock
    interval: float
    gate: bool = True
    reboot: Callable[[], Coroutine[None, None, None]] | None = None
    _shared: Sequence[CheckResult] = ()
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tail())
            group.create_task(self._sample())
            group.create_task(self._settle())

    async def report_all(self) -> None:
        """Tell the controller everything, as after a new connection."""
        await self._report(self.watches)

    async def obey(self, order: Mapping[str, object]) -> None:
        """Carry out one order of the controller; orders for nodes we do not serve are not ours."""
        nodes = [str(node) for node in _list(order.get("nodes")) if node in self.watches]
        if order.get("order") == "kill_job":
            await asyncio.gather(*(self._kill(str(order["job"]), node) for node in nodes))
        elif order.get("order") == "accept":
            for node in nodes:
                self._begin(self._accept(node, str(order["repair"])))
        elif order.get("order") == "reboot" and self.reboot and nodes:
            self._begin(self.reboot())
        elif order.get("order") == "gate":
            self.gate = bool(order["closed"])
            self._keep_verdicts(self.watches)

    async def _tail(self) -> None:
        """A fault in the kernel log is reported at once; a fresh sample of the node follows."""
        while True:
            changed = [node for node, watch in self.watches.items() if watch.poll_log()]
            if changed:
                await self._report(changed)
                self._begin(self._sample_nodes(changed))
            await self.clock.sleep(max(TAIL_INTERVAL, TAIL_COST * len(self.watches)))

    async def _sample(self) -> None:
        while True:
            self._shared = await self.machine_checks()
            await self._sample_nodes(self.watches)
            await self.clock.sleep(self.interval)

    async def _settle(self) -> None:
        """A node that has just booted is waited for: sample it more often until every check has spoken."""
        while True:
            await self.clock.sleep(SETTLE_INTERVAL)
            unsettled = [node for node, watch in self.watches.items() if watch.unsettled and self._shared]
            if unsettled:
                await self._sample_nodes(unsettled)

    async def _sample_nodes(self, nodes: Iterable[str]) -> None:
        names = tuple(nodes)
        await asyncio.gather(*(self.watches[node].sample(self._shared) for node in names))
        await self._report(names)

    async def _kill(self, job: str, node: str) -> None:
        count = await asyncio.to_thread(self.kill, job, node)
        log.info("killed %d processes of job %s on %s", count, job, node)

    async def _accept(self, node: str, repair: str) -> None:
        await self.watches[node].accept(repair)
        await self._report([node])

    async def _report(self, nodes: Iterable[str]) -> None:
        reports = self._keep_verdicts(nodes)
        if reports:
            await self.link.send(reports)

    def _keep_verdicts(self, nodes: Iterable[str]) -> list[NodeReport]:
        reports = [report for node in nodes if (report := self.watches[node].report())]
        for report in reports:
            write_verdict(self.verdicts[report.node], verdict(report, self.gate))
        return reports

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()
