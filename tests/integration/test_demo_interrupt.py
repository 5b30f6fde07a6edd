"""The demo ended early, at every moment and in every way: nothing is left, and the next one works."""

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcli.providers.local.layout import Layout
from hpcli.providers.local.sweep import remove
from tests.real_cluster import SPEC
from tests.standing_cluster import hpcli, left_in, own_folders, processes_of

pytestmark = pytest.mark.slurm

LIMIT = 60.0
ENVELOPE = ["version", "command", "status", "exit_code", "data", "errors"]
MOMENTS = [
    "detected_s",
    "drained_s",
    "job_running_s",
    "first_new_step_s",
    "node_rebooted_s",
    "node_replaced_s",
    "accepted_s",
    "in_service_s",
]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with own_folders(tmp_path):
        yield tmp_path
        remove(Layout.of("demo"))


@pytest.fixture
def start(folder: Path) -> Iterator["Start"]:
    """Start a demo, or another command, that does not outlive the test."""
    started: list[Demo] = []

    def begin(*words: str) -> Demo:
        started.append(Demo(folder, *(words or ("demo",))))
        return started[-1]

    yield begin
    for demo in started:
        demo.end(signal.SIGKILL)


class Demo:
    """A command that runs, with what it has said so far in two files."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.out, self.err = folder / "out", folder / "err"
        argv = [sys.executable, "-m", "hpcli", *words]
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder)

    def until(self, come: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LIMIT
        while not come():
            assert self.process.poll() is None, f"ended before: {what}: {self.err.read_text()}"
            assert time.monotonic() < deadline, f"not within {LIMIT} s: {what}"
            time.sleep(0.01)

    def until_said(self, text: str) -> None:
        self.until(lambda: text in self.out.read_text(), text)

    def end(self, *signals: signal.Signals) -> int:
        for number in signals:
            self.process.send_signal(number)
        return self.process.wait(LIMIT)


Start = Callable[..., Demo]


def home() -> Path:
    return Layout.of("demo").home


def at_the_start(demo: Demo) -> None:
    demo.until(lambda: "hpcli" in Path(f"/proc/{demo.process.pid}/cmdline").read_text(), "Python runs")


def with_the_folders_made(demo: Demo) -> None:
    demo.until(home().exists, "the state folder is there")


def as_nodes_come_up(demo: Demo) -> None:
    demo.until((home() / "log" / "slurmd-c3.out").exists, "the third slurmd is started")


def in_training(demo: Demo) -> None:
    demo.until_said("Training on")


def in_repair(demo: Demo) -> None:
    demo.until_said("fault detected")


INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


@pytest.mark.parametrize(
    ("moment", "signals"),
    [
        (with_the_folders_made, [TERM]),
        (as_nodes_come_up, [INT]),
        (as_nodes_come_up, [HUP]),
        (in_training, [INT, INT, TERM]),
        (in_repair, [TERM]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "+".join(number.name for number in value),
)
def test_a_signal_ends_it_without_a_trace(
    folder: Path, start: Start, moment: Callable[[Demo], None], signals: list[signal.Signals]
) -> None:
    demo = start()
    moment(demo)
    assert left_in(folder), "there is something to leave behind"
    assert demo.end(*signals) == 130
    assert demo.err.read_text().endswith("error: hpcli: interrupted\n")
    assert "Traceback" not in demo.err.read_text()
    assert left_in(folder) == []


@pytest.mark.parametrize("number", [INT, TERM, HUP])
def test_a_signal_before_anything_is_made(folder: Path, start: Start, number: signal.Signals) -> None:
    """Until the command is loaded, the signal's own effect is as good."""
    demo = start()
    at_the_start(demo)
    # 1 is what Python itself gives while it still loads its own modules.
    assert demo.end(number) in (130, -number, 1)
    assert not re.search(r"hpcli/(cli|services|providers|app)", demo.err.read_text()), "no traceback through our code"
    assert left_in(folder) == []


def test_cluster_up_ends_as_cleanly(folder: Path, start: Start) -> None:
    spec = folder / "demo.yaml"
    spec.write_text(SPEC.format(name="demo", nodes=5))
    up = start("cluster", "up", "-f", str(spec))
    as_nodes_come_up(up)
    assert up.end(TERM) == 130
    assert "Traceback" not in up.err.read_text()
    assert left_in(folder) == []


def test_a_terminal_closed_in_the_reference_run_leaves_nothing(folder: Path) -> None:
    """Not even the moving line that it would still clear can be written then."""
    demo, terminal = pty.fork()
    if not demo:
        os.execv(sys.executable, [sys.executable, "-m", "hpcli", "demo"])
    shown = b""
    while not (b"without a fault" in shown and (home() / "runs" / "reference").exists()):
        readable, _, _ = select.select([terminal], [], [], 0.05)
        shown += os.read(terminal, 65536) if readable else b""
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(demo, 0)[1]) != 0
    assert left_in(folder) == []


def test_a_killed_demo_is_cleared_away_by_the_next_which_can_be_kept(folder: Path, start: Start) -> None:
    killed = start()
    in_training(killed)
    killed.end(signal.SIGKILL)
    assert processes_of(folder), "nobody could clean up"
    kept = hpcli("demo", "--keep", "--json", timeout=150)
    assert kept.returncode == 0, kept.stderr
    outcome_is_whole(json.loads(kept.stdout))
    refused = hpcli("demo")
    assert (refused.returncode, "it was kept" in refused.stderr) == (8, True)
    assert hpcli("cluster", "status", "demo").returncode == 0
    assert hpcli("cluster", "down", "demo", "--yes").returncode == 0
    assert left_in(folder) == []


def outcome_is_whole(envelope: dict[str, object]) -> None:
    """One JSON object alone was on standard output; these are its fields."""
    assert list(envelope) == ENVELOPE
    assert (envelope["command"], envelope["status"], envelope["exit_code"]) == ("demo", "ok", 0)
    data = envelope["data"]
    assert isinstance(data, dict)
    assert list(data["timeline"]) == MOMENTS
    times = [data["timeline"][name] for name in MOMENTS]
    assert all(isinstance(at, float) and 0 < at < 60 for at in times)
    assert times[:3] == sorted(times[:3])
    assert times[4:] == sorted(times[4:]), "rebooted, replaced, accepted, in service"
    assert data["bit_equal"] is True
    assert 0 <= data["steps_repeated"] <= data["checkpoint_interval_steps"]
    assert "stock" not in data


@pytest.mark.parametrize("stage", ["no record", "no owner", "half removed"])
def test_what_a_demo_killed_early_left_is_no_obstacle(folder: Path, start: Start, stage: str) -> None:
    """Killed before it could say whose the folder is, or while it removed it: the next one is not held up."""
    folder_left = home()
    (folder_left / "etc").mkdir(parents=True)
    if stage == "no owner":
        (folder_left / "cluster.json").write_text('{"name": "demo"')
    if stage == "half removed":
        shutil.rmtree(folder_left / "etc")
    demo = start()
    demo.until((folder_left / "log" / "munged.out").exists, "it comes up")
    assert demo.end(TERM) == 130
    assert left_in(folder) == []
