"""The one place that creates processes."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from hpcli.errors import NotFound, TimedOut
from hpcli.ports import Completed
from hpcli.transport import local_files
from hpcli.transport.holding import held
from hpcli.transport.output import Output, Told, as_text

REAP_LIMIT = 2.0
CHUNK = 1 << 18


class LocalTransport:
    """Run programs on this machine."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        """Run to the end; a timeout kills the whole process group. `env` is added to ours."""
        return await _completed(argv, Output(), stdin, timeout, env, cwd)

    async def follow(self, argv: Sequence[str], told: Told, *, stdin: str = "", timeout: float = 60.0) -> Completed:
        return await _completed(argv, Output(told), stdin, timeout)

    def hold(self, argv: Sequence[str]) -> AbstractAsyncContextManager[str]:
        async def start(output: Output, leave: asyncio.Event) -> Completed:
            code = await exchange(argv, output, until=leave)
            return Completed(tuple(argv), code, as_text(output.out), as_text(output.err))

        return held(start, argv[0])

    async def put(self, content: bytes, path: str, mode: int = 0o600) -> None:
        await asyncio.to_thread(local_files.put, content, Path(path), mode)

    async def get(self, path: str) -> bytes:
        return await asyncio.to_thread(local_files.get, Path(path))

    async def close(self) -> None:
        """There is nothing to close."""


async def _completed(
    argv: Sequence[str],
    output: Output,
    stdin: str,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> Completed:
    try:
        async with asyncio.timeout(timeout):
            code = await exchange(argv, output, stdin=stdin.encode(), env=env, cwd=cwd)
    except TimeoutError:
        raise TimedOut(argv[0], f"no answer within {timeout:g} s", f"run by hand: {' '.join(argv)}") from None
    return Completed(tuple(argv), code, as_text(output.out), as_text(output.err))


async def exchange(
    argv: Sequence[str],
    output: Output,
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    until: asyncio.Event | None = None,
    own_session: bool = True,
) -> int:
    """Run a program of this machine to its end and give its exit code, negative for a signal.

    Its standard input is closed after `stdin`, and not before `until` is set. Whoever cancels this kills its whole
    process group; with `own_session` False, which leaves it our terminal to ask on, the program alone.
    """
    process = await _start(argv, env, cwd, own_session)
    assert process.stdin and process.stdout and process.stderr
    tasks = [
        asyncio.ensure_future(_read(process.stdout, output.feed_out)),
        asyncio.ensure_future(_read(process.stderr, output.feed_err)),
        asyncio.ensure_future(process.wait()),
    ]
    writing = asyncio.ensure_future(_write(process.stdin, stdin, until))
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in (*tasks, writing):
            task.cancel()
        await _reap(process, own_session)
    output.finish()
    return process.returncode or 0


async def _start(
    argv: Sequence[str], env: Mapping[str, str] | None, cwd: str | None, own_session: bool
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=own_session,
        )
    except FileNotFoundError as error:
        if cwd and error.filename == cwd:
            raise NotFound(cwd, "no such folder on this machine", "make it first") from None
        raise NotFound(argv[0], "no such program on this machine", "install it, or put it on PATH") from None


async def _read(pipe: asyncio.StreamReader, feed: Callable[[bytes], None]) -> None:
    while chunk := await pipe.read(CHUNK):
        feed(chunk)


async def _write(pipe: asyncio.StreamWriter, content: bytes, until: asyncio.Event | None) -> None:
    try:
        pipe.write(content)
        await pipe.drain()
        if until:
            await until.wait()
    except (BrokenPipeError, ConnectionResetError):
        # A program need not read what it is told.
        pass
    finally:
        pipe.close()


async def _reap(process: asyncio.subprocess.Process, whole_group: bool) -> None:
    if process.returncode is not None:
        return
    try:
        if whole_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except ProcessLookupError:
        pass
    try:
        async with asyncio.timeout(REAP_LIMIT):
            await process.wait()
    except TimeoutError:
        # A child in uninterruptible sleep (a stale mount) ends when its mount does; nobody waits for it here.
        pass


def spawn_on_socket(command: str) -> tuple[socket.socket, Callable[[], None]]:
    """Start a `ProxyCommand` of an SSH configuration: the socket that is its input and output, and what ends it.

    Such a command is a line for the shell by its definition (ssh_config(5)).
    """
    ours, theirs = socket.socketpair()
    with theirs:
        end = theirs.fileno()
        argv = ["/bin/sh", "-c", f"exec {command}"]
        process = subprocess.Popen(argv, stdin=end, stdout=end, stderr=subprocess.DEVNULL, start_new_session=True)

    def stop() -> None:
        ours.close()
        process.kill()
        process.wait()

    return ours, stop


def spawn_detached(argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> int:
    """Start a daemon in a session of its own, output appended to `log`; returns its pid.

    The daemon outlives us. `argv[0]` is a full path. Raises `NotFound` when it is not installed.
    """
    sink = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return os.posix_spawn(
            argv[0],
            list(argv),
            dict(env),
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGPIPE),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, sink, 1),
                (os.POSIX_SPAWN_DUP2, sink, 2),
            ],
        )
    except FileNotFoundError:
        raise NotFound(argv[0], "no such program on this machine", "install it, or put it on PATH") from None
    finally:
        os.close(sink)
