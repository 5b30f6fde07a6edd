"""What happens to the jobs of a faulty node: off it, and running again elsewhere."""

from collections.abc import Iterator

from hpcli.domain.action import Action, OnJob, OnNodes, Reach, Target
from hpcli.domain.fault import standing_fault
from hpcli.domain.job import Job
from hpcli.domain.ledger import Eviction, Milestone, Repair, Step
from hpcli.domain.observation import Observation
from hpcli.domain.policy import Policy

RELEASE_INTERVAL = 1.0
"""Seconds between two releases of one job, while Slurm has not acted on the first."""


def clear_node(seen: Observation, policy: Policy, repair: Repair) -> tuple[Action, ...]:
    """The steps that take the jobs off an evicted node, each job at its own stage."""
    fault = standing_fault(seen, repair.node)
    if not (repair.evict or (fault and fault.evict)):
        return ()
    found = (_next_for(seen, policy, repair, job) for job in seen.jobs_on.get(repair.node, ()))
    return tuple(action for action in found if action)


def _next_for(seen: Observation, policy: Policy, repair: Repair, job: Job) -> Action | None:
    node = seen.nodes[repair.node]
    if not job.may_be_evicted and not node.down:
        return None
    if job.state != "COMPLETING":
        return _take_off(seen, repair, job)
    eviction = repair.eviction(job.label)
    if eviction and not eviction.killed:
        return None
    age = seen.now - (eviction.at if eviction else repair.opened_at)
    if age >= 2 * policy.evict_grace and not node.down and (repair.node, Step.DOWN) not in seen.in_flight:
        target = Target(repair.node, seen.generation(repair.node))
        return OnNodes(Step.DOWN, repair.id, (target,), f"job {job.label} still completing after {age:.1f} s")
    return None


def _take_off(seen: Observation, repair: Repair, job: Job) -> Action | None:
    earlier = seen.evicted(job)
    if earlier and earlier.asked:
        return None
    step = Step.REQUEUE if job.requeue and not _refused(repair) else Step.CANCEL
    return OnJob(step, repair.id, repair.node, job, f"{repair.node}: {repair.message}")


def _refused(repair: Repair) -> bool:
    """Slurm would not requeue: the job is not a batch job."""
    requeue = repair.last(Step.REQUEUE)
    return bool(requeue and requeue.failed and not repair.last(Step.CANCEL))


def follow_jobs(seen: Observation, policy: Policy) -> Iterator[Action]:
    """End what is left of evicted jobs, release them from their wait, and notice when they run again."""
    for repair in seen.ledger.repairs:
        for eviction in repair.evictions:
            job = seen.jobs.get(eviction.job)
            if job and not eviction.running_again and (action := _follow(seen, policy, repair, eviction, job)):
                yield action


def _follow(seen: Observation, policy: Policy, repair: Repair, eviction: Eviction, job: Job) -> Action | None:
    if job.state == "RUNNING" and job.restarts > eviction.restarts:
        return Reach(repair.id, repair.node, Milestone.JOB_RUNNING, job.label)
    age = seen.now - eviction.at
    # On all of its nodes: ranks that ignore SIGTERM on a healthy one hold the job for KillWait (30 s) as well.
    if job.state == "COMPLETING" and not eviction.killed and age >= policy.evict_grace:
        return OnJob(Step.KILL, repair.id, repair.node, job, f"still completing {age:.1f} s after its eviction")
    # Slurm makes a requeued job wait for its old credential to expire (cred_expire, 121 s by default).
    if job.pending and job.reason == "BeginTime" and seen.now - eviction.released_at >= RELEASE_INTERVAL:
        return OnJob(Step.RELEASE, repair.id, repair.node, job, "its node is drained, nothing to wait for")
    return None
