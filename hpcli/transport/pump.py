"""Moving a program's input and output over one channel of an SSH connection."""

import select
from collections.abc import Callable
from threading import Event
from typing import Protocol

CHUNK = 1 << 18
FULL_WAIT, QUIET_WAIT = 10, 1000
"""Milliseconds until a full window, or a quiet channel, is looked at again; what comes in wakes us at once."""


END_WAIT = 1.0


class Channel(Protocol):
    """What we use of paramiko's."""

    status_event: Event

    @property
    def closed(self) -> bool: ...
    @property
    def eof_received(self) -> int: ...
    def fileno(self) -> int: ...
    def recv_ready(self) -> bool: ...
    def recv_stderr_ready(self) -> bool: ...
    def recv(self, nbytes: int) -> bytes: ...
    def recv_stderr(self, nbytes: int) -> bytes: ...
    def send_ready(self) -> bool: ...
    def send(self, s: bytes) -> int: ...
    def shutdown_write(self) -> None: ...


class Pump:
    """`out` and `err` get what comes, in the thread that runs this. With `closes` the input ends after `stdin`."""

    def __init__(
        self,
        channel: Channel,
        stdin: bytes,
        closes: bool,
        out: Callable[[bytes], object],
        err: Callable[[bytes], object],
    ) -> None:
        self._channel, self._rest, self._closes = channel, memoryview(stdin), closes
        self._out, self._err = out, err

    def run(self) -> None:
        """Until both streams end, or the channel is closed by us or by a broken connection."""
        channel = self._channel
        ready = select.poll()
        ready.register(channel.fileno(), select.POLLIN)
        while True:
            # Looked at first: all that came before the end is then there to be read.
            ended = channel.closed or bool(channel.eof_received)
            moved = self._read()
            if ended:
                # The server counts the session until it has told us how its program ended.
                channel.status_event.wait(END_WAIT)
                return
            if not self._write() and not moved:
                ready.poll(FULL_WAIT if self._rest else QUIET_WAIT)

    def _read(self) -> bool:
        moved = False
        while self._channel.recv_ready():
            self._out(self._channel.recv(CHUNK))
            moved = True
        while self._channel.recv_stderr_ready():
            self._err(self._channel.recv_stderr(CHUNK))
            moved = True
        return moved

    def _write(self) -> bool:
        if self._rest and self._channel.send_ready():
            try:
                self._rest = self._rest[self._channel.send(bytes(self._rest[:CHUNK])) :]
            except OSError:
                # A program need not read what it is told.
                self._rest = memoryview(b"")
            return True
        if not self._rest and self._closes:
            self._closes = False
            self._channel.shutdown_write()
        return False
