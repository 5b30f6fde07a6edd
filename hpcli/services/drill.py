"""Fault drills: a fault in the middle of a training run, told as it happens and measured."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from ClusterShell.NodeSet import NodeSet

from hpcli.domain.job import Job
from hpcli.domain.ledger import Entry
from hpcli.domain.timeline import Progress, Timeline, timeline
from hpcli.errors import HpcliError, JobFailed, TimedOut
from hpcli.ports import Clock, Controller, SlurmGateway

POLL = 0.05
JOB_POLL = 1.0
TRAINING_LIMIT = 180.0
STOCK_LIMIT = 400.0
"""Slurm's own requeue waits for cred_expire, 120 s unless configured (slurm.conf(5), AuthInfo)."""


class Faults(Protocol):
    """How a node is broken. `lose_gpu` returns when, in seconds since the epoch."""

    def lose_gpu(self, node: str, gpu: int = 0, *, broken: bool = True) -> float: ...


@dataclass(frozen=True, slots=True)
class Training:
    """The job that is run: `script` is templates/jobs/train.sbatch."""

    script: Path
    python: str
    nodes: int = 4
    steps: int = 150
    checkpoint_interval: int = 10
    step_seconds: float = 0.1
    ignore_term: bool = False

    @property
    def environment(self) -> dict[str, str]:
        return {"HPCLI_PYTHON": self.python, "HPCLI_TRAIN": str(self.script.with_name("train.py"))}

    def arguments(self, folder: Path, step_seconds: float) -> list[str]:
        """What sbatch is given; every setting of the run among it."""
        return [
            f"--nodes={self.nodes}",
            f"--output={folder}/train.out",
            str(self.script),
            f"--dir={folder}",
            f"--steps={self.steps}",
            f"--checkpoint-interval={self.checkpoint_interval}",
            f"--step-seconds={step_seconds}",
            *(["--ignore-term"] if self.ignore_term else []),
        ]


@dataclass(frozen=True, slots=True)
class Run:
    """A training run in progress or done."""

    job: str
    folder: Path

    def progress(self) -> tuple[Progress, ...]:
        """Steps done so far, in order; a last line still being written is left out."""
        try:
            lines = (self.folder / "progress.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return ()
        return tuple(step for line in lines if (step := _step(line)))

    def last_words(self) -> str:
        """The last line that the job wrote, for an error to quote; its folder may be gone by then."""
        try:
            lines = (self.folder / "train.out").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        return f"its last line: {lines[-1]}" if lines else "it wrote nothing"

    def weights(self) -> str:
        """The digest of the final weights; "" while the run is not done."""
        try:
            return str(json.loads((self.folder / "final.json").read_text())["weights_sha256"])
        except FileNotFoundError:
            return ""


def _step(line: str) -> Progress | None:
    try:
        raw = json.loads(line)
        return Progress(float(raw["time"]), int(raw["step"]), int(raw["attempt"]))
    except (ValueError, KeyError):
        return None


@dataclass(frozen=True, slots=True)
class Stock:
    """What Slurm alone did after the same fault, in seconds since it."""

    job_running_s: float | None
    first_new_step_s: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that one drill measured."""

    node: str
    fault_at: float
    timeline: Timeline
    steps_repeated: int
    checkpoint_interval_steps: int
    bit_equal: bool
    stock: Stock | None = None

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(slots=True)
class Drill:
    """Runs on a cluster that is up. `told` hears of each moment of the timeline as it comes to pass."""

    gateway: SlurmGateway
    controller: Controller
    faults: Faults
    clock: Clock
    training: Training
    folder: Path
    told: Callable[[str, float], None]

    async def submit(self, name: str, *, full_speed: bool = False) -> Run:
        folder = self.folder / name
        folder.mkdir()
        step_seconds = 0.0 if full_speed else self.training.step_seconds
        arguments = self.training.arguments(folder, step_seconds)
        job = await self.gateway.submit(arguments, cwd=str(folder), env=self.training.environment)
        return Run(job, folder)

    async def until_training(self, run: Run) -> Job:
        """Wait until the run is past a checkpoint, between two of them."""
        past = int(1.5 * self.training.checkpoint_interval)
        await self._until(run, lambda: len(run.progress()) >= past, "it trains", TRAINING_LIMIT)
        return await self.job(run)

    async def job(self, run: Run) -> Job:
        found = [job for job in await self.gateway.jobs() if job.id == run.job]
        if not found:
            raise HpcliError(f"job {run.job}", "Slurm knows it no more", f"see {run.folder}/train.out")
        return found[0]

    async def heal(self, run: Run, node: str, *, broken: bool) -> tuple[float, Timeline]:
        """Break a node of the job, follow the repair until the node serves again, and say when and how it went."""
        last = (await self.controller.ask("status"))["last_entry"]
        fault_at = self.faults.lose_gpu(node, broken=broken)
        seen: dict[str, float | None] = {}
        limit = fault_at + TRAINING_LIMIT
        while True:
            moments = timeline(await self._entries(last), run.progress(), node, fault_at)
            self._tell_new(moments, seen)
            if moments.in_service_s is not None and moments.first_new_step_s is not None:
                return fault_at, moments
            if self.clock.now() > limit:
                missing = f"not back in service after {TRAINING_LIMIT:g} s"
                raise TimedOut(f"node {node}", missing, "see: hpcli recovery status")
            await self.clock.sleep(POLL)

    async def finish(self, run: Run) -> str:
        """Wait for the end of a run and return the digest of its weights."""
        await self._until(run, lambda: bool(run.weights()), "it is done", TRAINING_LIMIT)
        return run.weights()

    async def reference(self) -> str:
        """The weights of the same run without a fault, at full speed."""
        return await self.finish(await self.submit("reference", full_speed=True))

    async def stock(self, run: Run) -> Stock:
        """The same fault with Slurm alone: the node is set down at once, all the rest is Slurm's."""
        job = await self.until_training(run)
        node = victim(job)
        fault_at = self.faults.lose_gpu(node)
        await self.gateway.update_nodes(node, "down", "GPU has fallen off the bus")
        running = await self._running_again(run, job.restarts, fault_at)
        await self._until(run, lambda: any(step.attempt for step in run.progress()), "it steps again", 60)
        first = min(step.at for step in run.progress() if step.attempt)
        await self.gateway.cancel([run.job])
        return Stock(round(running, 3), round(first - fault_at, 3))

    async def _running_again(self, run: Run, restarts: int, fault_at: float) -> float:
        while True:
            job = await self.job(run)
            now = self.clock.now() - fault_at
            if job.state == "RUNNING" and job.restarts > restarts:
                return now
            if now > STOCK_LIMIT:
                raise TimedOut(f"job {run.job}", f"{job.state} ({job.reason}) after {now:.0f} s", f"see {run.folder}")
            await self.clock.sleep(0.2)

    def _tell_new(self, moments: Timeline, seen: dict[str, float | None]) -> None:
        fresh = {name: at for name, at in asdict(moments).items() if at is not None and name not in seen}
        for name, at in sorted(fresh.items(), key=lambda pair: pair[1]):
            self.told(name, at)
        seen.update(fresh)

    async def _entries(self, since: int) -> Sequence[Entry]:
        rows = await self.controller.ask("journal", since=since)
        return [(number, at, kind, body) for number, at, kind, body in rows]

    async def _until(self, run: Run, done: Callable[[], bool], what: str, limit: float) -> None:
        """Wait for what the run itself shows. Raises `JobFailed` when the job ended without it, or `TimedOut`."""
        deadline = self.clock.now() + limit
        next_look = self.clock.now() + JOB_POLL
        while not done():
            now = self.clock.now()
            if now > deadline:
                raise TimedOut(f"job {run.job}", f"not so after {limit:g} s: {what}; {run.last_words()}")
            if now > next_look:
                next_look = now + JOB_POLL
                job = await self.job(run)
                if job.ended and not done():
                    raise JobFailed(f"job {run.job}", f"{job.state} before {what}; {run.last_words()}")
            await self.clock.sleep(POLL)


def victim(job: Job) -> str:
    """A node of the job in the middle of its list; not the batch host, whose loss no peer survives in place."""
    others = [node for node in NodeSet(job.nodes) if node != job.batch_host]
    return str(others[len(others) // 2])
