"""The one place that creates processes."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcli.errors import NotFound, TimedOut
from hpcli.ports import Completed

REAP_LIMIT = 2.0


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
        process = await _start(argv, env, cwd)
        try:
            async with asyncio.timeout(timeout):
                out, err = await process.communicate(stdin.encode())
        except TimeoutError:
            raise TimedOut(argv[0], f"no answer within {timeout:g} s", f"run by hand: {' '.join(argv)}") from None
        finally:
            await _reap(process)
        return Completed(tuple(argv), process.returncode or 0, _text(out), _text(err))


async def _start(argv: Sequence[str], env: Mapping[str, str] | None, cwd: str | None) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise NotFound(argv[0], "no such program on this machine", "install it, or put it on PATH") from None


async def _reap(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        async with asyncio.timeout(REAP_LIMIT):
            await process.wait()
    except TimeoutError:
        # A child in uninterruptible sleep (a stale mount) ends when its mount does; nobody waits for it here.
        pass


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


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
