"""The way of one node from fault back to service: one next step, or none yet."""

from hpcli.domain.action import Action, Close, OnNodes, Reach, Target
from hpcli.domain.check import Remedy
from hpcli.domain.fault import standing_fault
from hpcli.domain.ledger import Generation, Milestone, Outcome, Repair, Step, Taken
from hpcli.domain.node import BUSY, Node
from hpcli.domain.observation import Observation, owned_by_hpcli, owned_by_slurm
from hpcli.domain.policy import Policy

UNSETTLED = frozenset({"NOT_RESPONDING", "REBOOT_REQUESTED", "REBOOT_ISSUED"})
RUNGS = (Step.REBOOT, Step.REPLACE, Step.ACCEPT, Step.RETURN)


def next_step(seen: Observation, policy: Policy, repair: Repair) -> Action | None:
    """What this repair needs now."""
    node = seen.nodes.get(repair.node)
    if node is None:
        return _close(repair, Outcome.STOPPED, "Slurm knows the node no more")
    if _person_took_over(node, repair):
        return _close(repair, Outcome.STOPPED, f"a person took the node over: {node.reason or 'resumed'}")
    rung = _last_rung(repair)
    if rung and rung.step == Step.RETURN:
        return _finish_return(seen, policy, repair, node, rung)
    if not node.drain:
        return _on_node(seen, repair, Step.DRAIN, repair.message)
    if node.states & BUSY:
        return None
    if Milestone.DRAINED not in repair.reached:
        return Reach(repair.id, repair.node, Milestone.DRAINED)
    if rung is None:
        return _first_rung(seen, policy, repair)
    if (repair.node, rung.step) in seen.in_flight:
        return None
    if rung.step == Step.ACCEPT:
        return _after_acceptance(seen, policy, repair, node, rung)
    return _after_boot(seen, policy, repair, rung)


def _person_took_over(node: Node, repair: Repair) -> bool:
    drain, returned = repair.last(Step.DRAIN), repair.last(Step.RETURN)
    if node.drain or node.down:
        return bool(drain) and not (owned_by_hpcli(node, repair) or owned_by_slurm(node) or not node.reason)
    return bool(drain and drain.done and not returned)


def _last_rung(repair: Repair) -> Taken | None:
    return next((taken for taken in reversed(repair.taken) if taken.step in RUNGS), None)


def _first_rung(seen: Observation, policy: Policy, repair: Repair) -> Action | None:
    if repair.remedy == Remedy.REPLACE:
        return _replace(seen, policy, repair, repair.message)
    fault = standing_fault(seen, repair.node)
    if repair.remedy == Remedy.DRAIN and repair.node in seen.reports and not fault:
        return _on_node(seen, repair, Step.ACCEPT, "the fault has gone")
    return _reboot(seen, policy, repair, repair.message)


def _after_boot(seen: Observation, policy: Policy, repair: Repair, rung: Taken) -> Action | None:
    """After a reboot or a replacement: judge the new generation, never the old one."""
    timeout = policy.reboot_timeout if rung.step == Step.REBOOT else policy.replace_timeout
    if rung.failed:
        return _escalate(seen, policy, repair, rung.step, rung.failed)
    if not _is_new(seen.generation(repair.node), rung):
        if seen.now - rung.at >= timeout:
            return _escalate(seen, policy, repair, rung.step, f"not back after {timeout:g} s")
        # A controller that died in the middle left the step undone: take it again.
        return None if rung.done else _on_node(seen, repair, rung.step, "taken again: it was interrupted")
    milestone = Milestone.REBOOTED if rung.step == Step.REBOOT else Milestone.REPLACED
    if milestone not in repair.reached:
        return Reach(repair.id, repair.node, milestone)
    if fault := standing_fault(seen, repair.node):
        return _escalate(seen, policy, repair, rung.step, f"{fault.cause} still stands: {fault.message}")
    if not seen.reports[repair.node].complete:
        return None
    return _on_node(seen, repair, Step.ACCEPT, f"healthy after the {rung.step}")


def _is_new(now: Generation, rung: Taken) -> bool:
    if rung.step == Step.REPLACE:
        return bool(now.instance_id) and now.instance_id != rung.generation.instance_id
    return bool(now.boot_id) and now.boot_id != rung.generation.boot_id


def _after_acceptance(seen: Observation, policy: Policy, repair: Repair, node: Node, rung: Taken) -> Action | None:
    report = seen.reports.get(repair.node)
    verdict = report.acceptance if report and seen.generation(repair.node) == rung.generation else None
    if verdict and verdict.repair == repair.id and not verdict.passed:
        return _escalate(seen, policy, repair, _last_boot(repair), f"acceptance failed: {verdict.message}")
    if seen.now - rung.at >= policy.acceptance_timeout:
        return _escalate(seen, policy, repair, _last_boot(repair), "acceptance timed out")
    if not verdict or verdict.repair != repair.id:
        # A controller that died in the middle may not have asked for it.
        return None if rung.done else _on_node(seen, repair, Step.ACCEPT, "asked again: it was interrupted")
    if not _registered(node, repair):
        return None
    if Milestone.ACCEPTED not in repair.reached:
        return Reach(repair.id, repair.node, Milestone.ACCEPTED)
    return _on_node(seen, repair, Step.RETURN, "acceptance passed")


def _registered(node: Node, repair: Repair) -> bool:
    """slurmd of the present generation has registered; Slurm's times are whole seconds.

    A reboot that Slurm itself ordered must be over for it too: resumed before that, the node may be taken out again.
    """
    booted = max((taken.at for taken in repair.taken if taken.step in (Step.REBOOT, Step.REPLACE)), default=0.0)
    return not node.states & UNSETTLED and node.slurmd_start_time >= int(booted)


def _finish_return(seen: Observation, policy: Policy, repair: Repair, node: Node, rung: Taken) -> Action | None:
    if node.schedulable:
        return _close(repair, Outcome.RETURNED, "back in service")
    if seen.now - rung.at >= policy.acceptance_timeout:
        return _close(repair, Outcome.PARKED, f"Slurm does not take it back: {'+'.join(sorted(node.states))}")
    if node.drain or node.down:
        return _on_node(seen, repair, Step.RETURN, "not in service yet")
    return None


def _last_boot(repair: Repair) -> Step:
    boots = (taken.step for taken in reversed(repair.taken) if taken.step in (Step.REBOOT, Step.REPLACE))
    return next(boots, Step.DRAIN)


def _escalate(seen: Observation, policy: Policy, repair: Repair, after: Step, why: str) -> Action | None:
    if after == Step.REPLACE:
        return _close(repair, Outcome.PARKED, why)
    if after == Step.REBOOT:
        return _replace(seen, policy, repair, why)
    return _reboot(seen, policy, repair, why)


def _reboot(seen: Observation, policy: Policy, repair: Repair, why: str) -> Action | None:
    last = seen.ledger.rebooted_at.get(repair.node)
    if not seen.can_reboot or (last is not None and seen.now - last < policy.reboot_interval):
        return _replace(seen, policy, repair, why)
    return _on_node(seen, repair, Step.REBOOT, why)


def _replace(seen: Observation, policy: Policy, repair: Repair, why: str) -> Action | None:
    last = seen.ledger.replaced_at.get(repair.node)
    if not seen.can_replace:
        return _close(repair, Outcome.PARKED, f"{why}; the provider cannot replace nodes")
    if last is not None and seen.now - last < policy.replace_interval:
        return _close(repair, Outcome.PARKED, f"{why}; replaced {seen.now - last:.0f} s ago already")
    return _on_node(seen, repair, Step.REPLACE, why)


def _on_node(seen: Observation, repair: Repair, step: Step, why: str) -> OnNodes | None:
    if (repair.node, step) in seen.in_flight:
        return None
    return OnNodes(step, repair.id, (Target(repair.node, seen.generation(repair.node)),), why)


def _close(repair: Repair, outcome: Outcome, why: str) -> Close:
    return Close(repair.id, repair.node, outcome, why)
