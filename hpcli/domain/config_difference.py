"""What differs between two slurm.conf or gres.conf by their meaning, and what each difference costs."""

from collections.abc import Iterable, Iterator, Mapping

from hpcli.domain import disruption
from hpcli.domain.change import Change, Disruption
from hpcli.domain.disruption import Cost, Version
from hpcli.domain.names import fold
from hpcli.domain.slurm_conf import Line, SlurmConf, nodes_of, parse_gres_conf, parse_slurm_conf, shown

MOST_KINDS = 3
"""Values of one key that differ from node to node are summed up beyond this many."""


def slurm_conf_changes(before: str, after: str, version: Version) -> Iterator[Change]:
    """Parameter by parameter, node by node with the names folded, partition by partition."""
    old, new = parse_slurm_conf(before), parse_slurm_conf(after)
    spelling = {**old.spelling, **new.spelling}
    yield from _parameters(old, new, spelling, version)
    yield from _nodes(old, new, spelling, version)
    yield from _partitions(old, new, spelling)


def gres_changes(before: str, after: str, staying: frozenset[str]) -> Iterator[Change]:
    """By node; those that come or go as a whole are told by slurm.conf."""
    old, new = parse_gres_conf(before), parse_gres_conf(after)
    cost = disruption.of_gres()
    kinds: dict[tuple[str, str], list[str]] = {}
    for name in sorted(old.keys() | new.keys()):
        pair = (old.get(name, ""), new.get(name, ""))
        if pair[0] != pair[1] and (name in staying or not name):
            kinds.setdefault(pair, []).append(name)
    for (was, will), names in _few(kinds):
        hosts = fold(sorted(staying)) if names == [""] else fold(names)
        yield Change(f"gres of {hosts}", was, will, cost.disruption, hosts, cost.why)


def _parameters(old: SlurmConf, new: SlurmConf, spelling: Line, version: Version) -> Iterator[Change]:
    everybody = fold(old.nodes)
    for key in sorted(old.parameters.keys() | new.parameters.keys()):
        was, will = old.parameters.get(key, ""), new.parameters.get(key, "")
        if was == will and (key in old.parameters) == (key in new.parameters):
            continue
        cost = disruption.of_parameter(key, version)
        hosts = everybody if cost.disruption >= Disruption.DRAIN else ""
        yield Change(f"parameter {spelling.get(key, key)}", was, will, cost.disruption, hosts, cost.why)


def _nodes(old: SlurmConf, new: SlurmConf, spelling: Line, version: Version) -> Iterator[Change]:
    yield from _whole(new, old, spelling, disruption.of_new_nodes(version), added=True)
    yield from _whole(old, new, spelling, disruption.of_gone_nodes(), added=False)
    kinds: dict[str, dict[tuple[str, str], list[str]]] = {}
    for name, line in new.nodes.items():
        before = old.nodes.get(name)
        if before is None or before == line:
            continue
        for key in line.keys() | before.keys():
            pair = (before.get(key, ""), line.get(key, ""))
            if pair[0] != pair[1]:
                kinds.setdefault(key, {}).setdefault(pair, []).append(name)
    for key in sorted(kinds):
        cost = disruption.of_node_value(key)
        for (was, will), names in _few(kinds[key]):
            hosts = fold(names)
            yield Change(f"node {hosts}: {spelling.get(key, key)}", was, will, cost.disruption, hosts, cost.why)


def _whole(having: SlurmConf, other: SlurmConf, spelling: Line, cost: Cost, *, added: bool) -> Iterator[Change]:
    """Nodes that only one side has, those with the same values on one line; where each is reached is left out."""
    kinds: dict[str, list[str]] = {}
    for name, line in having.nodes.items():
        if name not in other.nodes:
            short = {key: value for key, value in line.items() if key not in ("nodehostname", "nodeaddr", "port")}
            kinds.setdefault(shown(short, spelling), []).append(name)
    for text, names in kinds.items():
        hosts = fold(names)
        before, after = ("", text) if added else (text, "")
        yield Change(f"node {hosts}", before, after, cost.disruption, hosts, cost.why)


def _partitions(old: SlurmConf, new: SlurmConf, spelling: Line) -> Iterator[Change]:
    for name in sorted(old.partitions.keys() | new.partitions.keys()):
        was, will = old.partitions.get(name), new.partitions.get(name)
        if was == will:
            continue
        cost = disruption.of_partition(was is not None, will is not None)
        if was is None or will is None:
            hosts = fold(nodes_of(was or {}) & old.nodes.keys()) if was else ""
            before, after = (shown(line, spelling) if line else "" for line in (was, will))
            yield Change(f"partition {name}", before, after, cost.disruption, hosts, cost.why)
            continue
        for key in sorted(was.keys() | will.keys()):
            pair = _partition_values(key, was, will)
            if pair[0] != pair[1]:
                yield Change(f"partition {name}: {spelling.get(key, key)}", *pair, cost.disruption)


def _partition_values(key: str, was: Line, will: Line) -> tuple[str, str]:
    if key != "nodes":
        return was.get(key, ""), will.get(key, "")
    return fold(nodes_of(was)), fold(nodes_of(will))


def _few(kinds: Mapping[tuple[str, str], list[str]]) -> Iterable[tuple[tuple[str, str], list[str]]]:
    if len(kinds) <= MOST_KINDS:
        return kinds.items()
    names = [name for some in kinds.values() for name in some]
    return [(("(one value each)", "(another value each)"), names)]
