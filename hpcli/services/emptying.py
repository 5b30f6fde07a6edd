"""Emptying nodes before a change, and giving them back: nothing is drained twice, nobody else's drain is touched."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpcli.domain.job import Job
from hpcli.domain.names import expand, fold
from hpcli.domain.node import BUSY
from hpcli.errors import Unsafe
from hpcli.ports import Clock, Progress, SlurmGateway
from hpcli.render.sequence import fold_sorted

PREFIX = "hpcli:plan:"
POLL = 0.5
SHORTEST_WAIT = 2.0
"""Seconds for a job that is just ending to be gone from its node."""
MOST_TOLD = 10


@dataclass(frozen=True, slots=True)
class Emptying:
    """The drains of one plan, known by their reason."""

    gateway: SlurmGateway
    clock: Clock
    progress: Progress
    reason: str

    async def refuse_if_busy(self, nodes: Sequence[str]) -> None:
        """Raises `Unsafe` naming the jobs in the way; nothing is touched."""
        if jobs := await self._jobs_on(nodes):
            raise _in_the_way(jobs, nodes, "nothing was touched")

    async def empty(self, nodes: Sequence[str], wait: float) -> None:
        """Drain, and wait until no job is left. Raises `Unsafe` naming those that still run after `wait` seconds."""
        known = await self.gateway.nodes()
        ours = [node for node in known if node.name in nodes and not node.drain and not node.down]
        if ours:
            await self.gateway.update_nodes(fold_sorted(node.name for node in ours), "drain", self.reason)
        deadline = self.clock.now() + max(wait, SHORTEST_WAIT)
        while True:
            left = [node.name for node in await self.gateway.nodes() if node.name in nodes and node.states & BUSY]
            if not left:
                return
            if self.clock.now() > deadline:
                raise _in_the_way(await self._jobs_on(left), left, "the nodes are as they were")
            self.progress.step(f"waiting for jobs to leave {fold(left)}")
            await self.clock.sleep(POLL)

    async def give_back(self) -> tuple[str, ...]:
        """Resume every node that a plan drained, this one or one that was interrupted; returns which."""
        nodes = [node.name for node in await self.gateway.nodes() if node.drain and node.reason.startswith(PREFIX)]
        if nodes:
            await self.gateway.update_nodes(fold_sorted(nodes), "resume")
        return tuple(nodes)

    async def _jobs_on(self, nodes: Iterable[str]) -> list[Job]:
        wanted = set(nodes)
        return [job for job in await self.gateway.jobs() if job.on_nodes and wanted & set(expand(job.nodes))]


def _in_the_way(jobs: Sequence[Job], nodes: Sequence[str], ending: str) -> Unsafe:
    shown = ", ".join(f"{job.label} ({job.user}, {job.nodes})" for job in jobs[:MOST_TOLD])
    more = f" and {len(jobs) - MOST_TOLD} more" if len(jobs) > MOST_TOLD else ""
    what = f"jobs {shown}{more}" if jobs else "something"
    labels = " ".join(job.label for job in jobs[:MOST_TOLD])
    return Unsafe(
        f"node {fold(nodes)}",
        f"found {what} in the way, expected no job there; {ending}",
        f"wait for them with --wait SECONDS, or end them: hpcli cancel {labels}",
    )
