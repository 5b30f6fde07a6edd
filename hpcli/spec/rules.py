"""What must hold between the fields of a spec. Each rule yields a finding per fault, and knows no lines.

A rule is skipped while a field that it reads is itself broken: its verdict would be about our repair
of the file, not about the file.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from hpcli.errors import HpcliError
from hpcli.spec.hostlist import MAX_NODES, expand, fold, size_bound
from hpcli.spec.model import Spec
from hpcli.spec.problems import Finding, show

LOCAL_MAX_NODES = 256
"""slurmd processes that 2 cores carry (measured on Slurm 22.05, 24.11 and 26.05)."""

DAEMON_PORTS = 4
"""Ports beside the nodes': slurmctld, slurmdbd, hpcli's controller and its health page."""


HealthFault = Callable[[str, str, Mapping[str, object]], HpcliError | None]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the provider and the health catalogue allow. No `known_checks` means any name will do.

    `health_fault` judges the section (`checks` or `kernel_log`), key and value of one override.
    """

    max_nodes: int = LOCAL_MAX_NODES
    known_checks: frozenset[str] | None = None
    health_fault: HealthFault | None = None


Check = Callable[[Spec, Limits], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A check, the fields it cannot do without (dotted, list positions left out), and whether it expands names."""

    check: Check
    reads: tuple[str, ...] = ()
    expands: bool = False


def judge(spec: Spec, limits: Limits, broken: Iterable[str] = ()) -> tuple[Finding, ...]:
    """Apply every rule that does not read a broken field (dotted, list positions left out)."""
    faulty = tuple(broken)
    huge = _declared(spec) > MAX_NODES
    rules = (rule for rule in RULES if not (rule.expands and huge) and not _touches(rule.reads, faulty))
    return tuple(finding for rule in rules for finding in rule.check(spec, limits))


def _touches(reads: tuple[str, ...], faulty: tuple[str, ...]) -> bool:
    return any(f"{one}.".startswith(f"{two}.") or f"{two}.".startswith(f"{one}.") for one in reads for two in faulty)


def _declared(spec: Spec) -> int:
    return sum(size_bound(group.nodes) if group.nodes else group.count or 0 for group in spec.compute)


def _one_controller(spec: Spec, _: Limits) -> Iterator[Finding]:
    if spec.controller.count != 1:
        yield Finding(("controller", "count"), show(spec.controller.count), "1: a cluster has one controller for now")


def _login_nodes(spec: Spec, _: Limits) -> Iterator[Finding]:
    if spec.provider == "local" and spec.login.count:
        expected = "0: provider local simulates no login nodes, this machine is one"
        yield Finding(("login", "count"), show(spec.login.count), expected)


def _some_compute(spec: Spec, _: Limits) -> Iterator[Finding]:
    if not spec.compute:
        yield Finding(("compute",), "an empty list", "at least one group")


def _nodes_or_count(spec: Spec, _: Limits) -> Iterator[Finding]:
    for i, group in enumerate(spec.compute):
        if group.nodes is None and group.count is None:
            yield Finding(("compute", i), "neither nodes nor count", "one of them")
        if group.nodes is not None and group.count is not None:
            yield Finding(("compute", i, "count"), "both nodes and count", "one of them")
        if group.nodes is not None and group.prefix is not None:
            yield Finding(("compute", i, "prefix"), "prefix beside nodes", "prefix beside count only")


def _unique_names(spec: Spec, _: Limits) -> Iterator[Finding]:
    yield from _doubles("compute", "group", [group.name for group in spec.compute])
    yield from _doubles("partitions", "partition", [partition.name for partition in spec.partitions])


def _doubles(section: str, word: str, names: list[str]) -> Iterator[Finding]:
    for i, name in enumerate(names):
        if name in names[:i]:
            yield Finding((section, i, "name"), f"a second {word} {show(name)}", "each name once")


def _node_limit(spec: Spec, limits: Limits) -> Iterator[Finding]:
    total, limit = _declared(spec), min(limits.max_nodes, MAX_NODES)
    if total > limit:
        yield Finding(("compute",), f"{total} nodes", f"at most {limit} with provider {spec.provider}")


def _listed_overlaps(spec: Spec, _: Limits) -> Iterator[Finding]:
    listed = [i for i, group in enumerate(spec.compute) if group.nodes is not None]
    yield from _overlaps(spec, listed)


def _counted_overlaps(spec: Spec, _: Limits) -> Iterator[Finding]:
    """Numbering goes on from group to group, so one broken count makes all of it unknown."""
    listed = [i for i, group in enumerate(spec.compute) if group.nodes is not None]
    known = set(_overlaps(spec, listed))
    yield from (finding for finding in _overlaps(spec, range(len(spec.compute))) if finding not in known)


def _overlaps(spec: Spec, chosen: Iterable[int]) -> Iterator[Finding]:
    owner: dict[str, int] = {}
    for i in chosen:
        shared: dict[int, list[str]] = {}
        for name in spec.group_nodes[i]:
            first = owner.setdefault(name, i)
            if first != i:
                shared.setdefault(first, []).append(name)
        key = "nodes" if spec.compute[i].nodes is not None else "count"
        for first, doubles in shared.items():
            found = f"{fold(doubles)} again (already in group {show(spec.compute[first].name)})"
            yield Finding(("compute", i, key), found, "each node in one group")


def _spares(spec: Spec, _: Limits) -> Iterator[Finding]:
    for i, (group, names) in enumerate(zip(spec.compute, spec.group_nodes, strict=True)):
        if names and group.spares >= len(names):
            expected = f"at most {len(names) - 1}: the group has {len(names)} node{'s' if len(names) > 1 else ''}"
            yield Finding(("compute", i, "spares"), show(group.spares), expected)


def _partition_nodes(spec: Spec, _: Limits) -> Iterator[Finding]:
    known = set(spec.node_names)
    for i, partition in enumerate(spec.partitions):
        named = expand(partition.nodes) if partition.nodes is not None else ()
        missing = [name for name in named if name not in known]
        if missing:
            expected = f"nodes of a compute group ({fold(known)})"
            yield Finding(("partitions", i, "nodes"), f"unknown {fold(missing)}", expected)


def _partition_groups(spec: Spec, _: Limits) -> Iterator[Finding]:
    known = tuple(group.name for group in spec.compute)
    for i, partition in enumerate(spec.partitions):
        if partition.nodes is not None and partition.groups is not None:
            yield Finding(("partitions", i, "groups"), "both nodes and groups", "one of them")
        if partition.groups == ():
            yield Finding(("partitions", i, "groups"), "an empty list", f"some of {', '.join(known)}")
        for j, group in enumerate(partition.groups or ()):
            if group not in known:
                expected = f"a compute group ({', '.join(known)})"
                yield Finding(("partitions", i, "groups", j), show(group), expected, _close(group, known))


def _one_default(spec: Spec, _: Limits) -> Iterator[Finding]:
    defaults = [i for i, partition in enumerate(spec.partitions) if partition.default]
    for i in defaults[1:]:
        first = spec.partitions[defaults[0]].name
        yield Finding(("partitions", i, "default"), f"a second default (after {show(first)})", "one default partition")


def _ports(spec: Spec, limits: Limits) -> Iterator[Finding]:
    needed = _declared(spec) + DAEMON_PORTS
    first = spec.local.first_port
    if first is not None and needed <= limits.max_nodes + DAEMON_PORTS and first + needed - 1 > 65535:
        expected = f"at most {65536 - needed}: {needed} ports are needed up to 65535"
        yield Finding(("local", "first_port"), show(first), expected)


def _checks(spec: Spec, limits: Limits) -> Iterator[Finding]:
    for name, parameters in spec.health.checks.items():
        loc = ("health", "checks", name)
        if limits.known_checks is not None and name not in limits.known_checks:
            expected = f"one of {', '.join(sorted(limits.known_checks))}"
            yield Finding(loc, "an unknown check", expected, _close(name, limits.known_checks))
        if not isinstance(parameters.get("enabled", True), bool):
            yield Finding((*loc, "enabled"), show(parameters["enabled"]), "true or false")


def _health_overrides(spec: Spec, limits: Limits) -> Iterator[Finding]:
    """The agents' own judgement, told with file and line."""
    sections = {"checks": spec.health.checks, "kernel_log": spec.health.kernel_log}
    for section, overrides in sections.items():
        for key, value in overrides.items():
            fault = limits.health_fault(section, key, value) if limits.health_fault else None
            if fault:
                found, _, expected = fault.message.removeprefix("found ").partition(", expected ")
                near = fault.hint.removeprefix("did you mean ").rstrip("?") if "did you mean" in fault.hint else ""
                yield Finding(("health", section, key), found, expected, near)


def _close(word: str, known: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), "")


_NAMES = ("compute.nodes", "compute.count", "compute.prefix")
RULES: tuple[Rule, ...] = (
    Rule(_one_controller),
    Rule(_login_nodes, ("provider",)),
    Rule(_some_compute),
    Rule(_nodes_or_count, ("compute.nodes", "compute.count")),
    Rule(_unique_names),
    Rule(_node_limit, ("provider",)),
    Rule(_listed_overlaps, expands=True),
    Rule(_counted_overlaps, ("compute.count", "compute.prefix"), expands=True),
    Rule(_spares, expands=True),
    Rule(_partition_nodes, _NAMES, expands=True),
    Rule(_partition_groups, ("compute.name",)),
    Rule(_one_default),
    Rule(_ports, _NAMES),
    Rule(_checks),
    Rule(_health_overrides, ("health.checks", "health.kernel_log")),
)
