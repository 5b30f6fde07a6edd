"""Rules about the network (topology.conf(5)): every node has one place in it."""

from collections.abc import Iterator, Sequence

from hpcli.spec.hostlist import expand, fold
from hpcli.spec.model import Spec
from hpcli.spec.problems import Finding, Loc, show
from hpcli.spec.rules.rule import NODE_NAMES, Limits, Rule, doubles
from hpcli.spec.site import Topology

SWITCHES: Loc = ("topology", "switches")
BLOCKS: Loc = ("topology", "blocks")
SIZES: Loc = ("topology", "block_sizes")
MAX_LEVELS = 16
"""Sizes of blocks in one list (MAX_BLOCK_LEVELS in Slurm's topology/block)."""


def _plugin(spec: Spec, _: Limits) -> Iterator[Finding]:
    topology = spec.topology
    if topology is None:
        return
    tree = topology.plugin == "tree"
    if not (topology.switches if tree else topology.blocks):
        yield Finding(("topology",), f"no {'switches' if tree else 'blocks'}", f"some, for plugin {topology.plugin}")
    if tree and (topology.blocks or topology.block_sizes):
        key = "blocks" if topology.blocks else "block_sizes"
        yield Finding(("topology", key), f"{key} beside plugin tree", "switches alone, or plugin: block")
    if not tree and topology.switches:
        yield Finding(SWITCHES, "switches beside plugin block", "blocks alone, or plugin: tree")
    if not tree and spec.slurm.version == "22.05":
        yield Finding(("topology", "plugin"), '"block" with Slurm 22.05', "tree: block came with Slurm 24.05")


def _switches(spec: Spec, _: Limits) -> Iterator[Finding]:
    if not _is(spec.topology, "tree"):
        return
    switches = spec.topology.switches if spec.topology else ()
    yield from doubles(SWITCHES, "name", "switch", [switch.name for switch in switches])
    for i, switch in enumerate(switches):
        if switch.nodes is None and switch.switches is None:
            yield Finding((*SWITCHES, i), "neither nodes nor switches", "one of them")
        if switch.nodes is not None and switch.switches is not None:
            yield Finding((*SWITCHES, i, "switches"), "both nodes and switches", "one of them")


def _tree(spec: Spec, _: Limits) -> Iterator[Finding]:
    if not _is(spec.topology, "tree"):
        return
    switches = spec.topology.switches if spec.topology else ()
    names = [switch.name for switch in switches]
    below = {switch.name: expand(switch.switches) if switch.switches else () for switch in switches}
    parents: dict[str, str] = {}
    for i, name in enumerate(names):
        loc = (*SWITCHES, i, "switches")
        unknown = [child for child in below[name] if child not in below]
        if unknown:
            yield Finding(loc, f"unknown {fold(unknown)}", f"switches of this tree ({fold(names)})")
        for child in below[name]:
            if parents.setdefault(child, name) != name:
                yield Finding(loc, f"{child}, which is below {parents[child]} already", "each switch below one other")
    yield from _circles(names, parents)


def _circles(names: Sequence[str], parents: dict[str, str]) -> Iterator[Finding]:
    told: set[str] = set()
    for i, name in enumerate(names):
        chain, here = [name], parents.get(name)
        while here is not None and here not in chain:
            chain.append(here)
            here = parents.get(here)
        if here == name and name not in told:
            told.update(chain)
            found = f"a circle: {' below '.join([*chain, name])}"
            yield Finding((*SWITCHES, i, "switches"), found, "a tree of switches")


def _leaves(spec: Spec, _: Limits) -> Iterator[Finding]:
    if _is(spec.topology, "tree") and spec.topology and spec.topology.switches:
        listed = [switch.nodes for switch in spec.topology.switches]
        yield from _cover(spec, SWITCHES, [switch.name for switch in spec.topology.switches], listed, "leaf switch")


def _blocks(spec: Spec, _: Limits) -> Iterator[Finding]:
    if not _is(spec.topology, "block") or not (spec.topology and spec.topology.blocks):
        return
    topology = spec.topology
    names = [block.name for block in topology.blocks]
    yield from doubles(BLOCKS, "name", "block", names)
    yield from _cover(spec, BLOCKS, names, [block.nodes for block in topology.blocks], "block")
    base = topology.block_sizes[0] if topology.block_sizes else 1
    for i, block in enumerate(topology.blocks):
        size = len(expand(block.nodes))
        if size < base:
            expected = f"at least {base}, the first of block_sizes"
            yield Finding((*BLOCKS, i, "nodes"), f"{size} node{'s' if size > 1 else ''}", expected)


def _sizes(spec: Spec, _: Limits) -> Iterator[Finding]:
    sizes = spec.topology.block_sizes if spec.topology else ()
    if len(sizes) > MAX_LEVELS:
        yield Finding(SIZES, f"{len(sizes)} sizes", f"at most {MAX_LEVELS}")
    for i, size in enumerate(sizes):
        if size < 1:
            yield Finding((*SIZES, i), show(size), "at least 1")
        elif i and size <= sizes[i - 1]:
            yield Finding((*SIZES, i), show(size), f"more than the {sizes[i - 1]} before it")
        elif sizes[0] >= 1 and (size % sizes[0] or not _power_of_two(size // sizes[0])):
            near = sizes[0] * 2 ** (size // sizes[0]).bit_length()
            yield Finding((*SIZES, i), show(size), f"{sizes[0]} times a power of two, such as {near}")


def _power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


def _is(topology: Topology | None, plugin: str) -> bool:
    return topology is not None and topology.plugin == plugin


def _cover(spec: Spec, loc: Loc, names: Sequence[str], listed: Sequence[str | None], what: str) -> Iterator[Finding]:
    """Each compute node in one of the lists, and nothing else in them."""
    known, owner = set(spec.node_names), dict[str, int]()
    for i, text in enumerate(listed):
        own = expand(text) if text is not None else ()
        unknown = [name for name in own if name not in known]
        if unknown:
            yield Finding((*loc, i, "nodes"), f"unknown {fold(unknown)}", "nodes of a compute group")
        both = [name for name in own if owner.setdefault(name, i) != i]
        if both:
            found = f"{fold(both)} again (already on {names[owner[both[0]]]})"
            yield Finding((*loc, i, "nodes"), found, f"each node on one {what}")
    left_out = [name for name in spec.node_names if name not in owner]
    if left_out:
        yield Finding(loc, f"{fold(left_out)} left out", f"every compute node on a {what}")


RULES = (
    Rule(_plugin, ("topology", "slurm")),
    Rule(_switches, ("topology",)),
    Rule(_tree, ("topology",), expands=True),
    Rule(_leaves, ("topology", *NODE_NAMES), expands=True),
    Rule(_blocks, ("topology", *NODE_NAMES), expands=True),
    Rule(_sizes, ("topology.block_sizes",)),
)
