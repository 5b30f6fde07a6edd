"""Rendering: the spec of a cluster of real machines to every file of Slurm's, for each Slurm series.

./run bench render [--strict]

Nobody else renders from such a spec, so the peer is the least that could be done: a jinja2 loop that writes a NodeName
and a gres.conf line for each node, unchecked and unfolded.
"""

import gc
import sys
import time
from collections.abc import Callable

import jinja2

from hpcli.render.site import AccountingSite, Endpoint, NodeSite, SlurmSite
from hpcli.render.slurm import render_slurm
from hpcli.spec.load import parse_spec
from hpcli.spec.model import Spec
from tests.bench.figures import Report

LIMIT = 1.0
SERIES = {"22.05": (22, 5), "24.11": (24, 11), "26.05": (26, 5)}
MOST = 10000
ROUNDS = 5
LEAF = 50
"""Nodes below one switch."""

PEER = jinja2.Template(
    "{% for node in nodes %}NodeName={{ node.name }} NodeAddr={{ places[node.name].address }} Port=6818"
    " CPUs={{ node.cpus }} RealMemory={{ node.memory }}"
    "{% if node.gpu_count %} Gres=gpu:{{ node.gpu_type }}:{{ node.gpu_count }}{% endif %} Weight={{ node.weight }}\n"
    "{% endfor %}{% for node in nodes if node.gpu_count %}NodeName={{ node.name }} Name=gpu Type={{ node.gpu_type }}"
    " File=/dev/nvidia[0-{{ node.gpu_count - 1 }}]\n{% endfor %}"
)


def spec_text(nodes: int) -> str:
    """Two groups of GPU nodes and one without, three partitions, a tree of leaves and a spine."""
    half, quarter = nodes // 2, nodes // 4
    leaves = "".join(
        f'    - {{name: leaf{leaf + 1}, nodes: "{_nodes(leaf * LEAF + 1, min((leaf + 1) * LEAF, nodes))}"}}\n'
        for leaf in range(-(-nodes // LEAF))
    )
    return f"""name: bench
provider: hosts
compute:
  - {{name: h, nodes: "c[1-{half}]", cpus: 192, sockets: 2, threads: 2, memory: 2T, gpus: {{type: h100, count: 8}},
     spares: {nodes // 50}}}
  - {{name: a, nodes: "c[{half + 1}-{half + quarter}]", cpus: 128, memory: 1T, gpus: {{type: a100, count: 4}}}}
  - {{name: cpu, nodes: "c[{half + quarter + 1}-{nodes}]", cpus: 256, memory: 512G}}
partitions:
  - {{name: train, groups: [h, a], default: true}}
  - {{name: cpu, groups: [cpu]}}
  - {{name: all}}
accounting: {{enabled: true}}
topology:
  plugin: tree
  switches:
{leaves}    - {{name: spine, switches: "leaf[1-{-(-nodes // LEAF)}]"}}
slurm_conf: {{MessageTimeout: 60}}
"""


def _nodes(first: int, last: int) -> str:
    return f"c[{first}-{last}]"


def site(spec: Spec, version: tuple[int, int], unlike: bool = False) -> SlurmSite:
    """Machines with an address each, 250 to a subnet; or, `unlike`, with names that cannot share a line."""
    places = {
        name: NodeSite(name, f"{name}.example.org" if unlike else _address(i), 6818, "/dev")
        for i, name in enumerate(spec.node_names)
    }
    return SlurmSite(
        version=version,
        user="slurm",
        controller=Endpoint("controller", "10.255.0.1", 6817),
        nodes=places,
        munge_socket="/run/munge/munge.socket.2",
        state="/var/lib/slurm/slurmctld",
        spool="/var/lib/slurm/slurmd",
        slurmctld_log="/var/log/slurm/slurmctld.log",
        slurmctld_pid="/run/slurm/slurmctld.pid",
        slurmd_log="/var/log/slurm/slurmd.log",
        slurmd_pid="/run/slurm/slurmd.pid",
        prolog="/etc/slurm/prolog",
        accounting=AccountingSite(6819, "slurm", "acct", "/var/log/slurm/slurmdbd.log", "/run/slurm/slurmdbd.pid"),
        slurmd_user="root",
        shared_machine=False,
        cgroup=True,
    )


def _address(number: int) -> str:
    return f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}"


def seconds(work: Callable[[], object]) -> float:
    """The fastest of a few runs: whatever else the machine does only adds."""
    return min(_once(work) for _ in range(ROUNDS))


def _once(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(report: Report, nodes: int, limit: float | None) -> None:
    text = spec_text(nodes)
    spec = load(text)
    report.add(f"load_{nodes}", seconds(lambda: load(text)), "s")
    for series, version in SERIES.items():
        report.add(f"render_{nodes}_{series}", rendering(text, site(spec, version)), "s", limit)
    newest = site(spec, SERIES["26.05"])
    report.add(f"render_{nodes}_unlike", rendering(text, site(spec, SERIES["26.05"], unlike=True)), "s", limit)
    files = render_slurm(spec, newest)
    report.add(f"size_{nodes}", sum(map(len, files.values())) / 1024, "KiB")
    report.add(f"node_lines_{nodes}", files["slurm.conf"].count("NodeName="), "lines")
    report.add(f"peer_{nodes}", seconds(lambda: PEER.render(nodes=spec.nodes, places=newest.nodes)), "s")
    report.add(f"peer_size_{nodes}", len(PEER.render(nodes=spec.nodes, places=newest.nodes)) / 1024, "KiB")


def load(text: str) -> Spec:
    return parse_spec(text, "cluster.yaml", max_nodes=MOST)


def rendering(text: str, where: SlurmSite) -> float:
    """Each time from a fresh spec, since a spec works out its nodes once."""
    fresh = iter([load(text) for _ in range(ROUNDS)])
    return seconds(lambda: render_slurm(next(fresh), where))


def main() -> int:
    report = Report("render")
    measure(report, 1000, None)
    measure(report, MOST, LIMIT)
    return report.finish(sys.argv)


if __name__ == "__main__":
    sys.exit(main())
