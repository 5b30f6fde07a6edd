"""Recovery on real Slurm: every way in which a node may fail its job."""

import asyncio
import os
import signal
import sys

import pytest

from tests.real_cluster import RealCluster

pytestmark = pytest.mark.slurm

SLEEP = "srun --mpi=none sleep 600"
IGNORE_TERM = """
trap '' TERM
srun --mpi=none bash -c "trap '' TERM; while :; do sleep 1; done"
"""


async def test_a_broken_gpu_is_replaced_and_its_job_goes_on_elsewhere(cluster: RealCluster) -> None:
    job_id = await cluster.submit(SLEEP, "--nodes=3")
    await cluster.until_running(job_id)
    before = cluster.nodes.machine("c2")
    boot, instance = before.boot_id, before.instance_id
    cluster.faults.lose_gpu("c2")
    job = await cluster.until_running(job_id, restarts=1)
    assert "c2" not in job.nodes
    await cluster.until_closed()
    reached = [body["milestone"] for body in await cluster.kinds("reached")]
    assert reached.count("rebooted") == reached.count("replaced") == reached.count("accepted") == 1
    assert (before.boot_id, before.instance_id) != (boot, instance)
    assert before.instance_id != instance
    [node] = await cluster.gateway.nodes("c2")
    assert node.schedulable
    assert not node.reason
    assert [body["node"] for body in await cluster.kinds("opened")] == ["c2"]


async def test_a_transient_fault_needs_no_replacement(cluster: RealCluster) -> None:
    instance = cluster.nodes.machine("c2").instance_id
    cluster.faults.lose_gpu("c2", broken=False)
    await cluster.until_closed()
    assert cluster.nodes.machine("c2").instance_id == instance
    assert "replaced" not in [body["milestone"] for body in await cluster.kinds("reached")]


async def test_ranks_that_ignore_sigterm_are_killed(cluster: RealCluster) -> None:
    job_id = await cluster.submit(IGNORE_TERM, "--nodes=3")
    await cluster.until_running(job_id)
    cluster.faults.lose_gpu("c2")
    await cluster.until_running(job_id, restarts=1, limit=15)
    steps = [body["step"] for body in await cluster.kinds("intent")]
    assert "kill" in steps
    await cluster.until_closed()


async def test_a_frozen_slurmd_and_its_steps_are_survived(cluster: RealCluster) -> None:
    job_id = await cluster.submit(SLEEP, "--nodes=3")
    await cluster.until_running(job_id)
    cluster.faults.freeze("c2")
    cluster.faults.lose_gpu("c2", broken=False)
    await cluster.until_running(job_id, restarts=1, limit=20)
    assert "down" in [body["step"] for body in await cluster.kinds("intent")]
    await cluster.until_closed()


async def test_a_frozen_slurmd_is_found_by_its_check(cluster: RealCluster) -> None:
    cluster.faults.freeze("c2")
    await cluster.until_closed()
    assert [body["node"] for body in await cluster.kinds("opened")] == ["c2"]


async def test_a_soft_fault_lets_the_job_finish(cluster: RealCluster) -> None:
    job_id = await cluster.submit("sleep 4", "--nodes=1", "--nodelist=c2")
    await cluster.until_running(job_id)
    cluster.faults.log("c2", "EXT4-fs error (device sda1): ext4_find_entry:1455: inode #2: comm ls: reading directory")

    async def drained() -> bool:
        [node] = await cluster.gateway.nodes("c2")
        return node.drain

    await cluster.until(drained, "c2 is drained")
    job = await cluster.job(job_id)
    assert (job.state, job.restarts) == ("RUNNING", 0)
    await cluster.until_closed()


async def test_a_job_that_must_not_be_requeued_is_ended(cluster: RealCluster) -> None:
    job_id = await cluster.submit(SLEEP, "--nodes=3", "--no-requeue")
    await cluster.until_running(job_id)
    cluster.faults.lose_gpu("c2", broken=False)
    await cluster.until_closed()
    job = await cluster.job(job_id)
    assert job is None or job.state == "CANCELLED"


async def test_loss_of_the_batch_host_is_survived(cluster: RealCluster) -> None:
    job_id = await cluster.submit(SLEEP, "--nodes=3")
    job = await cluster.until_running(job_id)
    cluster.faults.lose_gpu(job.batch_host)
    await cluster.until_running(job_id, restarts=1, limit=15)
    await cluster.until_closed()


async def test_a_killed_controller_carries_on_from_its_journal(cluster: RealCluster) -> None:
    job_id = await cluster.submit(SLEEP, "--nodes=3")
    await cluster.until_running(job_id)
    cluster.faults.lose_gpu("c2")
    for _crash in range(4):
        pid = cluster.daemons.pid("controller")
        assert pid is not None
        await asyncio.sleep(0.4)
        os.kill(pid, signal.SIGKILL)
        await cluster.until(lambda: not cluster.daemons.alive("controller"), "controller is dead")
        app_restart(cluster)
        await cluster.until(lambda: answers(cluster), "controller answers")
    await cluster.until_running(job_id, restarts=1)
    await cluster.until_closed(limit=60)
    assert [body["node"] for body in await cluster.kinds("opened")] == ["c2"]
    assert (await cluster.job(job_id)).restarts == 1


async def test_the_gate_keeps_jobs_off_a_faulty_node_without_a_controller(cluster: RealCluster) -> None:
    pid = cluster.daemons.pid("controller")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    cluster.faults.lose_gpu("c2")
    verdict = cluster.layout.node("c2") / "verdict"
    await cluster.until(lambda: verdict.read_text().startswith("fail"), "the agent closes the gate")
    job_id = await cluster.submit("echo ran on $SLURMD_NODENAME; sleep 600", "--nodes=1", "--nodelist=c2")

    async def refused() -> bool:
        [node] = await cluster.gateway.nodes("c2")
        return node.drain and node.reason.startswith("Prolog error")

    await cluster.until(refused, "Slurm drains c2 for its Prolog")
    job = await cluster.job(job_id)
    assert job.pending
    output = cluster.shared / f"job-{job_id}.out"
    assert not output.exists() or "ran on" not in output.read_text()


async def test_a_second_controller_refuses_to_start(cluster: RealCluster) -> None:
    cluster.daemons.start("controller-2", controller_argv(cluster))
    await cluster.until(lambda: not cluster.daemons.alive("controller-2"), "the second controller ends")
    assert "found it held by pid" in cluster.daemons.output("controller-2").read_text()
    assert await answers(cluster)


async def test_a_persons_drain_is_never_touched(cluster: RealCluster) -> None:
    await cluster.gateway.update_nodes("c2", "drain", "swapping a cable")
    cluster.faults.lose_gpu("c2")
    cluster.faults.lose_gpu("c3", broken=False)
    await cluster.until_closed()
    [node] = await cluster.gateway.nodes("c2")
    assert node.drain
    assert node.reason == "swapping a cable"


@pytest.mark.cluster(
    spec="""
name: it
compute: [{name: gpu, nodes: "c[1-5]", cpus: 4, memory: 1G, gpus: {type: h100, count: 2}}]
health: {interval: 1s}
recovery: {start_interval: 0s}
"""
)
async def test_the_default_breaker_opens_and_a_person_resets_it(cluster: RealCluster) -> None:
    for node in ("c1", "c2", "c3"):
        cluster.faults.lose_gpu(node, broken=False)

    async def breaker() -> str:
        return str((await cluster.ask("status"))["breaker_open"])

    await cluster.until(breaker, "the breaker opens")
    touched = {body["node"] for body in await cluster.kinds("opened")}
    assert len(touched) <= 2
    job_id = await cluster.submit("sleep 600", "--nodes=1", f"--nodelist={({'c1', 'c2', 'c3'} - touched).pop()}")
    await cluster.until_running(job_id)
    assert {body["node"] for body in await cluster.kinds("opened")} == touched


async def answers(cluster: RealCluster) -> bool:
    try:
        return bool(await cluster.ask("status"))
    except Exception:  # noqa: BLE001 - any refusal means: not yet
        return False


def controller_argv(cluster: RealCluster) -> list[str]:
    return [sys.executable, "-m", "hpcli", "controller", "--config", str(cluster.layout.etc / "controller.json")]


def app_restart(cluster: RealCluster) -> None:
    cluster.daemons.start("controller", controller_argv(cluster))
