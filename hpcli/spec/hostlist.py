"""Hostlists: bounded before they are expanded, so that `c[1-99999999]` costs nothing."""

import re
from collections.abc import Iterable
from math import prod

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

MAX_NODES = 65536
"""Slurm's hard cap on nodes in one controller (slurm.conf(5), MaxNodeCount)."""

FORM = "a hostlist such as c[1-8] or gpu[01-16],cpu3"
RESERVED = frozenset({"default", "all", "localhost"})

_COMMA = re.compile(r",(?![^\[]*\])")
_ITEM = re.compile(r"[A-Za-z](?:[A-Za-z0-9_.-]|\[[0-9,-]+\])*(?<![.-])")
_BRACKET = re.compile(r"\[([^\]]+)\]")
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_LONGEST = 63


def expand(text: str) -> tuple[str, ...]:
    """Give the node names of a hostlist, sorted naturally, each once. Raises ValueError saying what was expected."""
    if size_bound(text) > MAX_NODES:
        raise ValueError(f"at most {MAX_NODES} nodes, Slurm's limit for one controller")
    names = tuple(str(name) for name in NodeSet(text, resolver=RESOLVER_NOGROUP))
    for name in names:
        if name.lower() in RESERVED:
            raise ValueError(f"node names other than {name}, which Slurm reserves")
        if len(name) > _LONGEST:
            raise ValueError(f"node names of at most {_LONGEST} characters")
    return names


def size_bound(text: str) -> int:
    """Count the names a hostlist stands for, doubles included, without expanding it. Raises ValueError."""
    return sum(_item_size(item) for item in _COMMA.split(text))


def fold(names: Iterable[str]) -> str:
    """Write names as one hostlist, with a range in the last number only: every Slurm reads that."""
    nodes = NodeSet(resolver=RESOLVER_NOGROUP)
    nodes.fold_axis = (-1,)
    nodes.updaten(list(names))
    return str(nodes)


def _item_size(item: str) -> int:
    if not _ITEM.fullmatch(item):
        raise ValueError(FORM)
    return prod(_bracket_size(inside) for inside in _BRACKET.findall(item))


def _bracket_size(inside: str) -> int:
    return sum(_range_size(part) for part in inside.split(","))


def _range_size(part: str) -> int:
    found = _RANGE.fullmatch(part)
    if found is None:
        raise ValueError(FORM)
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise ValueError(f"a range that counts up, not {part}")
    return last - first + 1
