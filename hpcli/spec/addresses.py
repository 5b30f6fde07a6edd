"""`hosts.addresses`: names and addresses as two hostlists, paired in the order in which they are written."""

import re
from collections.abc import Iterator, Mapping
from itertools import product

from hpcli.spec.hostlist import MAX_NODES

FORM = "an address or several, such as 10.0.1.7 or 10.0.1.[11-18]"

_COMMA = re.compile(r",(?![^\[]*\])")
_ITEM = re.compile(r"(?:[A-Za-z0-9_.:-]|\[[0-9,-]+\])+")
_BRACKET = re.compile(r"\[([^\]]+)\]")
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def in_order(text: str) -> tuple[str, ...]:
    """Expand a hostlist of names or addresses in the order written. Raises ValueError saying what was expected."""
    names: list[str] = []
    for item in _COMMA.split(text):
        if not _ITEM.fullmatch(item):
            raise ValueError(FORM)
        names.extend(_expanded(item, MAX_NODES - len(names)))
    return tuple(names)


def address_by_name(addresses: Mapping[str, str]) -> dict[str, str]:
    """Pair names with addresses; what does not pair, or cannot be read, is left out: the rules tell of it."""
    found: dict[str, str] = {}
    for names, there in addresses.items():
        try:
            found.update(zip(in_order(names), in_order(there), strict=False))
        except ValueError:
            continue
    return found


def _expanded(item: str, most: int) -> Iterator[str]:
    fixed = _BRACKET.split(item)
    ranges = [_numbers(inside, most) for inside in fixed[1::2]]
    total = 1
    for numbers in ranges:
        total *= len(numbers)
        if total > most:
            raise ValueError(f"at most {MAX_NODES} addresses")
    texts = fixed[0::2]
    for chosen in product(*ranges):
        yield texts[0] + "".join(number + text for number, text in zip(chosen, texts[1:], strict=True))


def _numbers(inside: str, most: int) -> list[str]:
    numbers: list[str] = []
    for part in inside.split(","):
        found = _RANGE.fullmatch(part)
        if found is None:
            raise ValueError(FORM)
        first, last = found[1], found[2] or found[1]
        if int(last) < int(first):
            raise ValueError(f"a range that counts up, not {part}")
        if int(last) - int(first) >= most - len(numbers):
            raise ValueError(f"at most {MAX_NODES} addresses")
        numbers.extend(str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
    return numbers
