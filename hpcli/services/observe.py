"""Read Slurm, reports and journal into one observation."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ClusterShell.NodeSet import NodeSet

from hpcli.domain.job import Job
from hpcli.domain.ledger import Kind, Ledger, Step, fold
from hpcli.domain.node import Node
from hpcli.domain.observation import Observation
from hpcli.domain.policy import Policy
from hpcli.ports import Clock, Provider, SlurmGateway, Store
from hpcli.services.desk import ReportDesk


@dataclass(slots=True)
class Journal:
    """The store's journal with the ledger folded from it."""

    store: Store
    clock: Clock
    ledger: Ledger = field(default_factory=Ledger)
    last_entry: int = 0

    def __post_init__(self) -> None:
        self._catch_up()

    def write(self, kind: Kind, **body: object) -> None:
        """Append one entry; it is on disk when this returns. Raises `HpcliError`."""
        self.store.append(kind, body, self.clock.now())
        self._catch_up()

    def _catch_up(self) -> None:
        entries = self.store.since(self.last_entry)
        if entries:
            self.ledger = fold(self.ledger, entries)
            self.last_entry = entries[-1][0]


class Origins(Protocol):
    """Knows from which addresses a machine may speak."""

    async def of(self, nodes: Sequence[Node]) -> Mapping[str, frozenset[str]]:
        """Addresses by node name; none for a node whose name cannot be resolved."""
        ...


@dataclass(slots=True)
class Observer:
    """Makes observations; two queries to Slurm each, however large the cluster.

    `origins` is None where many nodes share one machine.
    """

    gateway: SlurmGateway
    provider: Provider
    desk: ReportDesk
    journal: Journal
    clock: Clock
    policy: Policy
    origins: Origins | None = None

    async def look(self, in_flight: Iterable[tuple[str, Step]]) -> Observation:
        """Raises `HpcliError` when Slurm cannot be read: then nothing may be decided."""
        nodes, jobs = await asyncio.gather(self.gateway.nodes(), self.gateway.jobs())
        self.desk.know((node.name for node in nodes), await self.origins.of(nodes) if self.origins else None)
        now = self.clock.now()
        capabilities = self.provider.capabilities()
        return Observation(
            now=now,
            nodes={node.name: node for node in nodes},
            jobs={job.label: job for job in jobs},
            jobs_on=_by_node(jobs),
            reports=self.desk.fresh(now, self.policy.report_timeout),
            ledger=self.journal.ledger,
            in_flight=frozenset(in_flight),
            can_reboot=capabilities.reboot,
            can_replace=capabilities.replace,
        )


def _by_node(jobs: Iterable[Job]) -> dict[str, tuple[Job, ...]]:
    found: dict[str, list[Job]] = {}
    for job in jobs:
        if job.on_nodes and job.nodes:
            for node in NodeSet(job.nodes):
                found.setdefault(node, []).append(job)
    return {node: tuple(on_it) for node, on_it in found.items()}
