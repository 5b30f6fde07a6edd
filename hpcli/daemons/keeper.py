"""The keeper: reboots and replaces a cluster's machines when the controller, which has no keys to them, asks."""

import asyncio
import fcntl
import json
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hpcli.daemons.signals import until_stopped
from hpcli.domain.keeper_settings import KeeperSettings
from hpcli.errors import HpcliError, NotFound, TimedOut, Unreachable, Unsafe, UsageFault, told
from hpcli.providers.kept import KEEPER, REBOOT, REPLACE, Power

log = logging.getLogger(__name__)

MAX_REQUEST = 4096
REQUEST_LIMIT = 10.0
"""Seconds in which a connection must have sent its request."""
MAX_SOCKET = 107
_CREDENTIALS = struct.Struct("3i")


async def serve(settings: KeeperSettings, power: Power) -> None:
    """Run until SIGTERM. Raises `Unsafe` when the cluster's keeper is there already."""
    async with listening(settings, power):
        log.info("keeper of %s listens on %s for %d nodes", settings.cluster, settings.socket, len(settings.nodes))
        await until_stopped()


@asynccontextmanager
async def listening(settings: KeeperSettings, power: Power) -> AsyncIterator["Keeper"]:
    """A keeper that serves its socket. Steps that still run when this is left are cancelled; they can be repeated."""
    with _only_one(Path(settings.home) / "keeper.lock"):
        keeper = Keeper(settings, power)
        server = await asyncio.start_unix_server(keeper.connection, sock=_bind(settings), limit=MAX_REQUEST)
        try:
            yield keeper
        finally:
            server.close()
            await keeper.stop()
            Path(settings.socket).unlink(missing_ok=True)


@dataclass(slots=True)
class Keeper:
    """Obeys root and the configured users: one step at a time on a node, many nodes at once."""

    settings: KeeperSettings
    power: Power
    request_limit: float = REQUEST_LIMIT
    _running: dict[tuple[str, str], asyncio.Task[HpcliError | None]] = field(default_factory=dict)
    _turns: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer."""
        try:
            error = await self._answer(reader, writer)
            answer = {"ok": False, "error": told(error)} if error else {"ok": True}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except OSError as gone:
            log.info("an asker did not wait for its answer: %s", gone)
        finally:
            writer.close()

    async def carry_out(self, step: str, node: str) -> HpcliError | None:
        """Do it, or join whoever asked for the very same before; how it ended."""
        key = (node, step)
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(self._take_turn(step, node))
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key))
        # An asker that is gone cancels nothing: the controller may have been restarted, and will ask again.
        await asyncio.wait({task})
        return _ending(node, step) if task.cancelled() else task.result()

    async def stop(self) -> None:
        running = tuple(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> HpcliError | None:
        pid, uid, _gid = _peer(writer)
        allowed = (0, *self.settings.allowed_uids)
        try:
            async with asyncio.timeout(self.request_limit):
                line = await reader.readline()
            # Not before: a connection closed on what was sent unread takes the answer with it.
            if uid not in allowed:
                raise Unreachable(KEEPER, f"found uid {uid} asking, expected one of {', '.join(map(str, allowed))}")
            step, node = self._parse(line)
        except (TimeoutError, ValueError):
            return UsageFault(KEEPER, f"found no whole request within {self.request_limit:g} s and {MAX_REQUEST} bytes")
        except HpcliError as error:
            log.warning("refused uid %d (pid %d): %s", uid, pid, error)
            return error
        return await self.carry_out(step, node)

    def _parse(self, line: bytes) -> tuple[str, str]:
        """Raises `UsageFault`, `NotFound`."""
        try:
            request = json.loads(line)
            step, node = request["step"], request["node"]
        except (ValueError, KeyError, TypeError):
            raise UsageFault(KEEPER, "found no request, expected a line of JSON with step and node") from None
        if step not in (REBOOT, REPLACE):
            raise UsageFault(KEEPER, f"found step {str(step)[:40]!r}, expected {REBOOT} or {REPLACE}")
        if node not in self.settings.nodes:
            raise NotFound(
                f"node {str(node)[:80]}", f"cluster {self.settings.cluster} has no such node", "scaled? apply"
            )
        return step, node

    async def _take_turn(self, step: str, node: str) -> HpcliError | None:
        call, limit = {
            REBOOT: (self.power.reboot, self.settings.reboot_timeout),
            REPLACE: (self.power.replace, self.settings.replace_timeout),
        }[step]
        async with self._turns.setdefault(node, asyncio.Lock()):
            log.info("%s of %s begins", step, node)
            try:
                async with asyncio.timeout(limit):
                    await call(node)
            except TimeoutError:
                error: HpcliError = TimedOut(f"node {node}", f"found no end of its {step} within {limit:g} s")
            except HpcliError as met:
                error = met
            else:
                log.info("%s of %s is done", step, node)
                return None
        log.error("%s of %s failed: %s", step, node, error)
        return error


def _ending(node: str, step: str) -> HpcliError:
    return Unreachable(KEEPER, f"it ends before the {step} of {node} does, which may be half done", "ask again")


def _peer(writer: asyncio.StreamWriter) -> tuple[int, int, int]:
    """Pid, uid and gid of who connected, as the kernel knows them: unix(7), SO_PEERCRED."""
    connection = writer.get_extra_info("socket")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return pid, uid, gid


def _bind(settings: KeeperSettings) -> socket.socket:
    """Take the socket's place, whatever a dead keeper left there. Raises `HpcliError`."""
    path = Path(settings.socket)
    if len(os.fsencode(path)) > MAX_SOCKET:
        raise HpcliError(str(path), f"found {len(os.fsencode(path))} bytes, expected at most {MAX_SOCKET} for a socket")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        os.chown(path, -1, settings.socket_gid)
        path.chmod(settings.socket_mode)
    except OSError as error:
        listener.close()
        raise HpcliError(
            str(path), f"cannot listen there: {error.strerror}", "is its folder there, and ours?"
        ) from None
    finally:
        os.umask(mask)
    return listener


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """The kernel frees the lock when we die, however that is."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HpcliError(str(lock), f"cannot be made: {error.strerror}", "is the folder there, and ours?") from None
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read().strip() or "another keeper"
            raise Unsafe(KEEPER, f"found {holder} at work for {lock.parent}, expected none", "stop it first") from None
        file.truncate(0)
        file.write(f"pid {os.getpid()}\n")
        file.flush()
        yield
