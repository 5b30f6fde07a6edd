"""Hostlists of names that are already known to be good: many names to one word and back."""

import re
from collections.abc import Iterable, Iterator
from itertools import product

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

MOST = 1_000_000

_NAME = re.compile(r"[\w.-]+")
_COMMA = re.compile(r",(?![^\[]*\])")
_BRACKET = re.compile(r"\[([0-9,-]+)\]")
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def fold(names: Iterable[str]) -> str:
    """Write names as one hostlist, with a range in the last number only; what is no name is left as it is."""
    given = list(names)
    plain = [name for name in given if _NAME.fullmatch(name)]
    nodes = NodeSet(resolver=RESOLVER_NOGROUP)
    nodes.fold_axis = (-1,)
    nodes.updaten(plain)
    return ",".join(filter(None, (str(nodes), *(name for name in given if not _NAME.fullmatch(name)))))


def expand(hostlist: str) -> tuple[str, ...]:
    """Give the names in the order in which they are written, as Slurm pairs them with addresses.

    What is no hostlist, or stands for a million names, is its own one name.
    """
    names: list[str] = []
    for item in _COMMA.split(hostlist):
        pieces = _pieces(item)
        if pieces is None:
            names.append(item)
        else:
            names += map("".join, product(*pieces))
    return tuple(name for name in names if name)


def _pieces(item: str) -> list[list[str]] | None:
    """The choices for each piece of an item, None for one that is not well formed."""
    pieces: list[list[str]] = []
    size = 1
    for i, text in enumerate(_BRACKET.split(item)):
        choices = list(_numbers(text)) if i % 2 else [text]
        size *= max(len(choices), 1)
        if not choices or size > MOST:
            return None
        pieces.append(choices)
    return pieces


def _numbers(inside: str) -> Iterator[str]:
    for part in inside.split(","):
        found = _RANGE.fullmatch(part)
        if found is None:
            return
        first, last = found[1], found[2] or found[1]
        if int(last) - int(first) > MOST:
            return
        yield from (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
