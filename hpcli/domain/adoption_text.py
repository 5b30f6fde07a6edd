"""A cluster that was found, as the text of a commented cluster.yaml. Pure; whatever it holds is quoted."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from hpcli.domain.adoption import Found
from hpcli.domain.adoption_nodes import FoundNode, is_word
from hpcli.domain.names import fold
from hpcli.errors import UsageFault

KNOWN = ("22.05", "24.11", "26.05")
"""Series that a spec can name."""

CARE = ("login", "packages", "health", "recovery")
"""Sections that are the reader's own."""

_CLUSTER = re.compile(r"[a-z][a-z0-9-]{0,30}")
_UNPRINTED = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Reach:
    """How machines are reached, "" and 0 for ssh's own choice; `login` is a login node, with its address."""

    user: str = ""
    port: int = 0
    identity: str = ""
    known_hosts: str = ""
    login: str = ""
    addresses: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """What somebody chose or keeps: `sections` of `CARE` as YAML text, each ending with a newline."""

    name: str
    mode: str = "observe"
    python: str = ""
    programs: str = ""
    chain: tuple[str, ...] = ()
    sections: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shape:
    """Nodes of one kind, by name."""

    name: str
    nodes: tuple[FoundNode, ...]


def cluster_name(wanted: str, found: Found) -> str:
    """Give the name that was wanted, or one made of ClusterName. Raises `UsageFault`."""
    name = wanted or re.sub(r"[^a-z0-9-]", "-", found.cluster.lower()).lstrip("0123456789-")[:31]
    if not _CLUSTER.fullmatch(name):
        words = f"found {wanted or found.cluster!a}, expected 1 to 31 of a-z, 0-9 and -, a letter first"
        raise UsageFault("cluster name", words, "name it yourself: hpcli cluster adopt NAME")
    return name


def shapes(nodes: Sequence[FoundNode]) -> tuple[Shape, ...]:
    """Fold nodes into groups of equal shape, named by a partition that has just those, or by their prefix."""
    by_shape: dict[tuple[int, int, str, int], list[FoundNode]] = {}
    for node in nodes:
        by_shape.setdefault((node.cpus, node.memory, node.gpu_type, node.gpus), []).append(node)
    members: dict[str, set[str]] = {}
    for node in nodes:
        for partition in node.partitions:
            members.setdefault(partition, set()).add(node.name)
    names: list[str] = []
    for group in by_shape.values():
        names.append(_unused(_group_name(group, members), names))
    return tuple(Shape(name, tuple(group)) for name, group in zip(names, by_shape.values(), strict=True))


def spec_text(found: Found, reach: Reach, choice: Choice) -> str:
    """Write a cluster.yaml for provider adopted."""
    parts = (_head(found, choice), _hosts(found, reach), _compute(found), _adopted(found, choice))
    own = [choice.sections.get(section) or _care(section, reach, choice) for section in CARE]
    return "\n".join(part for part in (*("".join(f"{line}\n" for line in part) for part in parts), *own) if part)


def _head(found: Found, choice: Choice) -> Iterator[str]:
    yield f"# Cluster {_plain(found.cluster)} with Slurm {_plain(found.release)}, as hpcli cluster adopt found it."
    yield "# Slurm's configuration stays the site's; to read it again: hpcli cluster adopt --update, with --ssh."
    for one in found.left_out:
        yield f"# Left out: {_plain(one.what)}: {_plain(one.why)}"
    yield f"name: {choice.name}"
    yield "provider: adopted"
    if found.series in KNOWN:
        yield f'slurm: {{version: "{found.series}"}}'
    yield "controller:"
    yield f"  name: {_text(found.controller)}"


def _hosts(found: Found, reach: Reach) -> Iterator[str]:
    """Every machine, how it is reached."""
    addresses = _addresses(found, reach)
    if not (reach.user or reach.port or reach.identity or reach.known_hosts or addresses):
        return
    yield "hosts:    # how hpcli reaches the machines: as root, or as somebody with sudo"
    keys = (("user", reach.user), ("identity", reach.identity), ("known_hosts", reach.known_hosts))
    yield from (f"  {key}: {_text(value)}" for key, value in keys if value)
    if reach.port:
        yield f"  port: {reach.port}    # the same on every machine"
    if addresses:
        yield "  addresses:    # of machines that are not reached by their name"
        yield from (f"    {_text(names)}: {_text(there)}" for names, there in addresses)


def _addresses(found: Found, reach: Reach) -> list[tuple[str, str]]:
    known = {found.controller: found.address or found.controller} | {one.name: one.address for one in found.nodes}
    here = {**{name: address for name, address in known.items() if name != address}, **reach.addresses}
    return list(_runs(sorted(here.items(), key=lambda pair: _order(pair[0]))))


def _runs(pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Pairs whose last numbers count up together, as two hostlists in the same order."""
    run: list[tuple[str, str]] = []
    for pair in pairs:
        if run and not all(_follows(run[0][i], len(run), pair[i]) for i in (0, 1)):
            yield _range([name for name, _ in run]), _range([there for _, there in run])
            run = []
        run.append(pair)
    if run:
        yield _range([name for name, _ in run]), _range([there for _, there in run])


def _follows(first: str, steps: int, text: str) -> bool:
    counted = _counted(first)
    if counted is None:
        return False
    head, digits, tail = counted
    return text == f"{head}{str(int(digits) + steps).zfill(len(digits))}{tail}"


def _range(texts: Sequence[str]) -> str:
    first, last = _counted(texts[0]), _counted(texts[-1])
    if len(texts) == 1 or first is None or last is None:
        return texts[0]
    return f"{first[0]}[{first[1]}-{last[1]}]{first[2]}"


def _counted(text: str) -> tuple[str, str, str] | None:
    """Before, of and behind the last number."""
    found = re.fullmatch(r"(.*?)(\d+)(\D*)", text, re.DOTALL)
    if found is None or len(found[2]) > 8:
        return None
    return found[1], found[2], found[3]


def _order(name: str) -> list[tuple[bool, int, str]]:
    """As people count: c2 before c10."""
    parts = ("".join(part) for _, part in groupby(name, str.isdecimal))
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def _compute(found: Found) -> Iterator[str]:
    yield "compute:    # nodes of one shape each, as slurm.conf has them"
    for shape in shapes(found.nodes):
        first = shape.nodes[0]
        yield f"  - name: {_text(shape.name)}"
        yield f"    nodes: {_text(fold(node.name for node in shape.nodes))}"
        yield f"    cpus: {first.cpus}"
        yield f"    memory: {first.memory}    # MiB"
        if first.gpus:
            gpus = f"type: {_text(first.gpu_type)}, count: {first.gpus}"
            yield f"    gpus: {{{gpus}}}    # device files /dev/nvidia* there"


def _group_name(group: Sequence[FoundNode], members: Mapping[str, set[str]]) -> str:
    names = {node.name for node in group}
    for partition in sorted(members):
        if members[partition] == names and is_word(partition):
            return partition
    prefix = re.sub(r"[\d_.-]*$", "", re.split(r"\d", min(names))[0])
    return prefix if is_word(prefix) and all(name.startswith(prefix) for name in names) else "nodes"


def _unused(name: str, used: Sequence[str]) -> str:
    numbered = (f"{name[:56]}-{number}" for number in range(2, len(used) + 3))
    return name if name not in used else next(one for one in numbered if one not in used)


def _adopted(found: Found, choice: Choice) -> Iterator[str]:
    yield "adopted:    # Slurm as it stands; hpcli changes none of it"
    yield f"  slurm_conf: {_text(found.slurm_conf)}"
    if choice.programs:
        yield f"  programs: {_text(choice.programs)}"
    yield f"  slurm_user: {_text(found.slurm_user)}"
    yield f"  slurm_uid: {found.slurm_uid}"
    yield f"  state: {_text(found.state)}"
    yield f"  munge_socket: {_text(found.munge_socket)}"
    yield f"  slurmd_pid: {_text(found.slurmd_pid)}"
    if found.prolog_flags:
        yield f"  prolog_flags: {_list(found.prolog_flags)}"
    if choice.chain:
        yield "  # Your own Prolog: hpcli's runs it after its gate."
        yield f"  chain_prolog: {_list(choice.chain)}"
    if choice.python:
        yield f"  python: {_text(choice.python)}"


def _care(section: str, reach: Reach, choice: Choice) -> str:
    if section == "login" and reach.login:
        return f"login:\n  nodes: {_text(reach.login)}\n"
    if section != "recovery":
        return ""
    return (
        "# observe: everything is checked, decided and journaled, nothing is done. Look at what it would have done,\n"
        "# hpcli recovery history, then write act here and: hpcli cluster apply.\n"
        f"recovery: {{mode: {choice.mode}}}\n"
    )


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(_text(value) for value in values)}]"


def _text(value: str) -> str:
    return json.dumps(value)


def _plain(value: str) -> str:
    return _UNPRINTED.sub("?", value)
