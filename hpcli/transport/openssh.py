"""SSH by the `ssh` program, its processes sharing one connection."""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from hpcli.errors import NotFound, Unreachable
from hpcli.transport.control import Control, default_folder, make_control
from hpcli.transport.faults import no_answer
from hpcli.transport.known_hosts import Place
from hpcli.transport.openssh_faults import DENIED, explain, needs_more, read_place, words_of
from hpcli.transport.output import Output, as_text
from hpcli.transport.process import exchange
from hpcli.transport.remote_shell import has_begun
from hpcli.transport.session import SshTransport
from hpcli.transport.target import SshTarget, check_files

IDLE = 60
"""Seconds that a shared connection outlives its last program."""
OPEN_LIMIT = 30.0
ASK_LIMIT = 180.0
FAILED = 255
"""What ssh ends with when it could not get in; also any program's own 255."""


class OpenSsh(SshTransport):
    """A machine behind the `ssh` program, which must be 8.5 or newer; `~/.ssh/config` counts, as ever.

    The connection is shared with other hpcli processes and outlives us by a minute. `terminal` says that somebody
    is there whom ssh may ask for passwords and passphrases, one host at a time. Host keys are never accepted by
    asking, nor added to a file.
    """

    def __init__(
        self, target: SshTarget, *, folder: Path | None = None, terminal: bool = False, program: str = "ssh"
    ) -> None:
        super().__init__(target)
        self._folder = folder or default_folder()
        self._terminal = terminal
        self._program = program
        self._opening = asyncio.Lock()
        self._made: Control | None = None

    async def close(self) -> None:
        """Let go of the shared connection: programs that run on it end in peace, later ones get another."""
        if self._made and self._made.answers():
            await exchange(self._argv(self._made, "-O", "stop"), Output())

    async def _connect(self) -> None:
        if self._control.answers():
            return
        async with self._opening:
            if not self._control.answers():
                await self._open(self._control)

    @property
    def _control(self) -> Control:
        if not self._made:
            check_files(self.target)
            self._made = make_control(self._folder, self.target)
        return self._made

    async def _open(self, control: Control) -> None:
        said = await self._try_to_open(control, asking=False)
        if said is not None and self._terminal and DENIED.search(said):
            async with _one_at_a_time(control.lock):
                said = await self._try_to_open(control, asking=True)
        if said is not None:
            raise await self._fault(control, said)

    async def _try_to_open(self, control: Control, *, asking: bool) -> str | None:
        """None when we are in, else what ssh said."""
        shared = ["-o", "ControlMaster=auto", "-o", f"ControlPersist={IDLE}"]
        argv = self._argv(control, *shared, command="exec true", asking=asking)
        output = Output()
        try:
            async with asyncio.timeout(ASK_LIMIT if asking else OPEN_LIMIT):
                code = await exchange(argv, output, own_session=not asking)
        except TimeoutError:
            place = Place(self.target.host, self.target.host, self.target.port, "")
            raise no_answer(place, "it answered, but did not let us in or refuse in time") from None
        except NotFound:
            raise NotFound(self._program, "found no such program here", "install openssh-client") from None
        return as_text(output.err) if code == FAILED else None

    async def _exchange(self, line: str, stdin: bytes, output: Output, until: asyncio.Event | None = None) -> str:
        control = self._control
        argv = self._argv(control, "-o", "ControlMaster=no", command=line)
        code = await exchange(argv, output, stdin=stdin, until=until)
        if code == FAILED and not has_begun(output.err):
            raise await self._fault(control, as_text(output.err))
        return ""

    async def _fault(self, control: Control, said: str) -> Unreachable:
        apart = ["-o", "ControlPath=none", "-o", "ControlMaster=no"]
        more = ""
        if needs_more(said):
            more = as_text((await self._ask_ssh(self._argv(control, "-v", *apart, command="exec true"))).err)
        facts = as_text((await self._ask_ssh(self._argv(control, "-G", *apart))).out)
        place, user = read_place(self.target.host, facts)
        return explain(words_of(said, more), place, user)

    async def _ask_ssh(self, argv: Sequence[str]) -> Output:
        output = Output()
        try:
            async with asyncio.timeout(OPEN_LIMIT):
                await exchange(argv, output)
        except TimeoutError:
            pass
        return output

    def _argv(self, control: Control, *options: str, command: str = "", asking: bool = False) -> list[str]:
        target = self.target
        argv = [self._program, "-F", str(control.asking if asking else control.quiet), *options]
        argv += ["-T", "-a", "-x", "-o", "ClearAllForwardings=yes"]
        if "ControlPath=none" not in options:
            argv += ["-S", str(control.socket)]
        if target.user:
            argv += ["-l", target.user]
        if target.port:
            argv += ["-p", str(target.port)]
        if target.identity:
            argv += ["-i", _literal(target.identity), "-o", "IdentitiesOnly=yes"]
        if target.known_hosts:
            argv += ["-o", f'UserKnownHostsFile="{_literal(target.known_hosts)}"']
        return [*argv, "--", target.host, *([command] if command else [])]


def _literal(path: str) -> str:
    """ssh expands % in some paths."""
    return str(Path(path).expanduser().absolute()).replace("%", "%%")


@asynccontextmanager
async def _one_at_a_time(path: Path) -> AsyncIterator[None]:
    """Of all hpcli processes of this user: a terminal holds one question."""
    with path.open("w") as file:
        await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
        yield
