"""Rules about partitions: which nodes they may name."""

from collections.abc import Iterator

from hpcli.spec.hostlist import expand, fold
from hpcli.spec.model import Spec
from hpcli.spec.problems import Finding, show
from hpcli.spec.rules.rule import NODE_NAMES, Limits, Rule, close, doubles


def _unique_partitions(spec: Spec, _: Limits) -> Iterator[Finding]:
    yield from doubles(("partitions",), "name", "partition", [partition.name for partition in spec.partitions])


def _partition_nodes(spec: Spec, _: Limits) -> Iterator[Finding]:
    known, login = set(spec.node_names), set(spec.login_names)
    for i, partition in enumerate(spec.partitions):
        named = expand(partition.nodes) if partition.nodes is not None else ()
        missing = [name for name in named if name not in known]
        people = [name for name in missing if name in login]
        unknown = [name for name in missing if name not in login]
        if people:
            found = f"login node{'s' if len(people) > 1 else ''} {fold(people)}"
            yield Finding(("partitions", i, "nodes"), found, "compute nodes: login nodes take no jobs")
        if unknown:
            expected = f"nodes of a compute group ({fold(known)})"
            yield Finding(("partitions", i, "nodes"), f"unknown {fold(unknown)}", expected)


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
                yield Finding(("partitions", i, "groups", j), show(group), expected, close(group, known))


def _one_default(spec: Spec, _: Limits) -> Iterator[Finding]:
    defaults = [i for i, partition in enumerate(spec.partitions) if partition.default]
    for i in defaults[1:]:
        first = spec.partitions[defaults[0]].name
        yield Finding(("partitions", i, "default"), f"a second default (after {show(first)})", "one default partition")


RULES = (
    Rule(_unique_partitions),
    Rule(_partition_nodes, (*NODE_NAMES, "login"), expands=True),
    Rule(_partition_groups, ("compute.name",)),
    Rule(_one_default),
)
