"""Which reports count: the trust rules, and the newest believed report of each node."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hpcli.domain.report import NodeReport, from_dict
from hpcli.errors import HpcliError
from hpcli.ports import Claim, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe. `origins` maps nodes to the addresses that their machine may have; None where nodes
    share a machine."""

    nodes: frozenset[str]
    uids: frozenset[int]
    origins: Mapping[str, frozenset[str]] | None = None


@dataclass(slots=True)
class ReportDesk:
    """Takes reports in, keeps the newest of each node."""

    trust: Trust
    store: Store
    latest: dict[str, NodeReport] = field(default_factory=dict)
    received_at: dict[str, float] = field(default_factory=dict)
    _sequences: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._sequences = dict(self.store.sequences())

    def know(self, nodes: Iterable[str], origins: Mapping[str, frozenset[str]] | None) -> None:
        """Nodes come and go, and a replaced one has another address: believe what Slurm says now."""
        self.trust = Trust(frozenset(nodes), self.trust.uids, origins)

    def take(self, claim: Claim, raw: Sequence[object], now: float) -> tuple[list[NodeReport], list[str]]:
        """Sort reports into believed ones and reasons for refusing the others."""
        if claim.uid not in self.trust.uids:
            return [], [f"report from uid {claim.uid}, expected {sorted(self.trust.uids)}"]
        believed: list[NodeReport] = []
        refused: list[str] = []
        for item in raw:
            report, why = self._judge(claim, item)
            if report is None:
                refused.append(why)
                continue
            believed.append(report)
            self._sequences[report.node] = report.seq
            self.latest[report.node] = report
            self.received_at[report.node] = now
        self._remember(believed)
        return believed, refused

    def fresh(self, now: float, timeout: float) -> dict[str, NodeReport]:
        """The newest report of each node that was heard of within `timeout` seconds."""
        return {node: report for node, report in self.latest.items() if now - self.received_at[node] <= timeout}

    def _remember(self, believed: Sequence[NodeReport]) -> None:
        """On a full disk reports still count, and nothing can follow from them: every step needs the journal."""
        if not believed:
            return
        try:
            self.store.remember_sequences({report.node: report.seq for report in believed})
        except HpcliError as error:
            log.error("%s", error)

    def _judge(self, claim: Claim, item: object) -> tuple[NodeReport | None, str]:
        try:
            report = from_dict(item)
        except ValueError as error:
            return None, str(error)
        if report.node not in self.trust.nodes:
            return None, f"report for {report.node!r}, which is no node of this cluster"
        origins = self.trust.origins
        if origins is not None and claim.host not in origins.get(report.node, frozenset()):
            expected = ", ".join(sorted(origins.get(report.node, frozenset()))) or "an address that Slurm knows"
            return None, f"report for {report.node} from {claim.host}, expected {expected}"
        if report.seq <= self._sequences.get(report.node, 0):
            return None, f"report {report.seq} of {report.node} is not newer than {self._sequences[report.node]}"
        return report, ""
