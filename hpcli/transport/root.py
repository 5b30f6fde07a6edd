"""Root's rights on a machine where we log in as somebody else: sudo without a password."""

import base64
import binascii
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace

from hpcli.errors import HpcliError, NotFound
from hpcli.machines import RemoteTransport
from hpcli.ports import Completed
from hpcli.transport.output import Told

SUDO = ("sudo", "-n", "--")
REFUSAL = re.compile(
    r"(a password is required|a terminal is required|must have a tty|is not in the sudoers file"
    r"|Sorry, user \S+ (?:is not allowed to|may not run)|effective uid is not 0|The \"no new privileges\")[^\n]*"
)
MISSING = re.compile(r"^sudo: .*: command not found$", re.MULTILINE)
NOWHERE = 125
MOVE = """\
umask 077
new=$(mktemp "${2%/*}/.hpcli.XXXXXXXX") || exit 1
trap 'rm -f "$new"' EXIT
trap 'exit 1' HUP INT TERM PIPE
cat <"$1" >"$new" && chmod "$3" "$new" && sync "$new" && mv -fT -- "$new" "$2" && sync "${2%/*}/"
"""
"""Arguments: from, to, octal mode. Into a new file beside the target, on its file system and owned by root."""
GET = '[ -e "$1" ] || exit 44; exec base64 -w0 -- "$1"'
NO_FILE = 44
GET_LIMIT = 600.0


class AsRoot:
    """A `RemoteTransport` whose programs and files are root's; as it is where we are root already.

    Raises `HpcliError` with the subject `HOST: sudo` where sudo wants a password or does not know us.
    """

    def __init__(self, transport: RemoteTransport, subject: str = "") -> None:
        self._inner = transport
        self._subject = subject or getattr(getattr(transport, "target", None), "subject", "this machine")
        self._uid: int | None = None

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        if await self._is_root():
            return await self._inner.run(argv, stdin=stdin, env=env, cwd=cwd, timeout=timeout)
        # sudo clears the environment, and only root may go into root's folders: both are set behind sudo.
        inside = [] if cwd is None else [f"--chdir={cwd}"]
        inside += [f"{name}={value}" for name, value in (env or {}).items()]
        words = [*SUDO, *(["env", *inside] if inside else []), *argv]
        return await self._seen(await self._inner.run(words, stdin=stdin, timeout=timeout), argv, cwd)

    async def follow(self, argv: Sequence[str], told: Told, *, stdin: str = "", timeout: float = 60.0) -> Completed:
        if await self._is_root():
            return await self._inner.follow(argv, told, stdin=stdin, timeout=timeout)
        return await self._seen(await self._inner.follow([*SUDO, *argv], told, stdin=stdin, timeout=timeout), argv)

    def hold(self, argv: Sequence[str]) -> AbstractAsyncContextManager[str]:
        return self._hold(argv)

    @asynccontextmanager
    async def _hold(self, argv: Sequence[str]) -> AsyncIterator[str]:
        words = argv if await self._is_root() else [*SUDO, *argv]
        async with AsyncExitStack() as stack:
            try:
                line = await stack.enter_async_context(self._inner.hold(words))
            except HpcliError as error:
                if refusal := REFUSAL.search(error.message):
                    raise await self._refused(refusal[0]) from None
                raise
            yield line

    async def put(self, content: bytes, path: str, mode: int = 0o600) -> None:
        """The path is absolute. The file is root's."""
        if await self._is_root():
            await self._inner.put(content, path, mode)
            return
        between = f"/tmp/.hpcli-{secrets.token_hex(16)}"
        await self._inner.put(content, between, 0o600)
        try:
            moved = await self.run(["sh", "-c", MOVE, "sh", between, path, f"{mode & 0o7777:o}"])
        finally:
            await self._inner.run(["rm", "-f", "--", between])
        if moved.code:
            raise self._fault(path, moved, "to write it", "free some space there, or check the folder")

    async def get(self, path: str) -> bytes:
        if await self._is_root():
            return await self._inner.get(path)
        # What `run` gives is text: bytes come in letters.
        found = await self.run(["sh", "-c", GET, "sh", path], timeout=GET_LIMIT)
        if found.code == NO_FILE:
            raise NotFound(f"{self._subject}: {path}", "no such file", "")
        if found.code:
            raise self._fault(path, found, "to read it", "check what it is")
        try:
            return base64.b64decode(found.out, validate=True)
        except binascii.Error:
            raise HpcliError(f"{self._subject}: {path}", "found it cut short on the way", "try again") from None

    async def close(self) -> None:
        await self._inner.close()

    async def _is_root(self) -> bool:
        """Asked once."""
        if self._uid is None:
            said = (await self._inner.run(["id", "-u"])).out.strip()
            if not said.isdigit():
                raise HpcliError(self._subject, f"found {said!r}, expected `id -u` to give a number", "")
            self._uid = int(said)
        return self._uid == 0

    async def _seen(self, found: Completed, argv: Sequence[str], cwd: str | None = None) -> Completed:
        """What the program did, unless it was sudo or env that spoke."""
        if found.code == 1 and found.err.startswith("sudo: ") and MISSING.search(found.err):
            raise NotFound(f"{self._subject}: {argv[0]}", "no such program there", "install it, or put it on PATH")
        if found.code == 1 and (refusal := REFUSAL.search(found.err)):
            raise await self._refused(refusal[0])
        if cwd is not None and found.code == NOWHERE and found.err.startswith("env: "):
            raise NotFound(f"{self._subject}: {cwd}", "no such folder there", "make it first")
        return replace(found, argv=tuple(argv))

    async def _refused(self, why: str) -> HpcliError:
        user = (await self._inner.run(["id", "-un"])).out.strip() or f"uid {self._uid}"
        return HpcliError(
            f"{self._subject}: sudo",
            f"found {why!r}, expected passwordless sudo for {user}",
            f"there, as root: echo '{user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/hpcli",
        )

    def _fault(self, path: str, found: Completed, expected: str, hint: str) -> HpcliError:
        words = found.err.strip().splitlines() or [f"exit code {found.code}"]
        return HpcliError(f"{self._subject}: {path}", f"found {words[0]}, expected {expected}", hint)
