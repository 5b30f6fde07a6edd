"""How fast a local cluster is whole: every node idle, controller and agents answering. Slurm alone beside it.

./run bench cluster [--strict] [--sizes 8,256]
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from hpcli import app
from hpcli.providers.local.build import LocalBuild
from hpcli.providers.local.layout import Layout
from hpcli.providers.local.sweep import remove
from tests.bench.figures import Report
from tests.real_cluster import Quiet

LIMITS = {8: 5.0, 256: 60.0}
SPEC = """
name: bench
compute: [{{name: gpu, nodes: "c[1-{nodes}]", cpus: 4, memory: 1G, gpus: {{type: h100, count: 8}}}}]
"""


def build(nodes: int) -> LocalBuild:
    return app.build_text(SPEC.format(nodes=nodes), "cluster.yaml", Quiet())


async def whole(nodes: int) -> float:
    """Seconds until everything answers."""
    return await app.bring_up(build(nodes), Quiet())


async def slurm_idle(nodes: int) -> float:
    """Seconds until Slurm itself calls every node idle, agents or not."""
    start = time.monotonic()
    await build(nodes).up()
    gateway = app.slurm_gateway("bench")
    while True:
        found = await gateway.nodes()
        if sum("IDLE" in node.states and node.schedulable for node in found) == nodes:
            return time.monotonic() - start
        await asyncio.sleep(0.05)


def measure(report: Report, sizes: list[int]) -> None:
    for nodes in sizes:
        for name, work, limit in (("up", whole, LIMITS.get(nodes)), ("slurm_alone", slurm_idle, None)):
            try:
                report.add(f"{name}_{nodes}_nodes", asyncio.run(work(nodes)), "s", limit)
            finally:
                start = time.monotonic()
                remove(Layout.of("bench"))
        report.add(f"down_{nodes}_nodes", time.monotonic() - start, "s")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", default="8,256", help="numbers of nodes")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a figure falls short")
    options = parser.parse_args()
    report = Report("cluster")
    with tempfile.TemporaryDirectory(prefix="hpcli-bench-") as folder:
        os.environ["XDG_STATE_HOME"] = str(Path(folder) / "state")
        measure(report, [int(size) for size in options.sizes.split(",")])
    return report.finish(sys.argv)


if __name__ == "__main__":
    sys.exit(main())
