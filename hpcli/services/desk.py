"""Which reports count: the trust rules, and the newest believed report of each node."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from hpcli.domain.report import NodeReport, Sender, from_dict
from hpcli.errors import HpcliError
from hpcli.ports import Claim, Store

log = logging.getLogger(__name__)

THIS = Sender()


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe. `origins` maps nodes to the addresses that their machine may have; None where nodes
    share a machine."""

    nodes: frozenset[str]
    uids: frozenset[int]
    origins: Mapping[str, frozenset[str]] | None = None

    def from_its_machine(self, node: str, encoded_on: str, peer: str) -> bool:
        """Whether a credential made on that address came from the node's machine.

        A loopback address is every machine's (Debian gives a machine's own name 127.0.1.1, and munged asks for that
        name): then the other end of the connection must be one of the node's addresses.
        """
        if self.origins is None:
            return True
        own = self.origins.get(node, frozenset())
        return encoded_on in own or (_is_loopback(encoded_on) and _unmapped(peer) in own)


@dataclass(slots=True)
class ReportDesk:
    """Takes reports in, keeps the newest of each node."""

    trust: Trust
    store: Store
    latest: dict[str, NodeReport] = field(default_factory=dict)
    received_at: dict[str, float] = field(default_factory=dict)
    senders: dict[str, Sender] = field(default_factory=dict)
    """Which hpcli spoke last for each node, those that are not understood too."""
    _sequences: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._sequences = dict(self.store.sequences())

    def know(self, nodes: Iterable[str], origins: Mapping[str, frozenset[str]] | None) -> None:
        """Nodes come and go, and a replaced one has another address: believe what Slurm says now."""
        self.trust = Trust(frozenset(nodes), self.trust.uids, origins)
        self.senders = {node: sender for node, sender in self.senders.items() if node in self.trust.nodes}

    def take(
        self, claim: Claim, raw: Sequence[object], now: float, peer: str = "", sender: Sender = THIS
    ) -> tuple[list[NodeReport], list[str]]:
        """Sort reports into believed ones and reasons for refusing the others.

        `peer` is the address of the other end of the connection, "" when nobody knows it.
        """
        if claim.uid not in self.trust.uids:
            return [], [f"report from uid {claim.uid}, expected {sorted(self.trust.uids)}"]
        believed: list[NodeReport] = []
        refused: list[str] = []
        for item in raw:
            report, why = self._judge(claim, item, peer)
            if report is None:
                refused.append(why)
                continue
            believed.append(report)
            self._sequences[report.node] = report.seq
            self.latest[report.node] = report
            self.senders[report.node] = sender
            self.received_at[report.node] = now
        self._remember(believed)
        return believed, refused

    def turn_away(self, claim: Claim, raw: Sequence[object], peer: str, sender: Sender) -> None:
        """Remember whose reports are not understood, as far as it may speak for the nodes that it names."""
        named = {str(item.get("node")) for item in raw if isinstance(item, dict)}
        for node in named & self.trust.nodes:
            if claim.uid in self.trust.uids and self.trust.from_its_machine(node, claim.host, peer):
                self.senders[node] = sender

    def standing(self, node: str) -> frozenset[str]:
        """Causes of the faults that stand on a node, by its newest report."""
        report = self.latest.get(node)
        return frozenset(incident.cause for incident in report.incidents) if report else frozenset()

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

    def _judge(self, claim: Claim, item: object, peer: str) -> tuple[NodeReport | None, str]:
        try:
            report = from_dict(item)
        except ValueError as error:
            return None, str(error)
        if report.node not in self.trust.nodes:
            return None, f"report for {report.node!r}, which is no node of this cluster"
        if not self.trust.from_its_machine(report.node, claim.host, peer):
            found, expected = _place(claim.host, peer), self._origin(report.node)
            return None, f"report for {report.node} from {found}, expected {expected}"
        if report.seq <= self._sequences.get(report.node, 0):
            return None, f"report {report.seq} of {report.node} is not newer than {self._sequences[report.node]}"
        return report, ""

    def _origin(self, node: str) -> str:
        return ", ".join(sorted((self.trust.origins or {}).get(node, ()))) or "an address that Slurm knows"


def _place(host: str, peer: str) -> str:
    return f"{host} (connected from {peer})" if _is_loopback(host) else host


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_loopback


def _unmapped(host: str) -> str:
    """An address as Slurm and munge write it: a listener for both kinds of IP shows IPv4 as ::ffff:10.0.0.1."""
    address = _address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or host)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
