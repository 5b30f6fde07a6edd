"""The GPUs of this machine through NVML, asked in a child process that can be killed.

NVML calls hang in the kernel when a GPU or its driver does. So nobody here waits long: a question that is not answered
within `patience` gives a snapshot that says how long it has been open, and after `limit` the child is killed.
"""

import asyncio
import json
import os
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpcli.domain.gpus import Driver, Gpus
from hpcli.probe.nvml_answer import parse_answer
from hpcli.transport.process import spawn_on_socket

CHILD = Path(__file__).with_name("nvml_child.py")
MAX_ANSWER = 1 << 22
CHUNK = 1 << 16

Spawn = Callable[[str], tuple[socket.socket, Callable[[], None]]]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. `fresh`: one snapshot serves all checks of a round. `retry`: pause before a missing driver is looked for
    again. `patience`: what a check waits. `limit`: after that the child is killed (health.md: gpu.hang).
    """

    fresh: float = 1.0
    retry: float = 60.0
    patience: float = 5.0
    limit: float = 30.0


@dataclass(slots=True)
class Child:
    """The process that asks. `gone` is set when it has ended; one that hangs in the kernel may never."""

    end: socket.socket
    stop: Callable[[], None]
    pid: int = 0
    killed: bool = False
    gone: threading.Event = field(default_factory=threading.Event)
    _held: bytes = b""

    async def answer(self) -> bytes:
        """The next line. Raises ConnectionError when the child has ended."""
        while b"\n" not in self._held:
            chunk = await asyncio.get_running_loop().sock_recv(self.end, CHUNK)
            if not chunk or len(self._held) > MAX_ANSWER:
                raise ConnectionError("the process that asks NVML ended, or says too much")
            self._held += chunk
        line, _, self._held = self._held.partition(b"\n")
        return line

    async def ask(self) -> bytes:
        if not self.pid:
            self.pid = int(json.loads(await self.answer())["pid"])
        await asyncio.get_running_loop().sock_sendall(self.end, b"snapshot\n")
        return await self.answer()

    def kill(self) -> None:
        """End its whole process group; a thread waits for it, since that may take as long as the driver hangs."""
        if self.killed:
            return
        self.killed = True
        if self.pid:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.end.close()
        threading.Thread(target=self._bury, daemon=True).start()

    async def ended(self) -> None:
        """Return when it is gone. Looks ever less often, since that may be never."""
        pause = 0.01
        while not self.gone.is_set():
            await asyncio.sleep(pause)
            pause = min(2 * pause, 1.0)

    def _bury(self) -> None:
        self.stop()
        self.gone.set()


@dataclass(slots=True)
class NvmlProbe:
    """`environment` is added to the child's. With `state`, the file of simulated GPUs, there is a driver only while
    that file exists.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    state: Path | None = None
    timing: Timing = field(default_factory=Timing)
    spawn: Spawn = spawn_on_socket
    _child: Child | None = None
    _asking: "asyncio.Task[Gpus] | None" = None
    _latest: Gpus | None = None
    _latest_at: float = 0.0
    _open_since: float = 0.0

    async def read(self) -> Gpus:
        """A snapshot not older than `fresh`, or why there is none. Returns within `patience`; never raises.

        Patience counts from the first question without an answer, so a driver that hangs holds up one round only.
        """
        if self.state is not None and not self.state.exists():
            return Gpus(Driver.FOREIGN, "this node has no GPU driver of its own")
        if self._latest and time.monotonic() - self._latest_at < self._kept(self._latest):
            return self._latest
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask())
        # Whoever wakes first may ask anew before we look.
        asking = self._asking
        open_for = time.monotonic() - self._open_since if self._open_since else 0.0
        await asyncio.wait({asking}, timeout=max(0.0, self.timing.patience - open_for))
        return asking.result() if asking.done() else self._silent()

    def close(self) -> None:
        """End the child: a GPU that NVML looks at cannot be reset, nor its driver be replaced."""
        self._drop()
        self._latest = None

    def _kept(self, gpus: Gpus) -> float:
        return self.timing.retry if gpus.driver in (Driver.MISSING, Driver.UNBOUND) else self.timing.fresh

    async def _ask(self) -> Gpus:
        self._open_since = self._open_since or time.monotonic()
        found = await self._exchange()
        if found.driver is Driver.SILENT:
            return found
        self._open_since = 0.0
        self._latest, self._latest_at = found, time.monotonic()
        if found.driver is not Driver.RUNNING:
            # A driver that comes back is met by a library that has never seen the old one.
            self._drop()
        return found

    async def _exchange(self) -> Gpus:
        try:
            async with asyncio.timeout(self.timing.limit):
                if self._child and self._child.killed:
                    # Another one would hang beside it.
                    await self._child.ended()
                    self._child = None
                self._child = child = self._child or self._start()
                return parse_answer(await child.ask())
        except TimeoutError:
            self._drop()
            return self._silent()
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._drop()
            return Gpus(Driver.UNASKED, f"NVML could not be asked: {error}")
        except asyncio.CancelledError:
            self._drop()
            raise

    def _start(self) -> Child:
        argv = [sys.executable, "-P", str(CHILD)]
        if self.environment:
            argv = ["env", *(f"{name}={value}" for name, value in self.environment.items()), *argv]
        end, stop = self.spawn(shlex.join(argv))
        end.setblocking(False)
        return Child(end, stop)

    def _drop(self) -> None:
        """Kill the child, and keep it in mind until it is gone."""
        if self._child:
            self._child.kill()

    def _silent(self) -> Gpus:
        waited = time.monotonic() - self._open_since if self._open_since else 0.0
        return Gpus(Driver.SILENT, f"NVML has not answered for {waited:.0f} s", waited=waited)
