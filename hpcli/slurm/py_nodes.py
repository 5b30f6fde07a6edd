"""pyslurm's nodes as domain nodes: the same, field by field, as parse.py makes of scontrol's text. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hpcli.domain.node import Node
from hpcli.slurm.parse import known, parse_states
from hpcli.slurm.py_shapes import PyNode

_GPU_TRES = "gres/gpu"
_BASE = frozenset({"IDLE", "DOWN", "ALLOCATED", "ERROR", "MIXED", "FUTURE", "UNKNOWN"})
_BRACKETS = re.compile(r"\([^)]*\)")


@dataclass(frozen=True, slots=True)
class Gres:
    """What a node's record says of generic resources in Slurm's own words: CfgTRES and GresUsed."""

    configured_tres: str
    used: str

    @property
    def gpus_used(self) -> int:
        """GresUsed, which counts where no GPU is a TRES. Raises ValueError for words that are no count."""
        if f"{_GPU_TRES}=" in self.configured_tres:
            return 0
        entries = (entry.split(":") for entry in _BRACKETS.sub("", self.used).split(","))
        return sum(int(words[-1]) for words in entries if words[0] == "gpu")


def gres_of(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Gres]:
    """Pick the words out of what `pyslurm.node().get()` gives."""
    return {
        name: Gres(record["tres_fmt_str"] or "", ",".join(record["gres_used"] or ()))
        for name, record in records.items()
    }


def read_nodes(nodes: Iterable[PyNode], gres: Callable[[], Mapping[str, Gres]]) -> tuple[Node, ...]:
    """Read them all; `gres` is asked, once, only if a busy node's GPUs are no TRES (no slurmdbd counts them)."""
    wanted = tuple(nodes)
    used = gres() if any(_gpus_untold(node) for node in wanted) else {}
    return tuple(_node(node, used) for node in wanted)


def _gpus_untold(node: PyNode) -> bool:
    busy = bool(node.allocated_cpus or node.allocated_tres)
    return busy and _gpus(node) > 0 and _GPU_TRES not in node.allocated_tres


def _node(node: PyNode, used: Mapping[str, Gres]) -> Node:
    return Node(
        name=node.name,
        states=_states(node),
        reason=_reason(node.reason or ""),
        partitions=tuple(node.partitions),
        features=tuple(node.active_features),
        cpus=node.total_cpus,
        cpus_alloc=node.allocated_cpus,
        memory=node.real_memory or 0,
        memory_alloc=node.allocated_memory,
        gpus=_gpus(node),
        gpus_alloc=used[node.name].gpus_used if _gpus_untold(node) else int(node.allocated_tres.get(_GPU_TRES, 0)),
        weight=node.weight or 0,
        addr=known(node.address or ""),
        boot_time=float(node.boot_time or 0),
        slurmd_start_time=float(node.slurmd_start_time or 0),
    )


def _states(node: PyNode) -> frozenset[str]:
    """Give the words; what is in use without a CPU is MIXED to scontrol (node_info.c), and not to pyslurm."""
    states = parse_states(node.state)
    if node.allocated_tres and not node.allocated_cpus:
        return states - _BASE | {"MIXED"}
    return states


def _reason(text: str) -> str:
    """Take the first line, as scontrol's reader does: Slurm puts who set it when behind that one."""
    return next((line.strip() for line in text.split("\n") if line), "")


def _gpus(node: PyNode) -> int:
    return sum(count for kind, count in node.configured_gres.items() if kind.split(":")[0] == "gpu")
