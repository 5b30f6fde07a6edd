"""A machine reached over SSH: programs and files, whatever carries the connection."""

import asyncio
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from hpcli.errors import HpcliError, NotFound, TimedOut, Unreachable
from hpcli.ports import Completed
from hpcli.transport.faults import lost
from hpcli.transport.holding import held
from hpcli.transport.output import Output, Told, as_text
from hpcli.transport.remote_shell import Ending, line_for, line_to_kill, new_token, read_ending
from hpcli.transport.target import SshTarget

SESSIONS = 8
"""Programs at once on one connection. sshd takes 10 (MaxSessions); the others are for ending programs."""
KILL_LIMIT = 5.0
FILE_LIMIT = 600.0
SLOWEST = 100_000
"""Bytes per second below which a file counts as stuck."""

PUT = """\
umask 077
case $1 in */*) folder=${1%/*}/ ;; *) folder=./ ;; esac
new=$(mktemp "${folder}.hpcli.XXXXXXXX") || exit 1
trap 'rm -f "$new"' EXIT
trap 'exit 1' HUP INT TERM PIPE
cat >"$new" || exit 1
[ "$(wc -c <"$new")" -eq "$2" ] || { echo "the file came in part" >&2; exit 1; }
chmod "$3" "$new" && sync "$new" && mv -fT -- "$new" "$1" && sync "$folder"
"""
"""Arguments: path, size, octal mode. The size tells a whole file from a connection that broke."""
GET = '[ -e "$1" ] || exit 44; exec cat -- "$1"'
NO_FILE = 44


@dataclass(frozen=True, slots=True)
class Work:
    """What is to run there."""

    argv: tuple[str, ...]
    stdin: bytes = b""
    env: Mapping[str, str] | None = None
    cwd: str | None = None
    until: asyncio.Event | None = None
    ends_itself: bool = False
    """It sees the end of its input and cleans up: never to be killed."""

    @property
    def program(self) -> str:
        """As errors name it, also behind sudo."""
        return self.argv[3] if self.argv[:3] == ("sudo", "-n", "--") else self.argv[0]


class SshTransport(ABC):
    """A `RemoteTransport` over one connection that many programs share; made anew when it was lost."""

    def __init__(self, target: SshTarget) -> None:
        self.target = target
        self._room = asyncio.Semaphore(SESSIONS)

    @abstractmethod
    async def _connect(self) -> None:
        """Be connected. Raises `Unreachable`; has limits of its own."""

    @abstractmethod
    async def _exchange(self, line: str, stdin: bytes, output: Output, until: asyncio.Event | None = None) -> str:
        """Have the shell there run a line, until both its streams end; what the carrier had to say of that.

        Its input is closed after `stdin`, and not before `until` is set. Cancelling gives up the session.
        """

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        """Run to the end; a timeout kills the whole process group there. Connecting does not count."""
        work = Work(tuple(argv), stdin.encode(), env, cwd)
        return _completed(work, *await self._perform(work, Output(), timeout))

    async def follow(self, argv: Sequence[str], told: Told, *, stdin: str = "", timeout: float = 60.0) -> Completed:
        work = Work(tuple(argv), stdin.encode())
        return _completed(work, *await self._perform(work, Output(told), timeout))

    def hold(self, argv: Sequence[str]) -> AbstractAsyncContextManager[str]:
        async def start(output: Output, leave: asyncio.Event) -> Completed:
            work = Work(tuple(argv), until=leave)
            return _completed(work, *await self._perform(work, output, None))

        return held(start, f"{self.target.subject}: {argv[0]}")

    async def put(self, content: bytes, path: str, mode: int = 0o600) -> None:
        """In one step and on disk when this returns. The path is absolute, or from the home folder."""
        size = len(content)
        argv = ("sh", "-c", PUT, "sh", path, str(size), f"{stat.S_IMODE(mode):o}")
        work = Work(argv, content, ends_itself=True)
        ending, _ = await self._perform(work, Output(), FILE_LIMIT + size / SLOWEST)
        if ending.code:
            raise self._file_fault(path, ending, "to write it", "free some space there, or check the folder")

    async def get(self, path: str) -> bytes:
        work = Work(("sh", "-c", GET, "sh", path))
        ending, output = await self._perform(work, Output(), FILE_LIMIT)
        if ending.code == NO_FILE:
            raise NotFound(f"{self.target.subject}: {path}", "no such file", "")
        if ending.code:
            raise self._file_fault(path, ending, "to read it", "check its mode and owner")
        return bytes(output.out)

    @abstractmethod
    async def close(self) -> None: ...

    def _file_fault(self, path: str, ending: Ending, expected: str, hint: str) -> HpcliError:
        words = ending.err.strip().splitlines() or [f"exit code {ending.code}"]
        return HpcliError(f"{self.target.subject}: {path}", f"found {words[0]}, expected {expected}", hint)

    async def _perform(self, work: Work, output: Output, timeout: float | None) -> tuple[Ending, Output]:
        token = new_token()
        line = line_for(work.argv, token, work.env, work.cwd)
        async with self._room:
            await self._connect()
            said = await self._within(work, line, token, output, timeout)
        ending = read_ending(token, output.err)
        subject = self.target.subject
        if ending.code is None:
            raise lost(subject, work.program, said or ending.err.strip()[-200:])
        if ending.fault == "missing":
            raise NotFound(f"{subject}: {work.argv[0]}", "no such program there", "install it, or put it on PATH")
        if ending.fault:
            raise NotFound(f"{subject}: {work.cwd}", "no such folder there", "make it first")
        output.finish()
        return ending, output

    async def _within(self, work: Work, line: str, token: str, output: Output, timeout: float | None) -> str:
        running = asyncio.ensure_future(self._exchange(line, work.stdin, output, work.until))
        try:
            await asyncio.wait({running}, timeout=timeout)
            if running.done():
                return running.result()
        finally:
            if not running.done():
                await self._stop(running, work, read_ending(token, output.err).group)
        subject = f"{self.target.subject}: {work.program}"
        hint = f"run by hand there: {' '.join(work.argv)}"
        raise TimedOut(subject, f"no answer within {timeout:g} s", hint)

    async def _stop(self, running: asyncio.Future[str], work: Work, group: int) -> None:
        """End the program there, as far as we can: when the machine does not answer, nothing more can be done."""
        try:
            if group and not work.ends_itself:
                async with asyncio.timeout(KILL_LIMIT):
                    await self._exchange(line_to_kill(group, work.argv), b"", Output())
                    # Its session ends by itself now.
                    await asyncio.wait({running}, timeout=1.0)
        except (TimeoutError, Unreachable):
            pass
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def _completed(work: Work, ending: Ending, output: Output) -> Completed:
    return Completed(work.argv, ending.code or 0, as_text(output.out), ending.err)
