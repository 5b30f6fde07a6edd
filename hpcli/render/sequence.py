"""Names folded into a hostlist that expands to them in this very order, for every Slurm.

Slurm pairs NodeName, NodeHostname and NodeAddr by position. Slurm 22.05 refuses text behind a bracket, so only a
number at the end of a name is folded.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

_DIGITS = "0123456789"
_LONGEST_NUMBER = 9


def fold_in_order(names: Iterable[str]) -> str:
    """Write names as one hostlist, keeping their order."""
    return _fold(map(split, names))


def fold_sorted(names: Iterable[str]) -> str:
    """Write names as one hostlist, sorted as people count, each once."""
    return _fold(sorted(set(map(split, names)), key=_natural))


def split(name: str) -> tuple[str, str]:
    """Give what is in front of the number at the end, and the number: "" if there is none, or too long a one."""
    prefix = name.rstrip(_DIGITS)
    number = name[len(prefix) :]
    return (prefix, number) if len(number) <= _LONGEST_NUMBER else (name, "")


def _natural(name: tuple[str, str]) -> tuple[str, int, str]:
    prefix, number = name
    return prefix, int(number or -1), number


def _fold(names: Iterable[tuple[str, str]]) -> str:
    runs = groupby(names, lambda name: (name[0], name[1] != ""))
    return ",".join(_run(prefix, [number for _, number in run], numbered) for (prefix, numbered), run in runs)


def _run(prefix: str, numbers: Sequence[str], numbered: bool) -> str:
    if not numbered:
        return ",".join([prefix] * len(numbers))
    if len(numbers) == 1:
        return f"{prefix}{numbers[0]}"
    return f"{prefix}[{','.join(_ranges(numbers))}]"


def _ranges(numbers: Sequence[str]) -> Iterator[str]:
    first = last = numbers[0]
    for number in numbers[1:]:
        # Slurm pads each number of a range as its first one, and natural growth (9, 10) needs none.
        width = len(first) if first[0] == "0" else 0
        if number != str(int(last) + 1).zfill(width):
            yield first if first == last else f"{first}-{last}"
            first = number
        last = number
    yield first if first == last else f"{first}-{last}"
