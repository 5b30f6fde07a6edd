"""Record pyslurm beside Slurm's programs:  PYTHONPATH=.:tests python tests/contract/pyslurm_recorder.py FOLDER

Starts a private Slurm, brings it into some states, and writes for each what pyslurm holds and what the command-line
gateway says of the same moment. Needs Slurm's daemons and a pyslurm that fits them.
"""

import asyncio
import importlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from private_slurm import private_slurm
from pyslurm_recording import as_json, structures
from slurm_clusters import Cluster, real

HOSTILE = "evil\n1\x1f1\x1froot\x1fmain|x;y\t$(id)"


async def quiet(cluster: Cluster) -> None:
    await cluster.all_idle()


async def busy(cluster: Cluster) -> None:
    """A job of every kind, in most states."""
    running = await cluster.submit("-w", "c1", "--gpus-per-node=1", "-t", "3-0", "-J", HOSTILE, "--comment", HOSTILE)
    lost = await cluster.submit("-N2", "-w", "c[2-3]", "-n2", "-J", "None")
    over = await cluster.submit("-w", "c1", wrap="true")
    bad = await cluster.submit("-w", "c1", wrap="exit 3")
    for job_id, state in ((running, "RUNNING"), (lost, "RUNNING"), (over, "COMPLETED"), (bad, "FAILED")):
        await cluster.job_is(job_id, state)
    array = await cluster.submit("--array=0-3", "-w", "c1", "--gpus-per-node=1")
    await cluster.job_is(f"{array}_0", "RUNNING")
    await cluster.gateway.requeue([lost])
    await cluster.job_is(lost, "PENDING")
    for args in (["-N3", "-t", "0:45"], ["--array=5,7-9%2"], ["-t", "400-0"], ["-H", "-n1", ":", "-n2"]):
        await cluster.submit("-H", *args)
    gone = await cluster.submit("-H", "--array=0-2")
    await cluster.gateway.cancel([gone])
    await cluster.gateway.update_nodes("c2", "drain", "bad State=IDLE Reason=[x] Gres=gpu:9\nsecond line")
    await cluster.gateway.update_nodes("c3", "down", "hpcli:1:test")


async def uneven(cluster: Cluster) -> None:
    """Arrays that libslurm does not spell out: a step, and a list that it cuts."""
    await cluster.submit("-H", "--array=0-40:2")
    await cluster.submit("-H", f"--array={','.join(str(2 * task + task % 3) for task in range(30))}")


async def record(folder: Path) -> None:
    with private_slurm() as env:
        os.environ.update(env)
        cluster, pyslurm = real(env), importlib.import_module("pyslurm")
        for scene in (quiet, busy, uneven):
            await scene(cluster)
            text = json.dumps(await _moment(cluster, pyslurm), indent=1)
            (folder / f"{scene.__name__}.json").write_text(text + "\n")


async def _moment(cluster: Cluster, pyslurm: Any) -> dict[str, Any]:
    """Both views of one moment: what the programs said before and after is the same."""
    said = await _said(cluster)
    while True:
        now, seen = time.time(), structures(pyslurm)
        before, said = said, await _said(cluster)
        if before == said:
            return {"pyslurm": pyslurm.__version__, "now": now, **seen, "said": said}


async def _said(cluster: Cluster) -> dict[str, Any]:
    asked: dict[str, Callable[[], Awaitable[Any]]] = {"nodes": cluster.gateway.nodes, "jobs": cluster.gateway.jobs}
    said = {name: as_json(await ask()) for name, ask in asked.items()}
    return {**said, "partitions": await cluster.gateway.partitions()}


if __name__ == "__main__":
    asyncio.run(record(Path(sys.argv[1])))
