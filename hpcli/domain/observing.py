"""Recovery that only observes: the decisions that it would act on, and when they would be over. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from hpcli.domain.action import Action, Close, Open, Plan
from hpcli.domain.budget import begin
from hpcli.domain.fault import standing_fault
from hpcli.domain.foresight import PARK, foresee
from hpcli.domain.journal import Outcome
from hpcli.domain.ledger import Ledger, Repair
from hpcli.domain.node import Node
from hpcli.domain.observation import Observation, owned_by_slurm
from hpcli.domain.policy import Policy


def observe(seen: Observation, policy: Policy) -> tuple[Action, ...]:
    """What to write down now; none of it touches anything.

    A repair is opened as it would be if we acted. Its plan is written once, and once more if a fault comes to stand
    that leaves the node's jobs no time. It is closed when the fault has gone. One that was begun while we acted, before
    somebody chose to observe, stays where it is.
    """
    if seen.ledger.paused:
        return ()
    return (*_follow(seen, policy), *_opened(seen, policy))


def end_observed(ledger: Ledger) -> tuple[Close, ...]:
    """From now on we act: what was only observed is over, so that the same faults open repairs of their own."""
    return tuple(_close(repair, "recovery acts from now on") for repair in ledger.open.values() if repair.observed)


def _opened(seen: Observation, policy: Policy) -> Iterator[Action]:
    for action in begin(_as_if(seen, policy), policy):
        yield replace(action, observed=True) if isinstance(action, Open) else action


def _as_if(seen: Observation, policy: Policy) -> Observation:
    """The cluster as it would be: nodes of observed repairs drained.

    Nothing cures them, so each holds its place in the budget for as long as a real repair may last, and no longer.
    """
    observed = [repair for repair in seen.ledger.open.values() if repair.observed and repair.node in seen.nodes]
    drained = {repair.node: _drained(seen.nodes[repair.node], repair) for repair in observed}
    over = {repair.node: repair for repair in observed if seen.now - repair.opened_at >= policy.longest_repair}
    left = {node: repair for node, repair in seen.ledger.open.items() if node not in over}
    ledger = replace(seen.ledger, open=left, closed=(*seen.ledger.closed, *over.values()))
    return replace(seen, nodes={**seen.nodes, **drained}, ledger=ledger)


def _drained(node: Node, repair: Repair) -> Node:
    return replace(node, states=node.states | {"DRAIN"}, reason=repair.reason)


def _follow(seen: Observation, policy: Policy) -> Iterator[Action]:
    for repair in seen.ledger.open.values():
        if not repair.observed:
            continue
        if why := _over(seen, repair):
            yield _close(repair, why)
        elif plan := _plan(seen, policy, repair):
            yield plan


def _over(seen: Observation, repair: Repair) -> str:
    """Why the incident is over; "" while it stands or nothing is known of the node."""
    node, report = seen.nodes.get(repair.node), seen.reports.get(repair.node)
    if node is None:
        return "Slurm knows the node no more"
    if (node.drain or node.down) and node.reason and not owned_by_slurm(node):
        return f"a person took the node over: {node.reason}"
    if report and report.complete and not standing_fault(seen, repair.node):
        return "the fault has gone"
    return ""


def _plan(seen: Observation, policy: Policy, repair: Repair) -> Plan | None:
    fault = standing_fault(seen, repair.node)
    worse = bool(fault and fault.evict and not repair.evict)
    if repair.plan and not worse:
        return None
    message = fault.message if fault and worse else repair.message
    evict = repair.evict or worse
    return Plan(repair.id, repair.node, foresee(seen, policy, repair) or (PARK,), evict, message)


def _close(repair: Repair, why: str) -> Close:
    return Close(repair.id, repair.node, Outcome.OBSERVED, why)
