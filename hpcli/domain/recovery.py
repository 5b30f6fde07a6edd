"""The one place that decides. Pure: the same observation and policy give the same actions."""

from collections.abc import Iterable

from hpcli.domain.action import Action, OnNodes, Target
from hpcli.domain.budget import begin
from hpcli.domain.eviction import clear_node, follow_jobs
from hpcli.domain.ladder import next_step
from hpcli.domain.observation import Observation
from hpcli.domain.observing import end_observed, observe
from hpcli.domain.policy import Policy


def decide(seen: Observation, policy: Policy) -> tuple[Action, ...]:
    """What to do now. Blind means no action; what is done already is not done again.

    A policy that only observes gives nothing but what is to be written down.
    """
    if seen.blind:
        return ()
    if policy.observes:
        return observe(seen, policy)
    if seen.ledger.paused or not policy.acts:
        return tuple(follow_jobs(seen, policy))
    if ended := end_observed(seen.ledger):
        return ended
    steps: list[Action] = []
    for repair in seen.ledger.open.values():
        if step := next_step(seen, policy, repair):
            steps.append(step)
        else:
            steps += clear_node(seen, policy, repair)
    return (*group(steps), *follow_jobs(seen, policy), *begin(seen, policy))


def group(actions: Iterable[Action]) -> tuple[Action, ...]:
    """Join equal steps of one repair id, so that one call to Slurm carries the whole hostlist."""
    joined: dict[tuple[str, str, str], OnNodes] = {}
    rest: list[Action] = []
    for action in actions:
        if not isinstance(action, OnNodes):
            rest.append(action)
            continue
        key = (action.repair, action.step, action.reason)
        targets: tuple[Target, ...] = (*joined[key].targets, *action.targets) if key in joined else action.targets
        joined[key] = OnNodes(action.step, action.repair, targets, action.reason)
    return (*joined.values(), *rest)
