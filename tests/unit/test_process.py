"""Running programs: exit codes, time limits that end whole families, daemons that outlive us."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from hpcli.errors import NotFound, TimedOut
from hpcli.transport import proc
from hpcli.transport.process import LocalTransport, spawn_detached

STUBBORN = "trap '' TERM; /bin/sleep 60 & echo $! > {file}; wait"


@pytest.fixture
def transport() -> LocalTransport:
    return LocalTransport()


async def test_what_a_program_says_and_how_it_ends(transport: LocalTransport, tmp_path: Path) -> None:
    script = 'read line; echo "$line $MARK $PWD"; echo oops >&2; exit 3'
    found = await transport.run(["/bin/sh", "-c", script], stdin="hello\n", env={"MARK": "x"}, cwd=str(tmp_path))
    assert (found.code, found.out, found.err) == (3, f"hello x {tmp_path}\n", "oops\n")


async def test_a_signal_is_a_negative_code(transport: LocalTransport) -> None:
    assert (await transport.run(["/bin/sh", "-c", "kill -9 $$"])).code == -signal.SIGKILL


async def test_nothing_is_parsed_by_a_shell(transport: LocalTransport) -> None:
    assert (await transport.run(["/bin/echo", "$(id)", "a b", "*"])).out == "$(id) a b *\n"


async def test_bytes_that_are_no_text(transport: LocalTransport) -> None:
    assert (await transport.run(["/usr/bin/printf", r"a\377b"])).out == "a\ufffdb"


async def test_output_larger_than_a_pipe(transport: LocalTransport) -> None:
    program = "import sys; sys.stdout.write('x' * 3_000_000); sys.stderr.write('y' * 3_000_000)"
    found = await transport.run([sys.executable, "-c", program])
    assert (len(found.out), len(found.err)) == (3_000_000, 3_000_000)


async def test_a_program_that_does_not_read_its_input(transport: LocalTransport) -> None:
    assert (await transport.run(["/bin/true"], stdin="x" * 1_000_000)).code == 0


async def test_no_such_program(transport: LocalTransport) -> None:
    with pytest.raises(NotFound, match="no such program"):
        await transport.run(["/no/such/program"])


async def test_a_time_limit_ends_the_whole_family(transport: LocalTransport, tmp_path: Path) -> None:
    file = tmp_path / "child"
    began = time.monotonic()
    with pytest.raises(TimedOut, match=r"no answer within 0\.3 s"):
        await transport.run(["/bin/sh", "-c", STUBBORN.format(file=file)], timeout=0.3)
    assert time.monotonic() - began < 5
    assert not proc.wait_gone({int(file.read_text())}, 5)


async def test_whoever_is_cancelled_leaves_no_program_behind(transport: LocalTransport, tmp_path: Path) -> None:
    file = tmp_path / "child"
    work = asyncio.create_task(transport.run(["/bin/sh", "-c", STUBBORN.format(file=file)]))
    async with asyncio.timeout(10):
        while not (file.exists() and file.read_text()):
            await asyncio.sleep(0.01)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not proc.wait_gone({int(file.read_text())}, 5)


def test_a_daemon_has_a_session_and_an_environment_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log"
    pid = spawn_detached(["/bin/sh", "-c", "echo started; exec /bin/sleep 60"], env={"MARK": "x"}, log=log)
    try:
        deadline = time.monotonic() + 10
        while proc.name(pid) != "sleep":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert os.getsid(pid) == pid
        assert log.read_text() == "started\n"
        environment = proc.environment(pid)
        assert environment["MARK"] == "x"
        assert not {"HOME", "USER", "PYTEST_CURRENT_TEST"} & environment.keys()
        assert log.stat().st_mode & 0o777 == 0o600
        assert "/dev/null" in proc.open_files(pid)
    finally:
        proc.end([pid], 0.0)


def test_a_daemon_adds_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    pid = spawn_detached(["/bin/echo", "after"], env={}, log=log)
    assert not proc.wait_gone({pid}, 10)
    assert log.read_text() == "before\nafter\n"


def test_a_daemon_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such program"):
        spawn_detached(["/no/such/daemon"], env={}, log=tmp_path / "log")


def test_a_daemon_can_be_stopped_though_we_ignore_the_signals(tmp_path: Path) -> None:
    ignored = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        pid = spawn_detached(["/bin/sleep", "60"], env={}, log=tmp_path / "log")
    finally:
        for number, handler in ignored.items():
            signal.signal(number, handler)
    os.kill(pid, signal.SIGTERM)
    assert not proc.wait_gone({pid}, 10)
