"""Make a plan true: under the lock, looked at again, refused if it no longer fits, step by step, or as it was."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from hpcli.domain.blueprint import ADOPTED, Blueprint, Role
from hpcli.domain.change import Change, Disruption, Part, Plan
from hpcli.domain.names import expand
from hpcli.domain.steps import Act, Step, must_be_empty, steps
from hpcli.errors import HpcliError, Unsafe
from hpcli.ports import Clock, Progress, SlurmGateway
from hpcli.services.emptying import PREFIX, Emptying
from hpcli.services.plan import OnDrift, Planner, Survey, changes_of, kept, not_there, refuse_drift, refuse_stale
from hpcli.services.slurmctld import Slurmctld
from hpcli.services.take_steps import ABSENT, Steps
from hpcli.services.unbroken import unbroken

UNBROKEN = (Act.STOP, Act.KEEP, Act.START)
"""Between these slurmctld is out of service: Ctrl-C waits for the last of them."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that was taken, and how long it took."""

    step: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did; without `changes` the cluster was as wanted already."""

    cluster: str
    changes: tuple[Change, ...]
    steps: tuple[Taken, ...]
    seconds: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Apply:
    """Applies to one cluster. `wait`: seconds for jobs to leave nodes that must be empty, 0 refuses at once."""

    planner: Planner
    gateway: SlurmGateway
    clock: Clock
    progress: Progress
    strategy: OnDrift = OnDrift.REFUSE
    wait: float = 0.0

    async def apply(self, plan: Plan) -> Applied:
        """Do exactly what was planned.

        Raises `Unsafe` for a plan that no longer fits, hand edits, jobs in the way or another apply under way; and
        `HpcliError` when slurmctld refuses, before anything is touched or with the old configuration back in service.
        """
        async with self.planner.machines.lock():
            await self._serve_again()
            survey, goal = await self.planner.look()
            refuse_stale(plan, survey, goal)
            if survey is None:
                raise not_there(plan.cluster)
            if self.strategy is OnDrift.REFUSE:
                refuse_drift(survey.edits)
            target = kept(survey, goal) if self.strategy is OnDrift.KEEP else goal
            return await self._carry_out(survey, target)

    async def _carry_out(self, survey: Survey, goal: Blueprint) -> Applied:
        began = self.clock.now()
        states = survey.states(self.strategy)
        changes = changes_of(survey, goal, self.strategy)
        _refuse_impossible(changes, goal)
        course = _course(survey, states, goal, changes)
        taking = await self._steps(survey, states, goal)
        if not self.wait and (empty := must_be_empty(states, changes)):
            await taking.emptying.refuse_if_busy(empty)
        try:
            taken = await self._take_all(taking, course)
        except (HpcliError, asyncio.CancelledError):
            await taking.break_off()
            if not survey.pending and taking.undone:
                await self.planner.machines.keep_applied(survey.applied)
            raise
        return Applied(goal.cluster, changes, taken, self.clock.now() - began, tuple(taking.warnings))

    async def _take_all(self, taking: Steps, course: Sequence[Step]) -> tuple[Taken, ...]:
        taken: list[Taken] = []
        for block in _blocks(course):
            work = self._take(taking, block, taken)
            await (unbroken(work) if block[0].act in UNBROKEN else work)
        return tuple(taken)

    async def _take(self, taking: Steps, block: Sequence[Step], taken: list[Taken]) -> None:
        for step in block:
            began = self.clock.now()
            await taking.take(step)
            taken.append(Taken(str(step), round(self.clock.now() - began, 3)))

    async def _steps(self, survey: Survey, states: Sequence[Blueprint], goal: Blueprint) -> Steps:
        machines = self.planner.machines
        reason = f"{PREFIX}{goal.fingerprint}"
        slurmctld = Slurmctld(machines, self.gateway, self.clock, self.progress, survey.applied, goal)
        return Steps(
            machines=machines,
            gateway=self.gateway,
            clock=self.clock,
            progress=self.progress,
            states=states,
            goal=goal,
            found=survey.found,
            emptying=Emptying(self.gateway, self.clock, self.progress, reason),
            slurmctld=slurmctld,
            wait=self.wait,
            absent=await self._absent(survey.applied),
        )

    async def _absent(self, applied: Blueprint) -> frozenset[str]:
        """Nodes of long ago that are out of touch; those of an apply that was interrupted are waited for."""
        try:
            nodes = await self.gateway.nodes()
        except HpcliError:
            return frozenset()
        known = {place.name for place in applied.places}
        return frozenset(node.name for node in nodes if node.name in known and node.states & (ABSENT | {"DOWN"}))

    async def _serve_again(self) -> None:
        """After an apply that was killed with slurmctld stopped: first of all the cluster serves again."""
        machines = self.planner.machines
        applied, pending = await machines.applied(), await machines.pending()
        if applied is None or not pending or applied.provider == ADOPTED:
            return
        slurmctld = Slurmctld(machines, self.gateway, self.clock, self.progress, applied, pending[-1])
        if not await slurmctld.answers():
            self.progress.step("an earlier apply was killed with slurmctld stopped: starting it with the old files")
            await slurmctld.restore()


def _course(
    survey: Survey, states: Sequence[Blueprint], goal: Blueprint, changes: Sequence[Change]
) -> tuple[Step, ...]:
    """Nothing at all for a cluster that is as wanted; its record alone when only the spec's comments differ."""
    same = not survey.pending and not survey.assumed and all(state.files == goal.files for state in states)
    if same and not changes:
        return () if survey.applied == goal else (Step(Act.COMMIT),)
    return steps(states, goal, changes)


def _refuse_impossible(changes: Sequence[Change], goal: Blueprint) -> None:
    """Raises `Unsafe` for what would cost the cluster its memory."""
    for change in changes:
        state = change.part is Part.SLURM and change.what.startswith("parameter")
        controller = next(place.name for place in goal.places if place.role is Role.CONTROLLER)
        if change.disruption is Disruption.REBUILD and (state or controller in expand(change.hosts)):
            raise Unsafe(
                change.what,
                f"found {change.after!r}, expected {change.before!r}: {change.why or 'slurmctld would lose its state'}",
                "save what you need, then: hpcli cluster down, and hpcli cluster up with the new spec",
            )


def _blocks(course: Sequence[Step]) -> list[list[Step]]:
    """Steps one by one, but those between which nothing may stop us together."""
    blocks: list[list[Step]] = []
    for step in course:
        if step.act in UNBROKEN and blocks and blocks[-1][-1].act in UNBROKEN:
            blocks[-1].append(step)
        else:
            blocks.append([step])
    return blocks
