"""The network of a cluster: topology.conf(5), or topology.yaml(5) where Slurm has it."""

from collections.abc import Iterable, Iterator, Mapping

from hpcli.errors import HpcliError
from hpcli.render import safe
from hpcli.render.engine import render
from hpcli.render.sequence import fold_sorted
from hpcli.spec.hostlist import expand
from hpcli.spec.model import Spec
from hpcli.spec.site import Topology

BLOCK_SINCE = (24, 5)
YAML_SINCE = (25, 5)


def topology_plugin(spec: Spec, version: tuple[int, int]) -> tuple[tuple[str, str], ...]:
    """Give the parameter of slurm.conf. Raises `HpcliError` for a topology that this Slurm does not have."""
    if spec.topology is None:
        return ()
    if spec.topology.plugin == "block" and version < BLOCK_SINCE:
        found = ".".join(f"{part:02d}" for part in version)
        raise HpcliError(
            "topology", f"found block with Slurm {found}, expected Slurm 24.05 or later", "use tree, or a later Slurm"
        )
    return (("TopologyPlugin", f"topology/{spec.topology.plugin}"),)


def topology_files(spec: Spec, version: tuple[int, int]) -> Mapping[str, str]:
    """Render the file that this Slurm reads, by its name; none without a topology."""
    if spec.topology is None:
        return {}
    if version < YAML_SINCE:
        values = {"cluster": spec.name, "lines": tuple(_conf_lines(spec.topology))}
        return {"topology.conf": render("slurm/topology.conf.j2", values)}
    values = {"cluster": spec.name, "lines": tuple(_yaml_lines(spec.topology))}
    return {"topology.yaml": render("slurm/topology.yaml.j2", values)}


def _conf_lines(topology: Topology) -> Iterator[str]:
    for switch in topology.switches:
        below = f"Nodes={_fold(switch.nodes)}" if switch.nodes else f"Switches={_fold(switch.switches or '')}"
        yield f"SwitchName={safe.word('switch', switch.name)} {below}"
    for block in topology.blocks:
        yield f"BlockName={safe.word('block', block.name)} Nodes={_fold(block.nodes)}"
    if topology.block_sizes:
        yield f"BlockSizes={_joined(topology.block_sizes)}"


def _yaml_lines(topology: Topology) -> Iterator[str]:
    """Every text is quoted: a name such as `no` or `1e3` is a text in Slurm's eyes alone."""
    yield f"  {topology.plugin}:"
    if topology.switches:
        yield "    switches:"
    for switch in topology.switches:
        yield f'      - switch: "{safe.word("switch", switch.name)}"'
        yield f'        nodes: "{_fold(switch.nodes)}"' if switch.nodes else _children(switch.switches or "")
    if topology.block_sizes:
        yield f"    block_sizes: [{_joined(topology.block_sizes, ', ')}]"
    if topology.blocks:
        yield "    blocks:"
    for block in topology.blocks:
        yield f'      - block: "{safe.word("block", block.name)}"'
        yield f'        nodes: "{_fold(block.nodes)}"'


def _children(switches: str) -> str:
    return f'        children: "{_fold(switches)}"'


def _fold(hostlist: str) -> str:
    return fold_sorted(safe.word("name in the topology", name) for name in expand(hostlist))


def _joined(sizes: Iterable[int], between: str = ",") -> str:
    return between.join(str(size) for size in sizes)
