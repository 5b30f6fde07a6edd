"""Node lines of slurm.conf and gres.conf, folded so that 10,000 like nodes are a few lines."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from hpcli.errors import HpcliError
from hpcli.render import safe
from hpcli.render.sequence import fold_in_order, fold_sorted, split
from hpcli.render.site import NodeSite, SlurmSite
from hpcli.spec.model import Spec
from hpcli.spec.nodes import NodeSpec


@dataclass(frozen=True, slots=True)
class _Row:
    """One node: its names, what follows them, and what must be equal for two rows to share a line."""

    name: str
    hostname: str
    address: str
    rest: str
    shape: tuple[str, ...]


def node_lines(spec: Spec, site: SlurmSite) -> tuple[str, ...]:
    """Give NodeName lines, in the order of the spec. Neighbours that differ in numbers alone share a line."""
    rests: dict[tuple[object, ...], str] = {}
    rows = (_row(node, site, rests) for node in spec.nodes)
    return tuple(_line(list(run)) for _, run in groupby(rows, attrgetter("shape")))


def gres_lines(spec: Spec, site: SlurmSite) -> Iterator[str]:
    """Give a line of gres.conf for all nodes with the same GPUs."""
    alike: dict[tuple[str, int, str], list[str]] = {}
    for node in spec.nodes:
        if node.gpu_count:
            alike.setdefault((node.gpu_type, node.gpu_count, site.nodes[node.name].devices), []).append(node.name)
    for (gpu_type, count, folder), names in alike.items():
        devices = safe.path("device folder", folder)
        files = f"{devices}/nvidia{'0' if count == 1 else f'[0-{count - 1}]'}"
        yield f"NodeName={fold_sorted(names)} Name=gpu Type={safe.word('GPU type', gpu_type)} File={files}"


def _row(node: NodeSpec, site: SlurmSite, rests: dict[tuple[object, ...], str]) -> _Row:
    place = site.nodes[node.name]
    kind = (node.group, node.weight, place.port)
    rest = rests.get(kind)
    if rest is None:
        rest = rests[kind] = _rest(node, place)
    name = safe.word("node name", node.name)
    hostname = safe.host("node host name", place.hostname)
    address = safe.address("node address", place.address)
    if not site.shared_machine:
        # Slurm's defaults: NodeHostname is the name, NodeAddr the host name.
        address = "" if address == hostname else address
        hostname = "" if hostname == name else hostname
    return _Row(name, hostname, address, rest, (rest, *map(_pattern, (name, hostname, address))))


def _pattern(name: str) -> str:
    """What names on one line have in common; a name without a number has nothing in common with any other."""
    prefix, number = split(name)
    return f"{prefix}#" if number else name


def _line(run: list[_Row]) -> str:
    first = run[0]
    hostnames = f" NodeHostname={_column([row.hostname for row in run])}" if first.hostname else ""
    addresses = f" NodeAddr={_column([row.address for row in run])}" if first.address else ""
    return f"NodeName={fold_in_order(row.name for row in run)}{hostnames}{addresses}{first.rest}"


def _column(names: list[str]) -> str:
    """What all nodes of a line share is written once."""
    return names[0] if len(set(names)) == 1 else fold_in_order(names)


def _rest(node: NodeSpec, place: NodeSite) -> str:
    gpus = f" Gres=gpu:{safe.word('GPU type', node.gpu_type)}:{node.gpu_count}" if node.gpu_count else ""
    features = f" Feature={','.join(safe.word('feature', one) for one in node.features)}" if node.features else ""
    return (
        f" Port={safe.port('slurmd port', place.port)} CPUs={node.cpus}{_cores(node)} RealMemory={node.memory}"
        f"{gpus}{features} Weight={node.weight}"
    )


def _cores(node: NodeSpec) -> str:
    if not node.sockets and not node.threads:
        return ""
    sockets, threads = node.sockets or 1, node.threads or 1
    cores, left = divmod(node.cpus, sockets * threads)
    if left or not cores:
        found = f"{node.cpus} CPUs on {sockets} sockets with {threads} threads per core"
        raise HpcliError(f"node {node.name}", f"found {found}, expected a multiple of {sockets * threads} CPUs")
    return f" Sockets={sockets} CoresPerSocket={cores} ThreadsPerCore={threads}"
