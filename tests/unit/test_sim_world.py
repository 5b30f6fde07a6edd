"""The simulated world in failures that the contract test does not stage on real daemons.

What is expected was observed on real Slurm 22.05.
"""

import asyncio

import pytest

from hpcli.errors import NotFound
from hpcli.sim.clock import SimClock
from hpcli.sim.life import Timing
from hpcli.sim.model import SimJob, SimNode, seen_job, seen_node
from hpcli.sim.world import World


@pytest.fixture
def clock() -> SimClock:
    return SimClock()


@pytest.fixture
def world(clock: SimClock) -> World:
    return World([SimNode(name) for name in ("c1", "c2", "c3")], clock, Timing(slurmd_timeout=20))


def submit(world: World, **about: object) -> SimJob:
    job = SimJob(id="", label="", **about)  # type: ignore[arg-type]
    return world.jobs[world.submit(job)]


def states(world: World, name: str) -> frozenset[str]:
    world.settle()
    return seen_node(world.nodes[name], world.jobs_on(name)).states


def after(world: World, clock: SimClock, seconds: float, job: SimJob) -> str:
    clock.jump(seconds)
    world.settle()
    return job.state


def test_ranks_that_ignore_term_hold_the_job_for_kill_wait(world: World, clock: SimClock) -> None:
    job = submit(world, node_count=2, ignores_term=True)
    world.requeue(job.label)
    assert after(world, clock, 29, job) == "COMPLETING"
    assert after(world, clock, 2, job) == "PENDING"


def test_killing_the_ranks_shortens_that(world: World, clock: SimClock) -> None:
    job = submit(world, node_count=2, ignores_term=True)
    world.requeue(job.label)
    world.kill_job_processes(job.id, "c1")
    assert (job.state, seen_job(job, clock.now()).nodes) == ("COMPLETING", "c2")
    world.kill_job_processes(job.id, "c2")
    assert (job.state, job.restarts) == ("PENDING", 1)
    assert job.eligible_time == clock.now() + 121


def test_a_frozen_node_holds_the_job_until_it_is_down(world: World, clock: SimClock) -> None:
    job = submit(world, node_count=2)
    world.freeze("c1")
    world.requeue(job.label)
    world.kill_job_processes(job.id, "c1")
    assert after(world, clock, 15, job) == "COMPLETING"
    world.down(["c1"], "hpcli:1:test")
    assert job.state == "PENDING"


def test_a_dead_node_is_noticed_after_slurmd_timeout(world: World, clock: SimClock) -> None:
    job = submit(world, node_count=2)
    world.power_off("c1")
    assert after(world, clock, 19, job) == "RUNNING"
    assert after(world, clock, 2, job) == "PENDING"
    assert states(world, "c1") == {"DOWN", "NOT_RESPONDING"}
    assert world.nodes["c1"].reason == "Not responding"


def test_a_reboot_under_a_job_requeues_it_and_leaves_the_node_down(world: World, clock: SimClock) -> None:
    job = submit(world, wish=("c1",))
    before = world.machine("c1")
    world.reboot("c1", 10)
    assert world.machine("c1").boot_id == ""
    clock.jump(11)
    world.settle()
    assert (job.state, job.restarts) == ("PENDING", 1)
    assert states(world, "c1") == {"DOWN"}
    assert world.nodes["c1"].reason == "Node unexpectedly rebooted"
    assert world.machine("c1").boot_id != before.boot_id
    assert world.machine("c1").instance_id == before.instance_id


def test_a_drained_node_keeps_its_reason_over_a_reboot_and_resume_returns_it(world: World, clock: SimClock) -> None:
    world.drain(["c1"], "hpcli:1:test")
    world.replace("c1", 10)
    clock.jump(11)
    assert states(world, "c1") == {"DOWN", "DRAIN"}
    assert (world.nodes["c1"].reason, world.machine("c1").instance_id) == ("hpcli:1:test", "c1-instance-2")
    world.resume(["c1"])
    assert states(world, "c1") == {"IDLE"}


def test_resuming_a_dead_node_does_not_revive_it(world: World, clock: SimClock) -> None:
    world.power_off("c1")
    world.down(["c1"], "x")
    world.resume(["c1"])
    assert states(world, "c1") == {"IDLE", "NOT_RESPONDING"}
    clock.jump(21)
    assert states(world, "c1") == {"DOWN", "NOT_RESPONDING"}


def test_loss_of_the_batch_host_takes_a_no_kill_job_along(world: World) -> None:
    job = submit(world, node_count=2, no_kill=True)
    world.down([job.batch_host], "x")
    assert job.restarts == 1


def test_light_nodes_go_first(clock: SimClock) -> None:
    world = World([SimNode("spare", weight=100), SimNode("c1"), SimNode("c2")], clock)
    assert submit(world, node_count=2).nodes == ("c1", "c2")
    assert submit(world, node_count=1, cpus=4).nodes == ("spare",)


def test_work_ends_at_its_time_however_far_the_clock_jumps(world: World, clock: SimClock) -> None:
    first, second = submit(world, work=10.0, cpus=4, node_count=3), submit(world, work=5.0, cpus=4, node_count=3)
    began = clock.now()
    assert after(world, clock, 100, second) == "COMPLETED"
    assert (first.state, second.start_time) == ("COMPLETED", began + 10)


def test_unknown_machines_are_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        world.machine("c9")


async def test_the_clock_wakes_each_sleeper_at_its_moment(clock: SimClock) -> None:
    woken: list[tuple[str, float]] = []
    start = clock.now()

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.now() - start))
        await clock.sleep(1)
        woken.append((name, clock.now() - start))

    tasks = [asyncio.create_task(sleeper("late", 2)), asyncio.create_task(sleeper("early", 1.5))]
    await clock.advance(10)
    await asyncio.gather(*tasks)
    assert woken == [("early", 1.5), ("late", 2), ("early", 2.5), ("late", 3)]
