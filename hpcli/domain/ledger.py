"""What the journal says of repairs, folded into values that decisions are made from.

A journal entry is (kind, body, time). Intent is written before anything is touched, so after a
crash the fold shows what may or may not have happened; what did happen is then observed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from hpcli.domain.check import Remedy
from hpcli.domain.journal import KINDS
from hpcli.domain.journal import Kind as Kind
from hpcli.domain.journal import Milestone as Milestone
from hpcli.domain.journal import Outcome as Outcome
from hpcli.domain.journal import Step as Step
from hpcli.domain.policy import Mode

Body: TypeAlias = Mapping[str, object]
Entry: TypeAlias = tuple[int, float, str, Body]


@dataclass(frozen=True, slots=True)
class Generation:
    """Which boot of which machine: anything observed of another generation is not this one."""

    boot_id: str = ""
    instance_id: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that was at least intended, with the machine's generation at that moment."""

    step: Step
    at: float
    generation: Generation
    done: bool = False
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Eviction:
    """A job that a repair takes off its nodes. `restarts` is the count before it.

    `asked` says that Slurm took the request; without it, a crash may have come first.
    """

    job: str
    restarts: int
    nodes: str
    at: float
    asked: bool = False
    released_at: float = 0.0
    killed: bool = False
    running_again: bool = False


@dataclass(frozen=True, slots=True)
class Repair:
    """One node's way from fault back to service. Repairs that began together share an id.

    One that is only observed has its outcome from the beginning, and `plan`: what would be done.
    """

    id: str
    node: str
    cause: str
    message: str
    evict: bool
    remedy: Remedy
    opened_at: float
    generation: Generation
    taken: tuple[Taken, ...] = ()
    evictions: tuple[Eviction, ...] = ()
    reached: frozenset[Milestone] = frozenset()
    plan: tuple[str, ...] = ()
    outcome: Outcome | None = None
    closed_at: float = 0.0

    @property
    def observed(self) -> bool:
        return self.outcome == Outcome.OBSERVED

    @property
    def over(self) -> bool:
        return self.outcome is not None and (not self.observed or self.closed_at > 0)

    @property
    def reason(self) -> str:
        """The reason that Slurm shows for the drain, and the mark that the drain is ours."""
        return f"hpcli:{self.id}:{self.cause}"

    def last(self, step: Step) -> Taken | None:
        return next((taken for taken in reversed(self.taken) if taken.step == step), None)

    def eviction(self, job: str) -> Eviction | None:
        return next((eviction for eviction in reversed(self.evictions) if eviction.job == job), None)


@dataclass(frozen=True, slots=True)
class Ledger:
    """Every repair, the breaker and the pause; `mode` is recovery's.

    `unknown`: kinds of entries that another release wrote, which say nothing to this one.
    """

    open: Mapping[str, Repair] = field(default_factory=dict)
    closed: tuple[Repair, ...] = ()
    next_number: int = 1
    breaker_open: str = ""
    breaker_reset_at: float = 0.0
    paused: str = ""
    mode: str = Mode.ACT
    rebooted_at: Mapping[str, float] = field(default_factory=dict)
    replaced_at: Mapping[str, float] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()

    @property
    def repairs(self) -> tuple[Repair, ...]:
        return (*self.closed, *self.open.values())

    def parked(self, node: str) -> Repair | None:
        """The node's newest repair, if it ended without a cure."""
        last = next((repair for repair in reversed(self.closed) if repair.node == node), None)
        return last if last and last.outcome == Outcome.PARKED else None


def fold(ledger: Ledger, entries: Iterable[Entry]) -> Ledger:
    """The ledger after these further entries."""
    for _number, at, kind, body in entries:
        if kind in KINDS:
            ledger = _apply(ledger, at, Kind(kind), body)
        else:
            ledger = replace(ledger, unknown=ledger.unknown | {kind})
    return ledger


def _apply(ledger: Ledger, at: float, kind: Kind, body: Body) -> Ledger:
    if kind == Kind.OPENED:
        return _opened(ledger, at, body)
    if kind == Kind.BREAKER:
        reason = str(body["open"])
        return replace(ledger, breaker_open=reason, breaker_reset_at=ledger.breaker_reset_at if reason else at)
    if kind == Kind.PAUSE:
        return replace(ledger, paused=str(body["reason"]))
    if kind == Kind.MODE:
        return replace(ledger, mode=str(body["mode"]))
    if kind == Kind.AUDIT:
        return ledger
    return _change_repairs(ledger, at, kind, body)


def _opened(ledger: Ledger, at: float, body: Body) -> Ledger:
    repair = Repair(
        id=str(body["repair"]),
        node=str(body["node"]),
        cause=str(body["cause"]),
        message=str(body["message"]),
        evict=bool(body["evict"]),
        remedy=Remedy(str(body["remedy"])),
        opened_at=at,
        generation=_generation(body),
        evictions=tuple(_lost_jobs(body, at)),
        outcome=Outcome.OBSERVED if body.get("observed") else None,
    )
    number = max(ledger.next_number, int(repair.id.removeprefix("r")) + 1)
    return replace(ledger, open={**ledger.open, repair.node: repair}, next_number=number)


def _lost_jobs(body: Body, at: float) -> Iterator[Eviction]:
    """Jobs on an unusable node: Slurm may take them off by itself (a failed Prolog) before we ask it to."""
    jobs = body.get("jobs", [])
    if body["evict"] and not body.get("observed") and isinstance(jobs, list | tuple):
        for label, restarts, nodes in jobs:
            yield Eviction(str(label), int(restarts), str(nodes), at)


def _change_repairs(ledger: Ledger, at: float, kind: Kind, body: Body) -> Ledger:
    for node in _words(body, "nodes"):
        repair = next((r for r in reversed(ledger.repairs) if (r.id, r.node) == (body["repair"], node)), None)
        if repair is not None:
            ledger = _put(ledger, _CHANGES[kind](repair, at, body))
            ledger = _remember_rung(ledger, kind, body, node, at)
    return ledger


def _put(ledger: Ledger, changed: Repair) -> Ledger:
    """Replace a repair by its later self; jobs of a closed one are still followed."""
    key = (changed.id, changed.node)
    if any((r.id, r.node) == key for r in ledger.closed):
        return replace(ledger, closed=tuple(changed if (r.id, r.node) == key else r for r in ledger.closed))
    rest = {name: other for name, other in ledger.open.items() if name != changed.node}
    if changed.over:
        return replace(ledger, open=rest, closed=(*ledger.closed, changed))
    return replace(ledger, open={**rest, changed.node: changed})


def _remember_rung(ledger: Ledger, kind: Kind, body: Body, node: str, at: float) -> Ledger:
    if kind != Kind.INTENT:
        return ledger
    if body["step"] == Step.REBOOT:
        return replace(ledger, rebooted_at={**ledger.rebooted_at, node: at})
    if body["step"] == Step.REPLACE:
        return replace(ledger, replaced_at={**ledger.replaced_at, node: at})
    return ledger


def _planned(repair: Repair, _at: float, body: Body) -> Repair:
    return replace(repair, plan=tuple(_words(body, "steps")), evict=repair.evict or bool(body["evict"]))


def _intent(repair: Repair, at: float, body: Body) -> Repair:
    step = Step(str(body["step"]))
    taken = (*repair.taken, Taken(step, at, _generation(body)))
    repair = replace(repair, taken=taken)
    if step in (Step.REQUEUE, Step.CANCEL):
        eviction = Eviction(str(body["job"]), int(str(body["restarts"])), str(body["job_nodes"]), at)
        others = (e for e in repair.evictions if (e.job, e.restarts) != (eviction.job, eviction.restarts))
        return replace(repair, evictions=(*others, eviction))
    if step == Step.RELEASE:
        return _change_eviction(repair, body, lambda eviction: replace(eviction, released_at=at))
    if step == Step.KILL:
        return _change_eviction(repair, body, lambda eviction: replace(eviction, killed=True))
    return repair


def _done(repair: Repair, _at: float, body: Body) -> Repair:
    step = Step(str(body["step"]))
    repair = _settle(repair, step, done=True)
    if step in (Step.REQUEUE, Step.CANCEL):
        return _change_eviction(repair, body, lambda eviction: replace(eviction, asked=True))
    return repair


def _failed(repair: Repair, _at: float, body: Body) -> Repair:
    return _settle(repair, Step(str(body["step"])), failed=str(body["error"]) or "failed")


def _settle(repair: Repair, step: Step, *, done: bool = False, failed: str = "") -> Repair:
    last = repair.last(step)
    taken = tuple(replace(t, done=done, failed=failed) if t is last else t for t in repair.taken)
    return replace(repair, taken=taken)


def _reached(repair: Repair, _at: float, body: Body) -> Repair:
    milestone = Milestone(str(body["milestone"]))
    repair = replace(repair, reached=repair.reached | {milestone})
    if milestone == Milestone.JOB_RUNNING:
        return _change_eviction(repair, body, lambda eviction: replace(eviction, running_again=True))
    return repair


def _closed(repair: Repair, at: float, body: Body) -> Repair:
    return replace(repair, outcome=Outcome(str(body["outcome"])), closed_at=at)


def _change_eviction(repair: Repair, body: Body, change: Callable[[Eviction], Eviction]) -> Repair:
    target = repair.eviction(str(body["job"]))
    evictions = tuple(change(e) if e is target else e for e in repair.evictions)
    return replace(repair, evictions=evictions)


def _generation(body: Body) -> Generation:
    return Generation(str(body.get("boot_id", "")), str(body.get("instance_id", "")))


def _words(body: Body, key: str) -> list[str]:
    words = body.get(key, [])
    return [str(word) for word in words] if isinstance(words, list | tuple) else []


_CHANGES = {
    Kind.PLANNED: _planned,
    Kind.INTENT: _intent,
    Kind.DONE: _done,
    Kind.FAILED: _failed,
    Kind.REACHED: _reached,
    Kind.CLOSED: _closed,
}
