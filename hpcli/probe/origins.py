"""From which addresses a node's machine may speak: what Slurm's NodeAddr resolves to."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from hpcli.domain.node import Node

KEPT = 60.0
"""Seconds for which a resolved name is believed."""


@dataclass(slots=True)
class NameOrigins:
    """Addresses stand for themselves; names are resolved, all at once, and remembered for a minute."""

    _known: dict[str, tuple[float, frozenset[str]]] = field(default_factory=dict)

    async def of(self, nodes: Sequence[Node]) -> Mapping[str, frozenset[str]]:
        now = time.monotonic()
        stale = {node.addr for node in nodes if now - self._known.get(node.addr, (-KEPT, None))[0] >= KEPT}
        for name, found in zip(stale, await asyncio.gather(*map(_resolve, stale)), strict=True):
            self._known[name] = (now, found)
        return {node.name: self._known[node.addr][1] for node in nodes}


async def _resolve(name: str) -> frozenset[str]:
    try:
        return frozenset({str(ip_address(name))})
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None)
    except OSError:
        return frozenset()
    return frozenset(str(entry[4][0]) for entry in found)
