"""Rules about provider hosts: every machine has one address, and every address one machine."""

import re
from collections.abc import Iterator, Sequence

from hpcli.spec.addresses import in_order
from hpcli.spec.hostlist import expand, fold
from hpcli.spec.model import Spec
from hpcli.spec.problems import Finding, Loc, show
from hpcli.spec.rules.rule import ON_HOSTS, PLACE_NAMES, Limits, Rule
from hpcli.spec.texts import is_host

ADDRESSES: Loc = ("hosts", "addresses")
SPARES: Loc = ("hosts", "spare_machines")
PLACEHOLDERS = frozenset({"{node}", "{address}"})
_FIELD = re.compile(r"\{[^{}]*\}")


def _pairs(spec: Spec, _: Limits) -> Iterator[Finding]:
    for names, text in spec.hosts.addresses.items():
        try:
            there = in_order(text)
        except ValueError as error:
            yield Finding((*ADDRESSES, names), show(text), str(error))
            continue
        wanted = in_order(names)
        if len(wanted) != len(there):
            found = f"{len(there)} address{'es' if len(there) > 1 else ''} for {len(wanted)} names"
            yield Finding((*ADDRESSES, names), found, "as many addresses as names")
        strange = [address for address in there if not is_host(address)]
        if strange:
            yield Finding((*ADDRESSES, names), show(strange[0]), "host names or IP addresses")


def _names(spec: Spec, _: Limits) -> Iterator[Finding]:
    if spec.provider not in ON_HOSTS:
        return
    known, owner = set(spec.place_names), dict[str, str]()
    # Nodes to come may have theirs already, so that a group can grow by its number alone.
    families = {_family(name) for name in spec.node_names}
    for key in spec.hosts.addresses:
        unknown = [name for name in expand(key) if name not in known and _family(name) not in families]
        if unknown:
            expected = f"names of this cluster's machines ({_in_short(known)})"
            yield Finding((*ADDRESSES, key), f"unknown {fold(unknown)}", expected)
        both = [name for name in in_order(key) if name in owner or owner.setdefault(name, key) != key]
        if both:
            yield Finding((*ADDRESSES, key), f"{fold(both)} a second time", "one address for each name")
    strange = [name for name in spec.place_names if name not in owner and not is_host(name)]
    if strange:
        yield Finding(ADDRESSES, f"nothing for {fold(strange)}", "an address: no host can have such a name")


def _family(name: str) -> str:
    return name.rstrip("0123456789")


def _one_machine_each(spec: Spec, _: Limits) -> Iterator[Finding]:
    if spec.provider not in ON_HOSTS:
        return
    key_of = {name: key for key in spec.hosts.addresses for name in expand(key)}
    owner: dict[str, str] = {}
    clashes: dict[str, list[tuple[str, str]]] = {}
    for name in dict.fromkeys(spec.place_names):
        first = owner.setdefault(spec.address_of(name), name)
        if first != name:
            key = key_of.get(name) or key_of.get(first, "")
            clashes.setdefault(key, []).append((first, name))
    for key, pairs in clashes.items():
        first, name = pairs[0]
        more = f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
        found = f"{spec.address_of(name)} for both {first} and {name}{more}"
        yield Finding((*ADDRESSES, key), found, "an address of its own for each name")
    yield from _spare_machines(spec.hosts.spare_machines, owner)


def _spare_machines(spares: Sequence[str], owner: dict[str, str]) -> Iterator[Finding]:
    taken = {**{name: name for name in owner.values()}, **owner}
    for i, address in enumerate(spares):
        if address in spares[:i]:
            yield Finding((*SPARES, i), f"{address} a second time", "each machine once")
        elif address in taken:
            expected = "a machine that is no other part of the cluster"
            yield Finding((*SPARES, i), f"{address}, which is {taken[address]}", expected)


def _commands(spec: Spec, _: Limits) -> Iterator[Finding]:
    for key, words in (("reboot_command", spec.hosts.reboot_command), ("replace_command", spec.hosts.replace_command)):
        for i, word in enumerate(words):
            unknown = [field for field in _FIELD.findall(word) if field not in PLACEHOLDERS]
            if unknown:
                yield Finding(("hosts", key, i), unknown[0], " or ".join(sorted(PLACEHOLDERS, reverse=True)))
            elif not word.isprintable() or (i == 0 and not word.strip()):
                yield Finding(("hosts", key, i), show(word), "a program" if i == 0 else "printable text")


def _in_short(names: set[str]) -> str:
    text = fold(names)
    return text if len(text) <= 100 else f"{text[:100]}…"


RULES = (
    Rule(_pairs, ("hosts.addresses",)),
    Rule(_names, ("hosts.addresses", "provider", *PLACE_NAMES), expands=True),
    Rule(_one_machine_each, ("hosts.addresses", "hosts.spare_machines", "provider", *PLACE_NAMES), expands=True),
    Rule(_commands, ("hosts.reboot_command", "hosts.replace_command")),
)
