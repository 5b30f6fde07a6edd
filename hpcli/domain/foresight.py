"""What a repair would come to at most: the very decisions of recovery, on a cluster that follows each of them.

The worst is taken for granted until the last resort: a reboot cures nothing, a replacement does.
"""

from collections.abc import Iterator
from dataclasses import replace

from hpcli.domain.action import Action, Close, OnJob, OnNodes, Reach
from hpcli.domain.check import Incident
from hpcli.domain.eviction import clear_node
from hpcli.domain.fault import standing_fault
from hpcli.domain.journal import Kind, Outcome, Step
from hpcli.domain.ladder import next_step
from hpcli.domain.ledger import Repair, fold
from hpcli.domain.node import BUSY
from hpcli.domain.observation import Observation
from hpcli.domain.policy import Policy
from hpcli.domain.report import Acceptance, NodeReport

LONGEST = 20
"""No repair takes more steps, milestones counted."""

JOBS_FINISH = "wait for its jobs"
PARK = "park"


def foresee(seen: Observation, policy: Policy, repair: Repair) -> tuple[str, ...]:
    """The steps in words and in order, as `drain`, `requeue job 7`, `reboot`, `replace`, `accept`, `return`."""
    begun = replace(repair, outcome=None, plan=())
    seen = replace(seen, ledger=replace(seen.ledger, open={**seen.ledger.open, repair.node: begun}))
    return tuple(_course(seen, policy, repair.node, standing_fault(seen, repair.node)))


def _course(seen: Observation, policy: Policy, node: str, fault: Incident | None) -> Iterator[str]:
    for _ in range(LONGEST):
        repair = seen.ledger.open[node]
        step = next_step(seen, policy, repair)
        actions = (step,) if step else clear_node(seen, policy, repair)
        if not actions and not seen.nodes[node].states & BUSY:
            return
        if not actions:
            seen = _without_jobs(seen, node)
            yield JOBS_FINISH
        for action in actions:
            if isinstance(action, Close):
                yield from (PARK,) if action.outcome == Outcome.PARKED else ()
                return
            yield from _words(action)
            seen = _after(seen, node, fault, action)


def _words(action: Action) -> Iterator[str]:
    if isinstance(action, OnJob):
        yield f"{action.step} job {action.job.label}"
    elif isinstance(action, OnNodes):
        yield action.step.value


def _after(seen: Observation, node: str, fault: Incident | None, action: Action) -> Observation:
    """The cluster when this has been done."""
    if isinstance(action, OnJob):
        return _without_jobs(seen, node, action.job.label)
    if isinstance(action, Reach):
        return _journaled(seen, node, Kind.REACHED, milestone=action.milestone)
    if not isinstance(action, OnNodes):
        return seen
    now = seen.generation(node)
    for kind in (Kind.INTENT, Kind.DONE):
        seen = _journaled(
            seen, node, kind, step=action.step, boot_id=now.boot_id, instance_id=now.instance_id, why=action.reason
        )
    return _TAKEN[action.step](seen, node, fault) if action.step in _TAKEN else seen


def _journaled(seen: Observation, node: str, kind: Kind, **body: object) -> Observation:
    told = {"repair": seen.ledger.open[node].id, "nodes": [node], **body}
    return replace(seen, ledger=fold(seen.ledger, [(0, seen.now, kind, told)]))


def _drained(seen: Observation, node: str, _: Incident | None) -> Observation:
    state = seen.nodes[node]
    drained = replace(state, states=state.states | {"DRAIN"}, reason=seen.ledger.open[node].reason)
    return replace(seen, nodes={**seen.nodes, node: drained})


def _rebooted(seen: Observation, node: str, fault: Incident | None) -> Observation:
    now = seen.generation(node)
    return _booted(seen, node, now.instance_id, (fault,) if fault else ())


def _replaced(seen: Observation, node: str, _: Incident | None) -> Observation:
    return _booted(seen, node, f"{seen.generation(node).instance_id}+1", ())


def _booted(seen: Observation, node: str, instance: str, incidents: tuple[Incident, ...]) -> Observation:
    state = seen.nodes[node]
    up = replace(state, states=(state.states - {"NOT_RESPONDING"}), slurmd_start_time=seen.now + 1)
    report = NodeReport(node, f"{seen.generation(node).boot_id}+1", instance, 1, seen.now, True, incidents=incidents)
    return replace(seen, nodes={**seen.nodes, node: up}, reports={**seen.reports, node: report})


def _accepted(seen: Observation, node: str, _: Incident | None) -> Observation:
    verdict = Acceptance(seen.ledger.open[node].id, True)
    report = replace(seen.reports[node], acceptance=verdict)
    return replace(seen, reports={**seen.reports, node: report})


def _returned(seen: Observation, node: str, _: Incident | None) -> Observation:
    idle = replace(seen.nodes[node], states=frozenset({"IDLE"}), reason="")
    return replace(seen, nodes={**seen.nodes, node: idle})


def _without_jobs(seen: Observation, node: str, label: str = "") -> Observation:
    """That job is off the node, or all are; the last one leaves it idle."""
    left = tuple(job for job in seen.jobs_on.get(node, ()) if label and job.label != label)
    state = seen.nodes[node]
    if not left:
        state = replace(state, states=(state.states - BUSY) | {"IDLE"})
    return replace(seen, jobs_on={**seen.jobs_on, node: left}, nodes={**seen.nodes, node: state})


_TAKEN = {
    Step.DRAIN: _drained,
    Step.REBOOT: _rebooted,
    Step.REPLACE: _replaced,
    Step.ACCEPT: _accepted,
    Step.RETURN: _returned,
}
