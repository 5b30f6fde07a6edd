"""Fault drills against a job that exists only here."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from health_fakes import FakeClock

from hpcli.domain.job import Job
from hpcli.domain.timeline import Progress
from hpcli.errors import HpcliError, JobFailed, TimedOut
from hpcli.services.drill import Drill, Run, Training, victim

JOB = Job("7", "7", "train", "u", "main", "RUNNING", nodes="c[1-4]", batch_host="c1")


@dataclass
class FakeSlurm:
    """A Slurm that holds what it is given, and whose queue a test may let go on (`on_look`)."""

    queue: list[Job] = field(default_factory=lambda: [JOB])
    submitted: list[tuple[Sequence[str], str | None, Mapping[str, str] | None]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    downed: list[tuple[str, str]] = field(default_factory=list)
    looks: int = 0

    async def submit(
        self, args: Sequence[str], *, script: str = "", cwd: str | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        self.submitted.append((args, cwd, env))
        return "7"

    async def jobs(self) -> tuple[Job, ...]:
        self.looks += 1
        if self.looks > 3:
            self.queue = [replace(job, restarts=1) for job in self.queue]
        return tuple(self.queue)

    async def cancel(self, job_ids: Sequence[str]) -> None:
        self.cancelled += job_ids

    async def update_nodes(self, hostlist: str, state: str, reason: str = "") -> None:
        self.downed.append((hostlist, state))


@dataclass
class FakeController:
    clock: FakeClock
    entries: list[list[Any]] = field(default_factory=list)

    async def ask(self, what: str, **details: object) -> Any:
        return {"last_entry": 3} if what == "status" else [e for e in self.entries if e[1] <= self.clock.now()]


@dataclass
class FakeFaults:
    clock: FakeClock
    lost: list[tuple[str, bool]] = field(default_factory=list)

    def lose_gpu(self, node: str, gpu: int = 0, *, broken: bool = True) -> float:
        self.lost.append((node, broken))
        return self.clock.now()


@dataclass
class Bench:
    folder: Path
    clock: FakeClock = field(default_factory=FakeClock)
    slurm: FakeSlurm = field(default_factory=FakeSlurm)
    told: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.controller, self.faults = FakeController(self.clock), FakeFaults(self.clock)
        gateway: Any = self.slurm
        training = Training(Path("/t/train.sbatch"), "/usr/bin/python3")
        self.drill = Drill(
            gateway,
            self.controller,
            self.faults,
            self.clock,
            training,
            self.folder,
            lambda *moment: self.told.append(moment),
        )
        self.run = Run("7", self.folder / "run")
        self.run.folder.mkdir()

    def trains(self, *steps: tuple[float, int, int]) -> None:
        lines = (json.dumps({"time": at, "step": step, "attempt": attempt}) for at, step, attempt in steps)
        with (self.run.folder / "progress.jsonl").open("a") as log:
            log.writelines(f"{line}\n" for line in lines)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_job_is_submitted_with_all_of_its_settings(bench: Bench) -> None:
    run = await bench.drill.submit("fast", full_speed=True)
    [(args, cwd, env)] = bench.slurm.submitted
    assert (run.job, str(run.folder), run.folder.is_dir()) == ("7", cwd, True)
    assert args[:3] == ["--nodes=4", f"--output={cwd}/train.out", "/t/train.sbatch"]
    assert {"--steps=150", "--checkpoint-interval=10", "--step-seconds=0.0"} <= set(args)
    assert env == {"HPCLI_PYTHON": "/usr/bin/python3", "HPCLI_TRAIN": "/t/train.py"}


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", 0),
        ('{"time": 1, "step": 1, "attempt": 0}\n', 1),
        ('{"time": 1, "step": 1, "attempt": 0}\n{"time": 2, "st', 1),
        ('{"time": 1}\n\n{"time": 2, "step": 2, "attempt": 0}\n', 1),
    ],
)
def test_progress_leaves_out_what_is_still_being_written(tmp_path: Path, text: str, steps: int) -> None:
    (tmp_path / "progress.jsonl").write_text(text)
    assert len(Run("7", tmp_path).progress()) == steps


def test_before_the_first_step_there_is_nothing(tmp_path: Path) -> None:
    assert (Run("7", tmp_path).progress(), Run("7", tmp_path).weights()) == ((), "")


def test_weights_and_progress_are_read(tmp_path: Path) -> None:
    (tmp_path / "final.json").write_text('{"weights_sha256": "abc"}')
    (tmp_path / "progress.jsonl").write_text('{"time": 1.5, "step": 3, "attempt": 1}\n')
    run = Run("7", tmp_path)
    assert (run.weights(), run.progress()) == ("abc", (Progress(1.5, 3, 1),))


@pytest.mark.parametrize(
    ("nodes", "batch_host", "chosen"), [("c[1-4]", "c1", "c3"), ("c[1-2]", "c1", "c2"), ("c[1-4]", "c4", "c2")]
)
def test_the_victim_is_not_the_batch_host(nodes: str, batch_host: str, chosen: str) -> None:
    assert victim(replace(JOB, nodes=nodes, batch_host=batch_host)) == chosen


async def test_training_is_waited_for_until_it_is_between_two_checkpoints(bench: Bench) -> None:
    bench.trains(*((float(step), step, 0) for step in range(14)))
    with pytest.raises(TimedOut, match="job 7: not so after 180 s: it trains"):
        await bench.drill.until_training(bench.run)
    bench.trains((15.0, 15, 0))
    assert (await bench.drill.until_training(bench.run)).id == JOB.id


async def test_a_run_that_failed_is_not_waited_for(bench: Bench) -> None:
    bench.slurm.queue = [replace(JOB, state="FAILED")]
    started = bench.clock.now()
    (bench.run.folder / "train.out").write_text("step 3\nno space left\n")
    with pytest.raises(JobFailed, match="FAILED before it trains; its last line: no space left"):
        await bench.drill.until_training(bench.run)
    assert bench.clock.now() - started < 10


async def test_a_job_that_slurm_forgot(bench: Bench) -> None:
    bench.slurm.queue = []
    with pytest.raises(HpcliError, match="Slurm knows it no more"):
        await bench.drill.job(bench.run)


async def test_a_repair_is_told_as_it_happens(bench: Bench) -> None:
    start = bench.clock.now()
    bench.trains((start + 2.0, 11, 1))
    bench.controller.entries = [
        [4, start + 0.5, "opened", {"repair": "r1", "node": "c3"}],
        [5, start + 1.0, "reached", {"repair": "r1", "nodes": ["c3"], "milestone": "drained"}],
        [6, start + 4.0, "closed", {"repair": "r1", "nodes": ["c3"], "outcome": "returned"}],
    ]
    fault_at, found = await bench.drill.heal(bench.run, "c3", broken=True)
    assert (fault_at, bench.faults.lost) == (start, [("c3", True)])
    assert (found.detected_s, found.first_new_step_s, found.in_service_s) == (0.5, 2.0, 4.0)
    assert sorted(name for name, _at in bench.told) == ["detected_s", "drained_s", "first_new_step_s", "in_service_s"]
    assert bench.told[-1] == ("in_service_s", 4.0)


async def test_a_repair_that_never_ends(bench: Bench) -> None:
    with pytest.raises(TimedOut, match="node c3: not back in service after 180 s"):
        await bench.drill.heal(bench.run, "c3", broken=False)


async def test_stock_slurm_sets_the_node_down_and_waits(bench: Bench) -> None:
    bench.trains(*((float(step), step, 0) for step in range(15)), (bench.clock.now() + 1.0, 11, 1))
    found = await bench.drill.stock(bench.run)
    assert bench.slurm.downed == [("c3", "down")]
    assert bench.slurm.cancelled == ["7"]
    assert found.job_running_s is not None and found.job_running_s >= 0.2
    assert found.first_new_step_s == 1.0
