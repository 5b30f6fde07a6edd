"""20 faults in a row on a real eight-node cluster, then the default policy, then Slurm alone.

./run bench recovery [--strict] [--faults N] [--seed N] [--no-stock]
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from ClusterShell.NodeSet import NodeSet

from hpcli import app
from hpcli.domain.settings import read_controller_settings
from hpcli.domain.timeline import Timeline
from hpcli.providers.local.layout import Layout
from hpcli.providers.local.sweep import remove
from hpcli.services.drill import Drill, Stock, Training
from tests.bench.figures import Report
from tests.real_cluster import RealCluster, bring_up

ROOT = Path(__file__).parents[2]
TRAINING = Training(ROOT / "templates/jobs/train.sbatch", sys.executable, steps=80, step_seconds=0.05)
FLEET = 8
BUDGET = 2

COMPUTE = """
name: bench
compute: [{name: gpu, nodes: "c[1-8]", cpus: 4, memory: 1G, gpus: {type: h100, count: 8}, spares: 2}]
health: {interval: 2s}
"""
MANY_FAULTS = (
    COMPUTE
    + """
recovery:
  start_interval: 0s
  reboot_interval: 0s
  replace_interval: 0s
  budget: {nodes: 2, share: 0%}
  breaker: {nodes: 8, share: 100%}
"""
)


class Watch:
    """Samples the cluster all the time: who is out of service, and how many repairs are open."""

    def __init__(self, cluster: RealCluster) -> None:
        self.cluster = cluster
        self.faulty: set[str] = set()
        self.healthy_drained: set[str] = set()
        self.most_open = 0
        self.samples = 0

    async def run(self) -> None:
        while True:
            nodes = await self.cluster.gateway.nodes()
            out = {node.name for node in nodes if node.drain or node.down}
            self.healthy_drained |= out - self.faulty
            status = await self.cluster.ask("status")
            self.most_open = max(self.most_open, sum(not repair["outcome"] for repair in status["repairs"]))
            self.samples += 1
            await asyncio.sleep(0.1)


async def many_faults(options: argparse.Namespace, report: Report, folder: Path) -> None:
    cluster = await bring_up(MANY_FAULTS, folder)
    report.notes["policy"] = asdict(read_controller_settings(cluster.layout.etc / "controller.json").policy)
    print(f"policy {report.notes['policy']}", flush=True)
    choose = random.Random(options.seed)
    watch = Watch(cluster)
    watching = asyncio.create_task(watch.run())
    wanted = await drill(cluster, folder, TRAINING).reference()
    moments: list[Timeline] = []
    unequal = 0
    for number in range(options.faults):
        training = replace(TRAINING, ignore_term=number % 3 == 0)
        timeline, weights = await one_fault(cluster, drill(cluster, folder, training), watch, choose, number)
        moments.append(timeline)
        unequal += weights != wanted
    in_service = sum(node.schedulable for node in await cluster.gateway.nodes())
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    judge(report, moments, watch, unequal, in_service)


async def one_fault(
    cluster: RealCluster, exercise: Drill, watch: Watch, choose: random.Random, number: int
) -> tuple[Timeline, str]:
    run = await exercise.submit(f"run-{number}")
    job = await exercise.until_training(run)
    node = choose.choice(list(NodeSet(job.nodes)))
    broken = choose.random() < 0.5
    watch.faulty.add(node)
    _, moments = await exercise.heal(run, node, broken=broken)
    weights = await exercise.finish(run)
    watch.faulty.discard(node)
    kind = f"{'broken' if broken else 'transient'}{' ignores TERM' if exercise.training.ignore_term else ''}"
    host = " batch host" if node == job.batch_host else ""
    print(f"# fault {number + 1}: {node}{host} {kind}: {moments}", flush=True)
    return moments, weights


def judge(report: Report, moments: Sequence[Timeline], watch: Watch, unequal: int, in_service: int) -> None:
    for name in asdict(Timeline()):
        values = [value for timeline in moments if (value := getattr(timeline, name)) is not None]
        limit = 5.0 if name == "job_running_s" else None
        report.quantiles(name.removesuffix("_s"), values, limit)
    report.add("faults", len(moments), "count")
    report.add("jobs_not_bit_equal", unequal, "count", 0)
    report.add("healthy_nodes_drained", len(watch.healthy_drained), "count", 0)
    report.add("most_nodes_under_repair", watch.most_open, "count", BUDGET)
    report.add("samples", watch.samples, "count")
    report.add("nodes_in_service_at_the_end", in_service, "count", FLEET, least=True)


async def default_policy(report: Report, folder: Path) -> None:
    """Three faults within ten minutes: the third opens the breaker."""
    cluster = await bring_up(COMPUTE, folder)
    print(f"policy {read_controller_settings(cluster.layout.etc / 'controller.json').policy}", flush=True)
    for node in ("c1", "c2"):
        cluster.faults.lose_gpu(node, broken=False)
        await cluster.until_closed(count=("c1", "c2").index(node) + 1)
    cluster.faults.lose_gpu("c3", broken=False)

    async def breaker() -> str:
        return str((await cluster.ask("status"))["breaker_open"])

    why = await cluster.until(breaker, "the breaker opens")
    cluster.faults.lose_gpu("c4", broken=False)
    await asyncio.sleep(5)
    touched = {body["node"] for body in await cluster.kinds("opened")}
    drained = [node.name for node in await cluster.gateway.nodes() if node.drain or node.down]
    print(f"# breaker: {why}", flush=True)
    report.add("default_policy_nodes_repaired", len(touched), "count", 2)
    report.add("default_policy_breaker_open", 1.0, "flag", 1, least=True)
    report.add("default_policy_further_nodes_touched", len(touched - {"c1", "c2"}) + len(drained), "count", 0)


async def stock(report: Report, folder: Path) -> None:
    """The peer: Slurm alone, its own requeue, one fault."""
    cluster = await bring_up(COMPUTE, folder)
    _, without_hpcli = app.drills("bench")
    exercise = drill(cluster, folder, replace(TRAINING, steps=4000))
    found: Stock
    async with without_hpcli.in_force():
        run = await exercise.submit("stock")
        found = await exercise.stock(run)
    report.add("stock_slurm_job_running", found.job_running_s, "s")
    report.add("stock_slurm_first_new_step", found.first_new_step_s, "s")


def drill(cluster: RealCluster, folder: Path, training: Training) -> Drill:
    def told(_name: str, _at: float) -> None:
        pass

    folder = Path(tempfile.mkdtemp(dir=folder))
    controller = app.controller(cluster.layout.name)
    return Drill(cluster.gateway, controller, cluster.faults, app.clock(), training, folder, told)


async def leg(name: str, work: Coroutine[None, None, None]) -> None:
    print(f"# {name}", flush=True)
    try:
        await work
    finally:
        remove(Layout.of("bench"))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-stock", action="store_true", help="leave the two minutes of stock Slurm out")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a figure falls short")
    options = parser.parse_args()
    report = Report("recovery")
    with tempfile.TemporaryDirectory(prefix="hpcli-bench-") as folder:
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"
        asyncio.run(legs(options, report, Path(folder)))
    return report.finish(sys.argv)


async def legs(options: argparse.Namespace, report: Report, folder: Path) -> None:
    await leg("many faults, jobs running", many_faults(options, report, folder))
    await leg("default policy", default_policy(report, folder))
    if not options.no_stock:
        await leg("stock Slurm", stock(report, folder))


if __name__ == "__main__":
    sys.exit(main())
