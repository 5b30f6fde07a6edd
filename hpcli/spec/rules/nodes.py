"""Rules about controller, login nodes and compute groups: how many there are, what they are called, what they have."""

from collections.abc import Iterable, Iterator

from hpcli.spec.hostlist import fold
from hpcli.spec.model import Spec
from hpcli.spec.problems import Finding, Loc, show
from hpcli.spec.rules.rule import NODE_NAMES, PLACE_NAMES, Limits, Rule, declared, doubles

DAEMON_PORTS = 4
"""Ports beside the nodes': slurmctld, slurmdbd, hpcli's controller and its health page."""


def _one_controller(spec: Spec, _: Limits) -> Iterator[Finding]:
    if spec.controller.count != 1:
        yield Finding(("controller", "count"), show(spec.controller.count), "1: a cluster has one controller for now")


def _login_names(spec: Spec, _: Limits) -> Iterator[Finding]:
    if spec.login.nodes is not None and spec.login.count:
        yield Finding(("login", "count"), "both nodes and count", "one of them")


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


def _unique_groups(spec: Spec, _: Limits) -> Iterator[Finding]:
    yield from doubles(("compute",), "name", "group", [group.name for group in spec.compute])


def _node_limit(spec: Spec, limits: Limits) -> Iterator[Finding]:
    total, limit = declared(spec), limits.most_nodes(spec.provider)
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
        for first, both in shared.items():
            found = f"{fold(both)} again (already in group {show(spec.compute[first].name)})"
            yield Finding(_names_of(spec, i), found, "each node in one group")


def _names_of(spec: Spec, i: int) -> Loc:
    return ("compute", i, "nodes" if spec.compute[i].nodes is not None else "count")


def _roles(spec: Spec, _: Limits) -> Iterator[Finding]:
    """Machines of a local cluster are all this one."""
    if spec.provider == "local":
        return
    controller, login = spec.controller.name, set(spec.login_names)
    if controller in login:
        yield Finding(("controller", "name"), f"{controller}, which is a login node", "a machine of its own")
    for i, names in enumerate(spec.group_nodes):
        if controller in names:
            expected = "other names: the controller's machine takes no jobs"
            yield Finding(_names_of(spec, i), f"{controller}, the controller", expected)
        both = login.intersection(names)
        if both:
            found = f"{fold(both)}, which {'is a login node' if len(both) == 1 else 'are login nodes'}"
            yield Finding(_names_of(spec, i), found, "other names: login nodes take no jobs")


def _spares(spec: Spec, _: Limits) -> Iterator[Finding]:
    for i, (group, names) in enumerate(zip(spec.compute, spec.group_nodes, strict=True)):
        if names and group.spares >= len(names):
            expected = f"at most {len(names) - 1}: the group has {len(names)} node{'s' if len(names) > 1 else ''}"
            yield Finding(("compute", i, "spares"), show(group.spares), expected)


def _sockets(spec: Spec, _: Limits) -> Iterator[Finding]:
    for i, group in enumerate(spec.compute):
        parts = (group.sockets or 1) * (group.threads or 1)
        if group.cpus % parts:
            key = "sockets" if group.sockets else "threads"
            found = f"{group.sockets or 1} sockets of {group.threads or 1} threads per core"
            yield Finding(("compute", i, key), found, f"sockets x threads that divide the {group.cpus} cpus")


def _ports(spec: Spec, limits: Limits) -> Iterator[Finding]:
    needed, first = declared(spec) + DAEMON_PORTS, spec.local.first_port
    if spec.provider != "local" or first is None or needed > limits.most_nodes("local") + DAEMON_PORTS:
        return
    if first + needed - 1 > 65535:
        expected = f"at most {65536 - needed}: {needed} ports are needed up to 65535"
        yield Finding(("local", "first_port"), show(first), expected)


RULES = (
    Rule(_one_controller),
    Rule(_login_names),
    Rule(_some_compute),
    Rule(_nodes_or_count, ("compute.nodes", "compute.count")),
    Rule(_unique_groups),
    Rule(_node_limit, ("provider",)),
    Rule(_listed_overlaps, expands=True),
    Rule(_counted_overlaps, ("compute.count", "compute.prefix"), expands=True),
    Rule(_roles, ("provider", *PLACE_NAMES), expands=True),
    Rule(_spares, expands=True),
    Rule(_sockets, ("compute.cpus", "compute.sockets", "compute.threads")),
    Rule(_ports, ("provider", *NODE_NAMES)),
)
