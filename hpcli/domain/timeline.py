"""From a fault to a cured node: the moments of one repair, in seconds since the fault."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpcli.domain.ledger import Entry, Kind, Milestone, Outcome


@dataclass(frozen=True, slots=True)
class Progress:
    """One training step as the job's own log tells it; `at` is in seconds since the epoch."""

    at: float
    step: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """Seconds since the fault was written; None for what has not happened.

    `first_new_step_s` is the end of the first step that the resumed run finished.
    """

    detected_s: float | None = None
    drained_s: float | None = None
    job_running_s: float | None = None
    first_new_step_s: float | None = None
    node_rebooted_s: float | None = None
    node_replaced_s: float | None = None
    accepted_s: float | None = None
    in_service_s: float | None = None


MILESTONES = {
    Milestone.DRAINED: "drained_s",
    Milestone.JOB_RUNNING: "job_running_s",
    Milestone.REBOOTED: "node_rebooted_s",
    Milestone.REPLACED: "node_replaced_s",
    Milestone.ACCEPTED: "accepted_s",
}


def timeline(entries: Iterable[Entry], progress: Iterable[Progress], node: str, fault_at: float) -> Timeline:
    """What journal and training log say of `node` since `fault_at`; the first of each kind counts."""
    found: dict[str, float] = {}
    for _number, at, kind, body in entries:
        if at >= fault_at and node in _nodes_of(body) and (moment := _moment(kind, body)):
            found.setdefault(moment, round(at - fault_at, 3))
    resumed = [line.at for line in progress if line.attempt > 0 and line.at >= fault_at]
    if resumed:
        found["first_new_step_s"] = round(min(resumed) - fault_at, 3)
    return Timeline(**found)


def _moment(kind: str, body: object) -> str:
    assert isinstance(body, dict)
    if kind == Kind.OPENED:
        return "detected_s"
    if kind == Kind.REACHED:
        return MILESTONES[Milestone(body["milestone"])]
    if kind == Kind.CLOSED and body["outcome"] == Outcome.RETURNED:
        return "in_service_s"
    return ""


def _nodes_of(body: object) -> list[str]:
    assert isinstance(body, dict)
    return [str(body["node"])] if "node" in body else list(body.get("nodes", ()))


def steps_repeated(progress: Sequence[Progress]) -> int:
    """How many steps were done more than once, because they came after the checkpoint resumed from."""
    return len(progress) - len({line.step for line in progress})
