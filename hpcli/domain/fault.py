"""Is a node faulty, and may a repair of it begin?"""

from hpcli.domain.check import Incident, Remedy
from hpcli.domain.observation import Observation, owned_by_slurm

ORDER = tuple(Remedy)
DEAD = "node.dead"


def standing_fault(seen: Observation, node: str) -> Incident | None:
    """The worst fault that stands on a node now; None when it is healthy or nothing is known."""
    report = seen.reports.get(node)
    if report is None:
        return _silent_and_down(seen, node)
    calls_for_action = [i for i in report.incidents if i.remedy is not Remedy.NONE]
    return max(calls_for_action, key=_rank, default=None)


def _silent_and_down(seen: Observation, node: str) -> Incident | None:
    """Slurm gave the node up and its agent is silent: the machine itself is gone."""
    state = seen.nodes[node]
    if not (state.down and owned_by_slurm(state)):
        return None
    message = f"down in Slurm ({state.reason}) and its agent is silent"
    return Incident(DEAD, message, Remedy.REBOOT, evict=True, latched=False, first_seen=seen.now)


def _rank(incident: Incident) -> tuple[bool, int, float]:
    return incident.evict, ORDER.index(incident.remedy), -incident.first_seen


def may_begin(seen: Observation, node: str) -> bool:
    """A node under repair, parked, or drained by a person is left as it is."""
    state = seen.nodes[node]
    if node in seen.ledger.open:
        return False
    if not (state.drain or state.down):
        return True
    return owned_by_slurm(state)


def waiting_faults(seen: Observation) -> tuple[tuple[str, Incident], ...]:
    """Faulty nodes whose repair could begin, the most urgent first."""
    found = [(node, fault) for node in seen.nodes if may_begin(seen, node) and (fault := standing_fault(seen, node))]
    return tuple(sorted(found, key=lambda pair: (not pair[1].evict, pair[1].first_seen, pair[0])))
