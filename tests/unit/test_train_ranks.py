"""The training example with real rank processes on this machine."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

TRAIN = Path(__file__).parents[2] / "templates" / "jobs" / "train.py"
SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_RESTART_COUNT")
PATIENCE = 30.0

Ranks = list[subprocess.Popen[str]]


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def environment(rank: int, world: int, attempt: int) -> dict[str, str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    values = (str(rank), str(world), "7", str(attempt))
    return outside | {"PYTHONDONTWRITEBYTECODE": "1"} | dict(zip(SLURM, values, strict=True))


@pytest.fixture
def start() -> Iterator[Callable[..., Ranks]]:
    """Start the ranks of one attempt; those still there at the end are killed."""
    with contextlib.ExitStack() as ended:

        def start_ranks(
            run: Path, *options: str, world: int = 3, attempt: int = 0, only: Sequence[int] | None = None
        ) -> Ranks:
            argv = [sys.executable, str(TRAIN), "--dir", str(run), "--step-seconds", "0", *options]
            ranks = []
            for rank in range(world) if only is None else only:
                process = subprocess.Popen(
                    argv,
                    env=environment(rank, world, attempt),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                ended.enter_context(process)
                ended.callback(process.kill)
                ranks.append(process)
            return ranks

        yield start_ranks


def outcome(ranks: Ranks) -> tuple[list[int], str]:
    """Exit codes in rank order, and rank 0's output."""
    said = [process.communicate(timeout=PATIENCE)[0] for process in ranks]
    return [process.returncode for process in ranks], said[0]


def steps(run: Path, attempt: int = 0) -> list[int]:
    file = run / "progress.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [line["step"] for line in lines if line["attempt"] == attempt]


def digest(run: Path) -> str:
    return json.loads((run / "final.json").read_text())["weights_sha256"]


def newest(run: Path) -> Path:
    return max((run / "checkpoints").glob("step-*.ckpt"))


@pytest.fixture
def undisturbed(tmp_path: Path, start: Callable[..., Ranks]) -> str:
    """The digest that three ranks reach in 60 steps."""
    assert outcome(start(tmp_path / "undisturbed", "--steps", "60"))[0] == [0, 0, 0]
    return digest(tmp_path / "undisturbed")


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_killed_rank_ends_all_and_the_next_attempt_reaches_the_same_bits(
    tmp_path: Path, start: Callable[..., Ranks], undisturbed: str, victim: int
) -> None:
    run = tmp_path / "run"
    ranks = start(run, "--steps", "60", "--step-seconds", "0.02")
    wait_until(lambda: len(steps(run)) >= 23)
    ranks[victim].kill()
    killed = time.monotonic()
    codes, _ = outcome(ranks)
    assert time.monotonic() - killed < 2.0
    assert codes == [-signal.SIGKILL if rank == victim else 1 for rank in range(3)]

    codes, said = outcome(start(run, "--steps", "60", attempt=1))

    last = max(steps(run))
    assert codes == [0, 0, 0], said
    assert last - 10 <= steps(run, attempt=1)[0] - 1 <= last
    assert steps(run, attempt=1)[0] > 1
    assert digest(run) == undisturbed


def test_the_ranks_learn_and_leave_two_checkpoints_and_no_secret(tmp_path: Path, start: Callable[..., Ranks]) -> None:
    run = tmp_path / "run"
    assert outcome(start(run, "--steps", "100", world=2))[0] == [0, 0]
    losses = [json.loads(line)["loss"] for line in (run / "progress.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.3 * losses[0]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "step-000000090.ckpt",
        "step-000000100.ckpt",
    ]
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "final.json", "progress.jsonl"]


def test_the_number_of_steps_decides_nothing_but_the_end(
    tmp_path: Path, start: Callable[..., Ranks], undisturbed: str
) -> None:
    run = tmp_path / "run"
    outcome(start(run, "--steps", "35", "--checkpoint-interval", "7"))
    outcome(start(run, "--steps", "60", attempt=1))
    assert steps(run, attempt=1)[0] == 36
    assert digest(run) == undisturbed


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flip_the_step(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"step": 20', b'"step": 21'))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip_a_bit, flip_the_step, truncate, empty])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, start: Callable[..., Ranks], damage: Callable[[Path], None]
) -> None:
    run, reference = tmp_path / "run", tmp_path / "reference"
    outcome(start(reference, "--steps", "40", world=1))
    outcome(start(run, "--steps", "20", world=1))
    before = newest(run).read_bytes()
    damage(newest(run))
    assert newest(run).read_bytes() != before

    codes, said = outcome(start(run, "--steps", "40", world=1, attempt=1))

    assert codes == [0]
    assert "step-000000020.ckpt: found" in said
    assert "starting after step 10" in said
    assert digest(run) == digest(reference)


def test_without_any_good_checkpoint_training_starts_over(tmp_path: Path, start: Callable[..., Ranks]) -> None:
    run = tmp_path / "run"
    outcome(start(run, "--steps", "20", world=1))
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"")
    codes, said = outcome(start(run, "--steps", "20", world=1, attempt=1))
    assert codes == [0]
    assert "starting after step 0" in said


def test_what_a_killed_save_left_is_swept(tmp_path: Path, start: Callable[..., Ranks]) -> None:
    left = tmp_path / "checkpoints" / "step-000000010.ckpt.99.tmp"
    left.parent.mkdir()
    left.write_bytes(b"half")
    assert outcome(start(tmp_path, "--steps", "5", world=1))[0] == [0]
    assert not left.exists()


def test_checkpoints_of_another_run_are_refused(tmp_path: Path, start: Callable[..., Ranks]) -> None:
    outcome(start(tmp_path, "--steps", "20", world=1))
    codes, said = outcome(start(tmp_path, "--steps", "30", "--seed", "2", world=1))
    assert codes == [1]
    assert "found checkpoints of {'seed': 1, 'batch': 256}, expected {'seed': 2" in said


def test_a_full_disk_is_reported_and_training_goes_on(tmp_path: Path, start: Callable[..., Ranks]) -> None:
    outcome(start(tmp_path, "--steps", "20", world=1))
    size = newest(tmp_path).stat().st_size
    kept = {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
    try:
        ranks = start(tmp_path, "--steps", "60", world=1, attempt=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    codes, said = outcome(ranks)
    assert codes == [0]
    assert "checkpoint of step 30 not saved" in said
    assert {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()} == kept
    assert json.loads((tmp_path / "final.json").read_text())["steps"] == 60


def rendezvous(run: Path) -> tuple[str, int]:
    file = run / "rendezvous-7-0.json"
    wait_until(file.exists)
    assert file.stat().st_mode & 0o777 == 0o600
    content = json.loads(file.read_text())
    return content["host"], content["port"]


def test_strangers_are_refused_and_the_real_peer_is_let_in(tmp_path: Path, start: Callable[..., Ranks]) -> None:
    first = start(tmp_path, "--steps", "5", world=2, only=[0])
    address = rendezvous(tmp_path)
    assert address[0] == "127.0.0.1"
    with socket.create_connection(address, timeout=PATIENCE) as stranger:
        assert len(stranger.recv(16)) == 16
        stranger.sendall(bytes(16) + (1).to_bytes(8, "big") + bytes(32))
        assert stranger.recv(1) == b""
    with socket.create_connection(address, timeout=PATIENCE):
        second = start(tmp_path, "--steps", "5", world=2, only=[1])
        assert outcome(first + second)[0] == [0, 0]


def test_a_peer_that_never_comes_ends_the_job(tmp_path: Path, start: Callable[..., Ranks]) -> None:
    codes, said = outcome(start(tmp_path, "--peer-timeout", "0.3", world=2, only=[0]))
    assert codes == [1]
    assert "ranks [1]: not there after 0.3 s" in said


def test_a_frozen_peer_counts_as_lost(tmp_path: Path, start: Callable[..., Ranks]) -> None:
    ranks = start(tmp_path, "--steps", "5000", "--step-seconds", "0.01", "--peer-timeout", "1", world=2)
    wait_until(lambda: len(steps(tmp_path)) >= 5)
    ranks[1].send_signal(signal.SIGSTOP)
    codes, said = outcome(ranks[:1])
    ranks[1].kill()
    assert codes == [1]
    assert "rank 1: found timed out" in said


def test_an_attempt_that_outlived_its_requeue_stops(tmp_path: Path, start: Callable[..., Ranks]) -> None:
    old = start(tmp_path, "--steps", "5000", "--step-seconds", "0.01", world=1)
    wait_until(lambda: len(steps(tmp_path)) >= 5)
    start(tmp_path, "--steps", "5000", "--step-seconds", "0.01", world=1, attempt=1)
    codes, said = outcome(old)
    assert codes == [1]
    assert "a newer attempt than 0 has taken over" in said


@pytest.mark.parametrize(("option", "survives"), [(("--ignore-term",), True), ((), False)])
def test_only_a_rank_told_so_survives_sigterm(
    tmp_path: Path, start: Callable[..., Ranks], option: tuple[str, ...], survives: bool
) -> None:
    ranks = start(tmp_path, "--steps", "40", "--step-seconds", "0.01", *option, world=2)
    wait_until(lambda: len(steps(tmp_path)) >= 5)
    for process in ranks:
        process.terminate()
    codes, _ = outcome(ranks)
    assert codes == ([0, 0] if survives else [-signal.SIGTERM, -signal.SIGTERM])


def test_listening_on_every_address_is_refused(tmp_path: Path, start: Callable[..., Ranks]) -> None:
    codes, said = outcome(start(tmp_path, "--address", "0.0.0.0", world=1))
    assert codes == [2]
    assert "expected this node's own address" in said
