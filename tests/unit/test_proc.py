"""Processes as /proc shows them: who is who, who lives, and ending them for good."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcli.transport import proc
from hpcli.transport.process import spawn_detached

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; print("on", flush=True); time.sleep(60)'])
time.sleep(60)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a Python program that says "on" when it is ready."""
    started: list[subprocess.Popen[str]] = []

    def begin(program: str, **env: str) -> "subprocess.Popen[str]":
        argv = [sys.executable, "-c", program]
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, **env})
        started.append(child)
        assert child.stdout and child.stdout.readline() == "on\n"
        return child

    yield begin
    for child in started:
        proc.end(proc.descendants([child.pid]), 0.0)
        assert child.stdout
        child.stdout.close()
        child.wait()


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_living_are_found_and_the_dead_are_not(start: Start) -> None:
    child = start(DEAF, HPCLI_MARK="mine=yes")
    found = proc.look_up(child.pid)
    assert found and (found.pid, found.parent) == (child.pid, os.getpid())
    assert proc.environment(child.pid)["HPCLI_MARK"] == "mine=yes"
    assert proc.command(child.pid).startswith(sys.executable)
    assert child.pid in {process.pid for process in proc.all_processes()}
    child.kill()
    wait_until(lambda: proc.look_up(child.pid) is None)
    assert child.wait() == -signal.SIGKILL, "whoever started it learns how it ended"


@pytest.mark.parametrize("pid", [0, -1, 4_194_305, 1 << 40])
def test_a_pid_that_nobody_has(pid: int) -> None:
    assert proc.look_up(pid) is None
    assert (proc.environment(pid), proc.command(pid), proc.open_files(pid), proc.name(pid)) == ({}, "", set(), "")


def test_a_name_with_spaces_and_parentheses(tmp_path: Path) -> None:
    ugly = tmp_path / ") R 1 (x"
    ugly.symlink_to("/bin/sleep")
    with subprocess.Popen([str(ugly), "60"]) as child:
        found = proc.look_up(child.pid)
        assert found and found.parent == os.getpid()
        child.kill()


def test_descendants_hold_the_roots_and_everything_below(start: Start) -> None:
    parent = start(FAMILY)
    found = proc.descendants([parent.pid])
    assert len(found) == 2 and parent.pid in found
    assert proc.descendants([]) == set()


def test_end_kills_what_ignores_sigterm_and_what_is_frozen(start: Start) -> None:
    deaf, frozen = start(DEAF), start(DEAF)
    frozen.send_signal(signal.SIGSTOP)
    proc.end([deaf.pid, frozen.pid, 4_194_305], grace=0.1)
    assert proc.look_up(deaf.pid) is proc.look_up(frozen.pid) is None


def test_a_frozen_process_gets_to_act_on_sigterm(start: Start, tmp_path: Path) -> None:
    child = start("import signal, time; signal.signal(15, lambda *_: exit(3)); print('on', flush=True); time.sleep(60)")
    child.send_signal(signal.SIGSTOP)
    found: list[int] = []
    waiter = threading.Thread(target=lambda: found.append(child.wait()))
    waiter.start()
    proc.end([child.pid], grace=10)
    waiter.join()
    assert found in ([3], [0]), "0: the exit code was taken by us, not lost to SIGKILL"


def test_a_daemon_that_ended_leaves_no_zombie(tmp_path: Path) -> None:
    pid = spawn_detached(["/bin/sleep", "60"], env={}, log=tmp_path / "log")
    proc.end([pid], grace=5)
    assert not Path(f"/proc/{pid}").exists()
    crashed = spawn_detached(["/bin/true"], env={}, log=tmp_path / "log")
    proc.remember(tmp_path / "pid", crashed)
    wait_until(lambda: proc.remembered(tmp_path / "pid") is None)
    assert not Path(f"/proc/{crashed}").exists()


def test_a_pid_is_remembered_with_its_start(start: Start, tmp_path: Path) -> None:
    child = start(DEAF)
    path = tmp_path / "daemon.json"
    proc.remember(path, child.pid)
    assert proc.remembered(path) == child.pid
    path.write_text(json.dumps({**json.loads(path.read_text()), "start": 1}))
    assert proc.remembered(path) is None, "another process with the same pid"


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "{}", '{"pid": "x", "start": 1}', '{"pid": null, "start": 1}'])
def test_a_damaged_pid_file_names_nobody(tmp_path: Path, text: str) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(text)
    assert proc.remembered(path) is None


def test_wait_gone_tells_who_is_left(start: Start) -> None:
    child = start(DEAF)
    assert proc.wait_gone({child.pid, 4_194_305}, 0.05) == {child.pid}


def test_send_passes_over_the_dead() -> None:
    proc.send([4_194_305], signal.SIGKILL)
