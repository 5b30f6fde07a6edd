"""What is to be done to a cluster: its machines as they are, its spec as it is wanted, the difference."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from hpcli.domain.blueprint import Blueprint
from hpcli.domain.change import Change, HandEdit, Plan
from hpcli.domain.difference import difference, merged
from hpcli.domain.drift import Everything, as_found, drift
from hpcli.errors import NotFound, Unsafe
from hpcli.machines import Machines
from hpcli.services.drift import read_files

Wanted = Callable[[Blueprint | None], Awaitable[Blueprint]]
"""Makes the goal from the spec, given what was applied; touches nothing."""

INTERRUPTED = "an earlier apply did not end; this one goes on from wherever it was"
ASSUMED = "nothing says what was applied last: the files found on the machines are taken for it"
MOST_TOLD = 5


class OnDrift(StrEnum):
    """What becomes of a hand edit."""

    REFUSE = "refuse"
    KEEP = "keep"
    OVERWRITE = "overwrite"


@dataclass(frozen=True, slots=True)
class Survey:
    """A cluster as it is.

    `pending` are the goals of applies that did not end. `assumed`: nothing was written down, so that the files as found
    are the base.
    """

    applied: Blueprint
    pending: tuple[Blueprint, ...]
    found: Everything
    edits: tuple[HandEdit, ...]
    assumed: bool = False

    @property
    def as_found(self) -> Blueprint:
        return as_found(self.applied, self.found, self.edits)

    def states(self, strategy: OnDrift) -> tuple[Blueprint, ...]:
        """Every state that the daemons may be in, the last good one first."""
        # A daemon may have been restarted since the edit, or not.
        edited = (self.as_found,) if self.edits and strategy is not OnDrift.REFUSE else ()
        return (self.applied, *self.pending, *edited)


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans for one cluster. `assumed` gives the blueprint of one that was built before anything was written down."""

    machines: Machines
    wanted: Wanted
    assumed: Callable[[], Awaitable[Blueprint | None]]

    async def look(self) -> tuple[Survey | None, Blueprint]:
        """The cluster as it is, None where there is none yet, and the goal. Touches nothing."""
        applied, pending = await self.machines.applied(), await self.machines.pending()
        base = applied or await self.assumed()
        goal = await self.wanted(base)
        if base is None:
            return None, goal
        states = (base, *pending)
        found = await read_files(self.machines, (*states, goal))
        survey = Survey(base, pending, found, drift(states, found))
        if applied is None:
            survey = Survey(survey.as_found, pending, found, (), assumed=True)
        return survey, goal

    async def plan(self, strategy: OnDrift = OnDrift.REFUSE) -> Plan:
        """What an apply with this strategy would do now."""
        survey, goal = await self.look()
        return plan_of(survey, goal, strategy)


def plan_of(survey: Survey | None, goal: Blueprint, strategy: OnDrift = OnDrift.REFUSE) -> Plan:
    """Raises as `kept` does."""
    if survey is None:
        return Plan(goal.cluster, "", goal.fingerprint, difference(None, goal))
    target = kept(survey, goal) if strategy is OnDrift.KEEP else goal
    notes = (INTERRUPTED,) * bool(survey.pending) + (ASSUMED,) * survey.assumed
    return Plan(
        goal.cluster,
        survey.applied.fingerprint,
        goal.fingerprint,
        changes_of(survey, target, strategy),
        survey.edits,
        notes,
    )


def changes_of(survey: Survey, goal: Blueprint, strategy: OnDrift) -> tuple[Change, ...]:
    return merged(difference(state, goal) for state in survey.states(strategy))


def kept(survey: Survey, goal: Blueprint) -> Blueprint:
    """The goal with every edited file as it was found. Raises `Unsafe` where the plan changes such a file too."""
    places = dict.fromkeys((edit.host, edit.path) for edit in survey.edits)
    files = dict(goal.files)
    for host, path in places:
        old, new, lies = survey.applied.file(host, path), goal.file(host, path), survey.found[host].get(path)
        if lies is None:
            continue
        if old is None or new is None or old != new:
            raise Unsafe(
                f"{host}:{path}",
                "found it edited by hand and changed by the plan, expected one of the two: it cannot be kept",
                "put the edit into cluster.yaml (slurm_conf: for slurm.conf), then apply with --on-drift overwrite",
            )
        mine = replace(new, text=lies.text, mode=lies.mode, owner=lies.owner, group=lies.group)
        files[host] = tuple(mine if file.path == path else file for file in files[host])
    return replace(goal, files=files)


def refuse_drift(edits: tuple[HandEdit, ...]) -> None:
    """Raises `Unsafe` naming file and line of each, as far as they are few."""
    if not edits:
        return
    shown = "; ".join(f"{edit.host}:{edit.path}:{edit.line}" for edit in edits[:MOST_TOLD])
    more = f"; and {len(edits) - MOST_TOLD} more" if len(edits) > MOST_TOLD else ""
    raise Unsafe(
        "drift",
        f"found files that were changed by hand, expected them as they were left: {shown}{more}",
        "see them: hpcli cluster drift; then apply with --on-drift overwrite, or keep",
    )


def refuse_stale(plan: Plan, survey: Survey | None, goal: Blueprint) -> None:
    """Raises `Unsafe` when the cluster, or what its spec makes of it, is no longer what the plan was made for."""
    base = survey.applied.fingerprint if survey else ""
    for what, now, then in (("cluster", base, plan.base), ("goal", goal.fingerprint, plan.goal)):
        if now != then:
            raise Unsafe(
                f"plan for cluster {plan.cluster}",
                f"the {what} changed since the plan was made: found {now or 'nothing'}, expected {then or 'nothing'}",
                "make a new plan: hpcli cluster plan",
            )


def not_there(cluster: str) -> NotFound:
    return NotFound(f"cluster {cluster}", "found no such cluster, expected one that is up", "hpcli cluster up")
