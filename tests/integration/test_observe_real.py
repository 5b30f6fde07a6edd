"""Observe-only on real Slurm: everything is decided and journaled, nothing is done, and no gate closes."""

import os
import signal
from collections.abc import Mapping
from typing import Any

import pytest

from tests.integration.test_recovery_real import app_restart
from tests.real_cluster import SPEC, RealCluster

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.cluster(
        spec=SPEC.format(name="it", nodes=5).replace("recovery: {", "recovery: {mode: observe, "),
    ),
]
TOUCHES = ("update_node", "_slurm_rpc_requeue", "_slurm_rpc_kill_job", "drain")
"""What slurmctld logs when somebody changes a node or takes a job off it."""


async def test_a_fault_is_told_and_nothing_is_done(cluster: RealCluster) -> None:
    job_id = await cluster.submit("srun --mpi=none sleep 600", "--nodes=3", "--nodelist=c[1-3]")
    await cluster.until_running(job_id)
    boot = cluster.nodes.machine("c2").boot_id
    cluster.faults.lose_gpu("c2", broken=False)
    await planned(cluster, 1)
    verdict = cluster.layout.node("c2") / "verdict"
    await cluster.until(lambda: verdict.read_text() == "ok\n", "the gate is open")
    late = await cluster.submit("sleep 600", "--nodes=1", "--nodelist=c2")
    await cluster.until_running(late)
    job = await cluster.job(job_id)
    assert (job.state, job.restarts) == ("RUNNING", 0)
    assert cluster.nodes.machine("c2").boot_id == boot
    await assert_nothing_was_done(cluster)

    [opened] = await cluster.kinds("opened")
    [plan] = await cluster.kinds("planned")
    assert (opened["node"], opened["cause"], opened["observed"]) == ("c2", "xid79", True)
    assert plan["steps"] == ["drain", f"requeue job {job_id}", "reboot", "replace", "accept", "return"]
    assert [row["outcome"] for row in (await cluster.ask("status"))["repairs"]] == ["observed"]

    cluster.nodes.machine("c2").switch_on()
    await cluster.until_closed("observed")
    assert [body["why"] for body in await cluster.kinds("closed")] == ["the fault has gone"]


async def test_a_restarted_controller_and_a_fault_in_between(cluster: RealCluster) -> None:
    cluster.faults.lose_gpu("c2")
    await planned(cluster, 1)
    pid = cluster.daemons.pid("controller")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await cluster.until(lambda: not cluster.daemons.alive("controller"), "controller is dead")
    cluster.faults.lose_gpu("c3")
    app_restart(cluster)
    await planned(cluster, 2)
    assert [body["node"] for body in await cluster.kinds("opened")] == ["c2", "c3"]
    await assert_nothing_was_done(cluster)


async def planned(cluster: RealCluster, count: int) -> None:
    async def there() -> bool:
        try:
            return len(await cluster.kinds("planned")) >= count
        except Exception:  # noqa: BLE001 - any refusal means: not yet
            return False

    await cluster.until(there, f"{count} plans")


async def assert_nothing_was_done(cluster: RealCluster) -> None:
    found: list[Mapping[str, Any]] = [node for node in await cluster.gateway.nodes() if node.drain or node.reason]
    assert found == []
    kinds = {kind for _, _, kind, _ in await cluster.journal()}
    assert kinds <= {"mode", "opened", "planned", "closed", "audit"}
    told = (cluster.layout.log / "slurmctld.log").read_text()
    assert [line for line in told.splitlines() if any(word in line for word in TOUCHES)] == []
