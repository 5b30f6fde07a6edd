"""How many repairs may begin now: the breaker, the budget, the pace and the floor of schedulable nodes."""

import math
from itertools import groupby

from hpcli.domain.action import Action, Open, OpenBreaker, Target
from hpcli.domain.check import Incident
from hpcli.domain.fault import waiting_faults
from hpcli.domain.observation import Observation
from hpcli.domain.policy import Policy

Fault = tuple[str, Incident]


def begin(seen: Observation, policy: Policy) -> tuple[Action, ...]:
    """The repairs to begin; or, with too many faults at once, the breaker and nothing else."""
    faults = waiting_faults(seen)
    if not faults or seen.ledger.breaker_open:
        return ()
    if reason := too_many(seen, policy, faults):
        return (OpenBreaker(reason),)
    room = min(_budget_room(seen, policy), _pace_room(seen, policy), _floor_room(seen, policy, faults))
    return _opened(seen, faults[: max(0, room)])


def too_many(seen: Observation, policy: Policy, faults: tuple[Fault, ...]) -> str:
    """Why the breaker must open; "" while it need not.

    Faults that wait count too: a bad check turns every node faulty at once, and none may be touched.
    """
    since = max(seen.now - policy.breaker.window, seen.ledger.breaker_reset_at)
    recent = {repair.node for repair in seen.ledger.repairs if repair.opened_at > since}
    nodes = recent | {node for node, _ in faults}
    limit = policy.breaker.limit(len(seen.nodes))
    if len(nodes) <= limit:
        return ""
    causes = ", ".join(sorted({incident.cause for _, incident in faults}))
    window = f"{policy.breaker.window:g} s"
    return f"{len(nodes)} nodes faulty within {window}, at most {limit} are repaired; newest: {causes}"


def _budget_room(seen: Observation, policy: Policy) -> int:
    return policy.budget.limit(len(seen.nodes)) - len(seen.ledger.open)


def _pace_room(seen: Observation, policy: Policy) -> int:
    if not policy.start_interval:
        return len(seen.nodes)
    newest = max((repair.opened_at for repair in seen.ledger.repairs), default=-math.inf)
    return 1 if seen.now - newest >= policy.start_interval else 0


def _floor_room(seen: Observation, policy: Policy, faults: tuple[Fault, ...]) -> int:
    """How many of the waiting nodes may leave before too few schedulable ones are left."""
    schedulable = sum(node.schedulable for node in seen.nodes.values())
    spare = schedulable - math.ceil(policy.min_schedulable * len(seen.nodes))
    for position, (node, _) in enumerate(faults):
        spare -= seen.nodes[node].schedulable
        if spare < 0:
            return position
    return len(faults)


def _opened(seen: Observation, faults: tuple[Fault, ...]) -> tuple[Open, ...]:
    """One repair id per cause, so that one drain carries all of its nodes."""
    by_cause = groupby(sorted(faults, key=lambda fault: fault[1].cause), key=lambda fault: fault[1].cause)
    return tuple(
        Open(f"r{number}", tuple(_target(seen, node) for node, _ in group), group[0][1])
        for number, group in enumerate((list(members) for _, members in by_cause), seen.ledger.next_number)
    )


def _target(seen: Observation, node: str) -> Target:
    """A job that opted out is nobody's to follow: its ranks must not be ended when it completes by itself."""
    jobs = tuple(job for job in seen.jobs_on.get(node, ()) if job.may_be_evicted)
    return Target(node, seen.generation(node), jobs)
