"""Carry actions out: intent into the journal first, then Slurm, provider or agents, then the outcome."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ClusterShell.NodeSet import NodeSet

from hpcli.domain.action import Action, Close, Note, OnJob, OnNodes, Open, OpenBreaker, Plan, Reach, Target
from hpcli.domain.ledger import Kind, Outcome, Step
from hpcli.errors import HpcliError, Unsafe
from hpcli.ports import Agents, Provider, SlurmGateway
from hpcli.services.observe import Journal

log = logging.getLogger(__name__)

SLURM_STATE = {Step.DRAIN: "drain", Step.DOWN: "down", Step.RETURN: "resume"}


class Hands(Protocol):
    """Whatever carries decisions out."""

    async def apply(self, action: Action) -> None: ...


@dataclass(frozen=True, slots=True)
class Scribe:
    """Writes down what was decided, and has no means to do anything. Raises `Unsafe` for what is more than a note."""

    journal: Journal

    async def apply(self, action: Action) -> None:
        if isinstance(action, OnNodes | OnJob):
            raise Unsafe(f"recovery, which only observes, of {action.repair}", f"found {action.step}, expected a note")
        if isinstance(action, Close):
            _write_end(self.journal, action)
        else:
            write_down(self.journal, action)


@dataclass(slots=True)
class Executor:
    """Does what was decided. Reboots and replacements run on beside the loop; `done` tells of their end."""

    gateway: SlurmGateway
    provider: Provider
    agents: Agents
    journal: Journal
    done: asyncio.Event
    _running: dict[tuple[str, Step], asyncio.Task[None]] = field(default_factory=dict)

    @property
    def in_flight(self) -> frozenset[tuple[str, Step]]:
        return frozenset(self._running)

    async def apply(self, action: Action) -> None:
        """Carry one action out. A refusal by Slurm or provider goes into the journal, not up."""
        if isinstance(action, OnNodes):
            await self._on_nodes(action)
        elif isinstance(action, OnJob):
            await self._on_job(action)
        elif isinstance(action, Close):
            await self._close(action)
        else:
            write_down(self.journal, action)

    async def stop(self) -> None:
        """Let go of what runs; the journal knows that it was begun."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _on_nodes(self, action: OnNodes) -> None:
        if action.step in (Step.REBOOT, Step.REPLACE):
            for target in action.targets:
                self._begin(action, target)
            return
        for target in action.targets:
            self.journal.write(Kind.INTENT, **_intent(action, target))
        await self._settle(_names(action), lambda: self._touch(action))

    async def _touch(self, action: OnNodes) -> None:
        if action.step == Step.ACCEPT:
            await self.agents.accept(action.repair, action.nodes)
            return
        # Slurm keeps the reason of a drain that stands; `resume` takes none.
        reason = "" if action.step == Step.RETURN else self._reason(action)
        await self.gateway.update_nodes(str(NodeSet.fromlist(action.nodes)), SLURM_STATE[action.step], reason)

    def _begin(self, action: OnNodes, target: Target) -> None:
        self.journal.write(Kind.INTENT, **_intent(action, target))
        step = self.provider.reboot if action.step == Step.REBOOT else self.provider.replace
        key = (target.node, action.step)
        body = {"repair": action.repair, "nodes": [target.node], "step": action.step}
        task = asyncio.create_task(self._finish(key, body, lambda: step(target.node)))
        task.add_done_callback(_note_failure)
        self._running[key] = task

    async def _finish(
        self, key: tuple[str, Step], body: Mapping[str, object], step: Callable[[], Awaitable[None]]
    ) -> None:
        try:
            await self._settle(body, step)
        finally:
            del self._running[key]
            self.done.set()

    async def _on_job(self, action: OnJob) -> None:
        body = {"repair": action.repair, "nodes": [action.node], "step": action.step, "job": action.job.label}
        self.journal.write(
            Kind.INTENT, **body, restarts=action.job.restarts, job_nodes=action.job.nodes, why=action.reason
        )
        await self._settle(body, lambda: self._act_on_job(action))

    async def _act_on_job(self, action: OnJob) -> None:
        job = action.job
        if action.step == Step.REQUEUE:
            await self.gateway.requeue([job.label])
        elif action.step == Step.RELEASE:
            await self.gateway.release([job.label])
        elif action.step == Step.KILL:
            await self.agents.kill_job(job.id, tuple(NodeSet(job.nodes)))
        else:
            await self._end(action)

    async def _end(self, action: OnJob) -> None:
        """A job that cannot be requeued: tell its owner first, then end it."""
        try:
            await self.gateway.notify(action.job.label, f"hpcli ends this job: {action.reason}")
        except HpcliError:
            pass
        await self.gateway.cancel([action.job.label])

    async def _close(self, action: Close) -> None:
        repair = self.journal.ledger.open.get(action.node)
        _write_end(self.journal, action)
        if action.outcome == Outcome.PARKED and repair:
            reason = f"{repair.reason} parked: {action.reason}"
            body = {"repair": action.repair, "nodes": [action.node], "step": Step.DRAIN}
            await self._settle(body, lambda: self.gateway.update_nodes(action.node, "drain", reason))

    async def _settle(self, body: Mapping[str, object], step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except HpcliError as error:
            self.journal.write(Kind.FAILED, **body, error=str(error))
        else:
            self.journal.write(Kind.DONE, **body)

    def _reason(self, action: OnNodes) -> str:
        repair = self.journal.ledger.open.get(action.nodes[0])
        return repair.reason if repair else f"hpcli:{action.repair}"


def write_down(journal: Journal, action: Note) -> None:
    """Put what touches nothing into the journal."""
    if isinstance(action, OpenBreaker):
        journal.write(Kind.BREAKER, open=action.reason)
    elif isinstance(action, Reach):
        journal.write(
            Kind.REACHED, repair=action.repair, nodes=[action.node], milestone=action.milestone, job=action.job
        )
    elif isinstance(action, Plan):
        journal.write(Kind.PLANNED, **_planned(action))
    else:
        for target in action.targets:
            journal.write(Kind.OPENED, **_opened(action, target))


def _write_end(journal: Journal, action: Close) -> None:
    journal.write(Kind.CLOSED, repair=action.repair, nodes=[action.node], outcome=action.outcome, why=action.reason)


def _note_failure(task: "asyncio.Task[None]") -> None:
    """A journal that cannot be written: the step counts as interrupted, and is taken again once it can."""
    if not task.cancelled() and (error := task.exception()):
        log.error("a step was not written down: %s", error)


def _names(action: OnNodes) -> dict[str, object]:
    return {"repair": action.repair, "nodes": list(action.nodes), "step": action.step}


def _intent(action: OnNodes, target: Target) -> dict[str, object]:
    return {
        **_names(action),
        "nodes": [target.node],
        "boot_id": target.generation.boot_id,
        "instance_id": target.generation.instance_id,
        "why": action.reason,
    }


def _planned(action: Plan) -> dict[str, object]:
    return {
        "repair": action.repair,
        "nodes": [action.node],
        "steps": list(action.steps),
        "evict": action.evict,
        "why": action.reason,
    }


def _opened(action: Open, target: Target) -> dict[str, object]:
    incident = action.incident
    return {
        **({"observed": True} if action.observed else {}),
        "repair": action.repair,
        "node": target.node,
        "cause": incident.cause,
        "message": incident.message,
        "evict": incident.evict,
        "remedy": incident.remedy,
        "first_seen": incident.first_seen,
        "evidence": list(incident.evidence),
        "jobs": [[job.label, job.restarts, job.nodes] for job in target.jobs],
        "boot_id": target.generation.boot_id,
        "instance_id": target.generation.instance_id,
    }
