"""SSH without a program for it: paramiko, one connection with many channels."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.pkey import UnknownKeyType

from hpcli.errors import UsageFault
from hpcli.transport import faults
from hpcli.transport.dial import dial
from hpcli.transport.identities import label, public_half
from hpcli.transport.known_hosts import Place, check, known_kinds, read_known
from hpcli.transport.output import Output
from hpcli.transport.process import spawn_on_socket
from hpcli.transport.pump import Pump
from hpcli.transport.session import SESSIONS, SshTransport
from hpcli.transport.ssh_config import Route, whole_way
from hpcli.transport.target import SshTarget, check_files

LOGIN_LIMIT = 30.0
ALIVE_EVERY = 5
"""Seconds between signs of life: TCP breaks the connection when they are not confirmed."""
LOG = "hpcli.transport.paramiko"
BROKEN = (paramiko.SSHException, EOFError, OSError)
UNREADABLE = (paramiko.SSHException, OSError, ValueError, TypeError, UnknownKeyType, UnsupportedAlgorithm)
PAUSE = 0.05
RSA = ("rsa-sha2-512", "rsa-sha2-256")

T = TypeVar("T")
Ask = Callable[[str, bool], str]
"""Answers a question of the host (prompt, whether the answer may be seen)."""


class ParamikoSsh(SshTransport):
    """A machine by paramiko: `~/.ssh/config`, jump hosts, agents and known_hosts count as with `ssh`.

    A connection that was lost is made anew, once, by the next program. `ask` is called in a thread for what
    the host wants to be told (passwords, codes); without it, such a host does not let us in. Keys with a
    passphrase come from the agent.
    """

    def __init__(self, target: SshTarget, *, ask: Ask | None = None) -> None:
        super().__init__(target)
        self._ask = ask
        self._chain: list[paramiko.Transport] = []
        """The jump hosts on the way, and last the machine."""
        self._proxies: list[Callable[[], None]] = []
        self._opening = asyncio.Lock()
        self._pool: ThreadPoolExecutor | None = None

    async def close(self) -> None:
        await self._thread(self._hang_up)
        if self._pool:
            self._pool.shutdown(wait=False)
            self._pool = None

    async def _connect(self) -> None:
        if self._alive():
            return
        async with self._opening:
            if not self._alive():
                await self._thread(self._dial)

    async def _exchange(self, line: str, stdin: bytes, output: Output, until: asyncio.Event | None = None) -> str:
        channel = await self._session()
        soon = asyncio.get_running_loop().call_soon_threadsafe
        pump = Pump(
            channel,
            stdin,
            not until,
            lambda chunk: soon(output.feed_out, chunk),
            lambda chunk: soon(output.feed_err, chunk),
        )

        def work() -> None:
            channel.exec_command(line)
            pump.run()

        closing = asyncio.ensure_future(self._close_input(channel, until))
        try:
            await self._thread(work)
        except BROKEN as error:
            return _words(error)
        finally:
            closing.cancel()
            # The working thread sees it and ends, also when nobody waits for it any more.
            await asyncio.shield(self._thread(lambda: _close(channel)))
        return ""

    async def _session(self) -> paramiko.Channel:
        try:
            return await self._thread(self._open_session)
        except BROKEN as error:
            if self._alive():
                raise faults.no_session(self.target.subject, _words(error)) from None
        # Nothing was started yet: once more on a new connection.
        await self._connect()
        try:
            return await self._thread(self._open_session)
        except BROKEN as error:
            raise faults.no_session(self.target.subject, _words(error)) from None

    def _alive(self) -> bool:
        return bool(self._chain) and self._chain[-1].is_active()

    def _open_session(self) -> paramiko.Channel:
        chain = self._chain
        if not chain:
            raise EOFError("closed")
        deadline = time.monotonic() + faults.CONNECT_LIMIT
        while True:
            try:
                return chain[-1].open_session(timeout=faults.CONNECT_LIMIT)
            except paramiko.ChannelException:
                # Sessions that have just ended still count there for a moment (MaxSessions).
                if time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE)

    async def _close_input(self, channel: paramiko.Channel, until: asyncio.Event | None) -> None:
        if until:
            await until.wait()
            await self._thread(channel.shutdown_write)

    async def _thread(self, work: Callable[[], T]) -> T:
        if not self._pool:
            # Each program takes one thread while it runs; the rest connect, open and close.
            self._pool = ThreadPoolExecutor(SESSIONS + 4, thread_name_prefix="hpcli-ssh")
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _hang_up(self) -> None:
        chain, self._chain = self._chain, []
        for transport in reversed(chain):
            transport.close()
        for end in self._proxies:
            end()
        self._proxies = []

    def _dial(self) -> None:
        check_files(self.target)
        self._hang_up()
        chain: list[paramiko.Transport] = []
        try:
            for route in whole_way(self.target, _look_up):
                sock = _tunnel(chain[-1], route.place) if chain else self._reach(route)
                chain.append(_log_in(sock, route, self._ask))
        except BaseException:
            for transport in reversed(chain):
                transport.close()
            self._hang_up()
            raise
        # Only now: nobody may take a jump host for the machine.
        self._chain = chain

    def _reach(self, route: Route) -> socket.socket:
        if not route.proxy:
            return dial(route.place)
        ours, end = spawn_on_socket(route.proxy)
        self._proxies.append(end)
        return ours


def _look_up(text: str, host: str) -> Mapping[str, object]:
    try:
        return paramiko.SSHConfig.from_text(text).lookup(host)
    except (paramiko.ConfigParseError, paramiko.CouldNotCanonicalize) as error:
        raise UsageFault("~/.ssh/config", f"found {error}", "see ssh_config(5)") from None


def _tunnel(through: paramiko.Transport, place: Place) -> paramiko.Channel:
    goal = (place.address, place.port)
    try:
        return through.open_channel("direct-tcpip", goal, ("127.0.0.1", 0), timeout=faults.CONNECT_LIMIT)
    except BROKEN as error:
        raise faults.no_way(place, f"its jump host does not get to {place.where}: {_words(error)}") from None


def _log_in(sock: "socket.socket | paramiko.Channel", route: Route, ask: Ask | None) -> paramiko.Transport:
    known = read_known(route.known_hosts)
    transport = _greeted(sock, route.place, known_kinds(known, route.place.lookup))
    try:
        key = transport.get_remote_server_key()
        check(known, route.place, key.get_name(), key.asbytes())
        _authenticate(transport, route, ask)
        transport.set_keepalive(ALIVE_EVERY)
    except BaseException:
        transport.close()
        raise
    return transport


def _greeted(sock: "socket.socket | paramiko.Channel", place: Place, kinds: Sequence[str]) -> paramiko.Transport:
    """Encrypted, the host's key yet unchecked; of its keys it shows a kind that we know, if it has one."""
    logging.getLogger(LOG).addHandler(logging.NullHandler())
    logging.getLogger(LOG).propagate = False
    transport = paramiko.Transport(sock)
    transport.set_log_channel(LOG)
    transport.banner_timeout = transport.handshake_timeout = faults.CONNECT_LIMIT
    transport.auth_timeout = LOGIN_LIMIT
    first = [name for kind in kinds for name in (RSA if kind == "ssh-rsa" else (kind,))]
    options = transport.get_security_options()
    offered = list(options.key_types)
    options.key_types = [name for name in dict.fromkeys([*first, *offered]) if name in offered]
    try:
        transport.start_client(timeout=faults.CONNECT_LIMIT)
    except BROKEN as error:
        transport.close()
        raise faults.cut_off(place, _words(error)) from None
    return transport


def _authenticate(transport: paramiko.Transport, route: Route, ask: Ask | None) -> None:
    tried: list[str] = []
    takes: list[str] = []
    try:
        takes = _takes(transport, route.user)
        if "publickey" in takes:
            takes = _by_key(transport, route, takes, tried)
        if ask and takes:
            takes = _by_asking(transport, route.user, takes, ask)
    except BROKEN as error:
        if not takes:
            raise faults.cut_off(route.place, _words(error)) from None
        # Refused, or cut off after too many keys.
        raise faults.not_let_in(route.place, route.user, tried, ",".join(takes)) from None
    if takes:
        raise faults.not_let_in(route.place, route.user, tried, ",".join(takes))


def _takes(transport: paramiko.Transport, user: str) -> list[str]:
    """What the host wants to see; nothing when it lets us in as we are."""
    try:
        transport.auth_none(user)
    except paramiko.BadAuthenticationType as refusal:
        return list(refusal.allowed_types)
    return []


def _by_key(transport: paramiko.Transport, route: Route, takes: list[str], tried: list[str]) -> list[str]:
    """What is left to be shown: nothing when we are in."""
    agent = paramiko.Agent() if route.agent else None
    try:
        for name, key in _keys(route, agent, tried):
            try:
                return list(transport.auth_publickey(route.user, key))
            except paramiko.AuthenticationException:
                tried.append(name)
        return takes
    finally:
        if agent:
            agent.close()


def _keys(route: Route, agent: paramiko.Agent | None, tried: list[str]) -> Iterator[tuple[str, paramiko.PKey]]:
    """The named keys as the agent holds them or from their files, then the agent's others; each once."""
    held = {bytes(key.asbytes()): key for key in (agent.get_keys() if agent else ())}
    for name in route.identities:
        path = Path(name).expanduser()
        blob = public_half(path)
        if blob in held:
            yield label(name, blob), held.pop(blob)
        elif path.exists():
            try:
                key = paramiko.PKey.from_path(path)
            except UNREADABLE as error:
                tried.append(f"{name} (not to be read without its passphrase? ssh-add it: {_words(error)})")
                continue
            yield label(name, key.asbytes()), key
    if not route.identities_only:
        yield from ((label("agent", blob), key) for blob, key in held.items())


def _by_asking(transport: paramiko.Transport, user: str, takes: list[str], ask: Ask) -> list[str]:
    """What is left to be shown: nothing when we are in."""
    if "keyboard-interactive" in takes:
        return list(transport.auth_interactive(user, lambda _title, _words, asked: [ask(*one) for one in asked]))
    if "password" in takes:
        return list(transport.auth_password(user, ask(f"password of {user}: ", False), fallback=False))
    return takes


def _close(channel: paramiko.Channel) -> None:
    try:
        channel.close()
    except BROKEN:
        # Gone with its connection.
        pass


def _words(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__
