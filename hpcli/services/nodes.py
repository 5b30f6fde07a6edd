"""Nodes as people ask for them: those in the same state on one line."""

from collections.abc import Sequence
from dataclasses import dataclass

from hpcli.domain.node import BUSY, Node
from hpcli.ports import SlurmGateway
from hpcli.spec.hostlist import fold

_BASE = ("IDLE", "MIXED", "ALLOCATED", "COMPLETING")
_SAID_OTHERWISE = frozenset({*_BASE, "DRAIN", "DOWN", "NOT_RESPONDING", "UNKNOWN"})


@dataclass(frozen=True, slots=True)
class NodesRow:
    """Nodes that share state, reason and partitions. `nodes` is a hostlist; counts are sums over them.

    GPUs in use are those that Slurm has allocated, whether a job computes on them or not.
    """

    state: str
    nodes: str
    node_count: int
    cpus_alloc: int
    cpus: int
    gpus_alloc: int
    gpus: int
    partitions: str
    reason: str


async def list_nodes(gateway: SlurmGateway, hostlist: str = "") -> tuple[NodesRow, ...]:
    """List nodes, healthy states first. Raises `NotFound` for a node that Slurm does not know."""
    groups: dict[tuple[str, str, str], list[Node]] = {}
    for node in await gateway.nodes(hostlist):
        groups.setdefault((state_of(node), node.reason, ",".join(node.partitions)), []).append(node)
    rows = (_row(*key, group) for key, group in groups.items())
    return tuple(sorted(rows, key=lambda row: _trouble(row.state)))


def state_of(node: Node) -> str:
    """Write a node's state in sinfo's words: `idle`, `draining`, `drained+down`, a mark `*` when it is silent."""
    words = [_main_word(node), *(["down"] if node.drain and node.down else [])]
    words += sorted(word.lower() for word in node.states - _SAID_OTHERWISE)
    return "+".join(words) + ("*" if "NOT_RESPONDING" in node.states else "")


def _main_word(node: Node) -> str:
    if node.drain:
        return "draining" if node.states & BUSY else "drained"
    if node.down:
        return "down"
    return next((base.lower() for base in reversed(_BASE) if base in node.states), "unknown")


def _trouble(state: str) -> tuple[int, str]:
    bases = [base.lower() for base in _BASE]
    return (bases.index(state) if state in bases else len(bases)), state


def _row(state: str, reason: str, partitions: str, group: Sequence[Node]) -> NodesRow:
    return NodesRow(
        state=state,
        nodes=fold(node.name for node in group),
        node_count=len(group),
        cpus_alloc=sum(node.cpus_alloc for node in group),
        cpus=sum(node.cpus for node in group),
        gpus_alloc=sum(node.gpus_alloc for node in group),
        gpus=sum(node.gpus for node in group),
        partitions=partitions,
        reason=reason,
    )
