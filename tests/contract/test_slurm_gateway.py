"""One contract for every SlurmGateway: the simulator and real Slurm must not be told apart."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from private_slurm import NODES
from slurm_clusters import Cluster, real, simulated

from hpcli.errors import NotFound, SlurmRefused

UNKNOWN = "99999"


@pytest.fixture(params=["sim", pytest.param("cli", marks=pytest.mark.slurm)])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    found = simulated() if request.param == "sim" else real(request.getfixturevalue("slurm_env"))
    yield found
    await found.clear()


class TestNodes:
    async def test_all_nodes_with_their_resources(self, cluster: Cluster) -> None:
        nodes = await cluster.gateway.nodes()
        assert [(n.name, n.states, n.cpus, n.gpus, n.gpus_alloc, n.partitions) for n in nodes] == [
            (name, {"IDLE"}, 4, 2, 0, ("main",)) for name in NODES
        ]
        assert all(n.schedulable and n.boot_time > 0 for n in nodes)
        assert await cluster.gateway.partitions() == ("main",)

    async def test_a_hostlist_selects(self, cluster: Cluster) -> None:
        assert [n.name for n in await cluster.gateway.nodes("c[1,3]")] == ["c1", "c3"]

    async def test_cpus_and_gpus_in_use(self, cluster: Cluster) -> None:
        job = await cluster.submit("-w", "c2", "--gpus-per-node=1")
        await cluster.job_is(job, "RUNNING")
        node = await cluster.node("c2")
        assert (node.states, node.cpus_alloc, node.gpus_alloc, node.gpus) == ({"MIXED"}, 1, 1, 2)

    async def test_drain_of_a_hostlist_is_drained_when_its_job_has_gone(self, cluster: Cluster) -> None:
        job = await cluster.submit("-w", "c1")
        await cluster.job_is(job, "RUNNING")
        reason = "bad State=IDLE Reason=[x] [root@2020-01-01T00:00:00] Gres=gpu:9"
        await cluster.gateway.update_nodes("c[1-2]", "drain", reason)
        first, second, third = await cluster.gateway.nodes()
        assert (first.drain, first.drained, first.reason) == (True, False, reason)
        assert (second.drain, second.drained, second.gpus) == (True, True, 2)
        assert (third.drain, third.reason) == (False, "")
        await cluster.gateway.cancel([job])
        await cluster.node_is("c1", lambda node: node.drained)

    async def test_nothing_starts_on_a_drained_node(self, cluster: Cluster) -> None:
        await cluster.gateway.update_nodes("c[1-2]", "drain", "hpcli:1:test")
        job = await cluster.submit()
        assert (await cluster.job_is(job, "RUNNING")).nodes == "c3"

    async def test_resume_is_fine_for_healthy_nodes_too(self, cluster: Cluster) -> None:
        await cluster.gateway.update_nodes("c2", "resume")
        await cluster.gateway.update_nodes("c2", "drain", "hpcli:1:test")
        await cluster.gateway.update_nodes("c[1-3]", "resume")
        assert (await cluster.node_is("c2", lambda node: node.states == {"IDLE"})).reason == ""

    async def test_draining_wants_a_reason(self, cluster: Cluster) -> None:
        with pytest.raises(SlurmRefused, match="must specify a reason"):
            await cluster.gateway.update_nodes("c1", "drain")

    async def test_unknown_nodes_are_not_found(self, cluster: Cluster) -> None:
        with pytest.raises(NotFound):
            await cluster.gateway.nodes("c[1,9]")

    async def test_an_unknown_node_does_not_save_the_others(self, cluster: Cluster) -> None:
        with pytest.raises(NotFound):
            await cluster.gateway.update_nodes("c[1,9]", "drain", "x")
        assert (await cluster.node("c1")).drain


class TestJobs:
    async def test_submit_runs(self, cluster: Cluster) -> None:
        before = cluster.now() - 2
        job_id = await cluster.submit("-N2", "-J", "train", "--comment", "hpcli:supervised")
        job = await cluster.job_is(job_id, "RUNNING")
        assert (job.label, job.name, job.comment, job.partition) == (job_id, "train", "hpcli:supervised", "main")
        assert (job.nodes, job.node_count, job.batch_host) == ("c[1-2]", 2, "c1")
        assert (job.requeue, job.restarts) == (True, 0)
        assert before <= job.submit_time <= job.start_time <= cluster.now() + 1

    async def test_a_script_on_standard_input(self, cluster: Cluster) -> None:
        script = "#!/bin/sh\nexit 3\n"
        job = await cluster.gateway.submit(["-o", "/dev/null", "-J", "odd"], script=script, cwd="/tmp")
        assert (await cluster.job_is(job, "FAILED")).ended

    async def test_requeue_waits_until_released(self, cluster: Cluster) -> None:
        job_id = await cluster.submit("-N2")
        await cluster.job_is(job_id, "RUNNING")
        await cluster.gateway.requeue([job_id])
        waiting = await cluster.job_is(job_id, "PENDING")
        assert (waiting.restarts, waiting.nodes) == (1, "")
        assert waiting.start_time > cluster.now() + 60
        await cluster.gateway.release([job_id])
        assert (await cluster.job_is(job_id, "RUNNING")).restarts == 1

    async def test_a_released_job_does_not_start_in_the_second_of_its_requeue(self, cluster: Cluster) -> None:
        """Real Slurm would fail it: "Job credential revoked"."""
        job_id = await cluster.submit("-w", "c1")
        for restarts in (1, 2, 3):
            await cluster.job_is(job_id, "RUNNING")
            requeued = cluster.now()
            await cluster.gateway.requeue([job_id])
            await cluster.job_is(job_id, "PENDING")
            await cluster.gateway.release([job_id])
            job = await cluster.job_is(job_id, "RUNNING")
            assert job.restarts == restarts
            assert int(job.start_time) > int(requeued)

    async def test_requeue_and_release_may_be_repeated(self, cluster: Cluster) -> None:
        job_id = await cluster.submit()
        await cluster.job_is(job_id, "RUNNING")
        await cluster.gateway.requeue([job_id])
        await cluster.gateway.requeue([job_id])
        await cluster.job_is(job_id, "PENDING")
        await cluster.gateway.requeue([job_id])
        await cluster.gateway.release([job_id])
        await cluster.gateway.release([job_id])
        assert (await cluster.job_is(job_id, "RUNNING")).restarts == 1

    async def test_many_at_once(self, cluster: Cluster) -> None:
        ids = [await cluster.submit() for _ in range(3)]
        for job_id in ids:
            await cluster.job_is(job_id, "RUNNING")
        await cluster.gateway.requeue(ids)
        for job_id in ids:
            await cluster.job_is(job_id, "PENDING")
        await cluster.gateway.release(ids)
        for job_id in ids:
            assert (await cluster.job_is(job_id, "RUNNING")).restarts == 1

    async def test_a_persons_hold_is_not_lifted(self, cluster: Cluster) -> None:
        job_id = await cluster.submit("-H")
        await cluster.gateway.release([job_id])
        assert (await cluster.job(job_id)).reason == "JobHeldUser"

    async def test_requeue_of_a_job_that_forbids_it(self, cluster: Cluster) -> None:
        job_id = await cluster.submit("--no-requeue")
        assert not (await cluster.job_is(job_id, "RUNNING")).requeue
        with pytest.raises(SlurmRefused, match="disabled"):
            await cluster.gateway.requeue([job_id])

    async def test_cancel(self, cluster: Cluster) -> None:
        running, waiting = await cluster.submit(), await cluster.submit("-N3", "-c4")
        await cluster.job_is(running, "RUNNING")
        await cluster.gateway.cancel([running, waiting])
        for job_id in (running, waiting):
            await cluster.job_is(job_id, "CANCELLED")
        await cluster.gateway.cancel([running])

    async def test_one_unknown_job_does_not_save_the_others(self, cluster: Cluster) -> None:
        job_id = await cluster.submit()
        with pytest.raises(NotFound, match=UNKNOWN):
            await cluster.gateway.cancel([UNKNOWN, job_id])
        await cluster.job_is(job_id, "CANCELLED")

    @pytest.mark.parametrize("verb", ["cancel", "requeue", "release"])
    async def test_unknown_jobs_are_not_found(self, cluster: Cluster, verb: str) -> None:
        act: Callable[[Sequence[str]], Awaitable[None]] = getattr(cluster.gateway, verb)
        with pytest.raises(NotFound, match=UNKNOWN):
            await act([UNKNOWN])

    async def test_unknown_job_has_no_files_and_hears_nothing(self, cluster: Cluster) -> None:
        with pytest.raises(NotFound, match=UNKNOWN):
            await cluster.gateway.job_files(UNKNOWN)
        with pytest.raises(NotFound, match=UNKNOWN):
            await cluster.gateway.notify(UNKNOWN, "hello")

    async def test_no_jobs_at_all_is_no_work(self, cluster: Cluster) -> None:
        await cluster.gateway.cancel([])
        await cluster.gateway.requeue([])
        await cluster.gateway.release([])

    async def test_unknown_partition_is_refused(self, cluster: Cluster) -> None:
        with pytest.raises(SlurmRefused, match="invalid partition specified: nope"):
            await cluster.submit("-p", "nope")

    async def test_a_hostile_name_forges_nothing(self, cluster: Cluster) -> None:
        name = "evil\n1\x1f1\x1froot\x1fmain|x;y\t$(id)"
        comment = "two\nlines\x1f"
        job_id = await cluster.submit("-J", name, "--comment", comment)
        job = await cluster.job_is(job_id, "RUNNING")
        assert (job.name, job.comment) == (name, comment)
        assert [j.id for j in await cluster.gateway.jobs() if not j.ended] == [job_id]

    async def test_array_tasks_come_one_by_one(self, cluster: Cluster) -> None:
        job_id = await cluster.submit("--array=0-2")
        for task in range(3):
            assert (await cluster.job_is(f"{job_id}_{task}", "RUNNING")).label == f"{job_id}_{task}"
        await cluster.gateway.cancel([f"{job_id}_1"])
        await cluster.job_is(f"{job_id}_1", "CANCELLED")
        assert (await cluster.job(f"{job_id}_2")).state == "RUNNING"

    async def test_one_array_task_is_requeued_alone(self, cluster: Cluster) -> None:
        job_id = await cluster.submit("--array=0-1")
        for task in (0, 1):
            await cluster.job_is(f"{job_id}_{task}", "RUNNING")
        await cluster.gateway.requeue([f"{job_id}_1"])
        assert (await cluster.job_is(f"{job_id}_1", "PENDING")).restarts == 1
        assert (await cluster.job(f"{job_id}_0")).state == "RUNNING"
        await cluster.gateway.release([f"{job_id}_1"])
        await cluster.job_is(f"{job_id}_1", "RUNNING")

    async def test_an_array_task_is_unknown_by_its_number(self, cluster: Cluster) -> None:
        job_id = await cluster.submit("--array=0-1")
        first = await cluster.job_is(f"{job_id}_0", "RUNNING")
        await cluster.job_is(f"{job_id}_1", "RUNNING")
        if await cluster.gateway.version() < (23, 2):
            # Later scancels take a task's own number too.
            with pytest.raises(NotFound, match=first.id):
                await cluster.gateway.cancel([first.id])
        with pytest.raises(NotFound, match=f"{job_id}_9"):
            await cluster.gateway.requeue([f"{job_id}_9"])

    async def test_output_files(self, cluster: Cluster, tmp_path: Path) -> None:
        args = ["-o", "out-%j.txt", "-e", "err-%j.txt", "--wrap", "sleep 600"]
        job_id = await cluster.gateway.submit(args, cwd=str(tmp_path))
        (files,) = await cluster.gateway.job_files(job_id)
        assert files.job.id == job_id
        assert (files.stdout, files.stderr) == (f"{tmp_path}/out-{job_id}.txt", f"{tmp_path}/err-{job_id}.txt")


class TestNodeLoss:
    async def test_down_requeues(self, cluster: Cluster) -> None:
        job_id = await cluster.submit("-N2")
        await cluster.job_is(job_id, "RUNNING")
        await cluster.gateway.update_nodes("c1", "down", "hpcli:1:test")
        assert (await cluster.job_is(job_id, "PENDING")).restarts == 1
        node = await cluster.node("c1")
        assert (node.down, node.schedulable, node.reason) == (True, False, "hpcli:1:test")
        await cluster.gateway.release([job_id])
        assert (await cluster.job_is(job_id, "RUNNING")).nodes == "c[2-3]"

    async def test_down_fails_what_cannot_be_requeued(self, cluster: Cluster) -> None:
        job_id = await cluster.submit("--no-requeue", "-w", "c1")
        await cluster.job_is(job_id, "RUNNING")
        await cluster.gateway.update_nodes("c1", "down", "hpcli:1:test")
        assert (await cluster.job_is(job_id, "NODE_FAIL")).ended

    async def test_down_on_top_of_drain_stays_drained(self, cluster: Cluster) -> None:
        await cluster.gateway.update_nodes("c1", "drain", "hpcli:1:test")
        await cluster.gateway.update_nodes("c1", "down", "hpcli:1:test")
        node = await cluster.node("c1")
        assert (node.drain, node.down, node.drained) == (True, True, True)

    async def test_a_no_kill_job_lives_on_without_the_node(self, cluster: Cluster) -> None:
        job_id = await cluster.submit("-N3", "--no-kill")
        await cluster.job_is(job_id, "RUNNING")
        await cluster.gateway.update_nodes("c3", "down", "hpcli:1:test")
        job = await cluster.job(job_id)
        assert (job.state, job.nodes, job.restarts) == ("RUNNING", "c[1-2]", 0)
