"""Free TCP ports on the loopback interface."""

import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from hpcli.errors import HpcliError

FIRST = 20_000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
TCP = Path("/proc/net/tcp")
LISTEN = "0A"


@dataclass(slots=True)
class Reservation:
    """Ports that are ours, held by listening on them until their daemons do."""

    _held: dict[int, socket.socket]

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(self._held)

    def release(self, *ports: int) -> None:
        """Let go of these, as their daemons start now; of all without any."""
        for port in ports or self.ports:
            self._held[port].close()


def reserve(count: int, taken: frozenset[int], first: int | None = None) -> Reservation:
    """Take `count` ports below the ephemeral range; with `first`, exactly those from there on.

    Raises `HpcliError` naming the ports that are in use.
    """
    # Another user's slurmctld may listen on 127.0.1.1, where Debian puts the machine's own name.
    taken |= listening_ports()
    if first is not None:
        return _exactly(first, count, taken)
    every = range(FIRST, _ephemeral_start())
    start = secrets.randbelow(len(every))
    held: dict[int, socket.socket] = {}
    for port in (*every[start:], *every[:start]):
        if port not in taken and (listener := _listen(port)):
            held[port] = listener
        if len(held) == count:
            return Reservation(held)
    Reservation(held).release()
    raise HpcliError(
        "ports",
        f"found {len(held)} free on 127.0.0.1 between {FIRST} and {_ephemeral_start()}, expected {count}",
        "stop another cluster (hpcli cluster list), or use fewer nodes",
    )


def next_free(count: int, taken: frozenset[int], after: int) -> tuple[int, ...]:
    """The next `count` ports above `after` that nobody listens on; the same ones as long as nobody else takes them.

    Raises `HpcliError`.
    """
    taken |= listening_ports()
    above = [port for port in range(after + 1, _ephemeral_start()) if port not in taken]
    found = (above + [port for port in range(FIRST, after) if port not in taken])[:count]
    if len(found) < count:
        there = f"found {len(found)} free on 127.0.0.1, expected {count}"
        raise HpcliError("ports", there, "stop another cluster: hpcli cluster list")
    return tuple(found)


def _exactly(first: int, count: int, taken: frozenset[int]) -> Reservation:
    tried = {port: None if port in taken else _listen(port) for port in range(first, first + count)}
    held = {port: listener for port, listener in tried.items() if listener}
    used = [port for port in tried if port not in held]
    if not used:
        return Reservation(held)
    Reservation(held).release()
    shown = ", ".join(map(str, used[:5])) + (" ..." if len(used) > 5 else "")
    raise HpcliError(
        "local.first_port",
        f"found {shown} in use, expected {count} free ports from {first} on",
        "choose another first_port, or leave it out so that free ports are found",
    )


def _ephemeral_start() -> int:
    try:
        return int(EPHEMERAL.read_text().split()[0])
    except OSError:
        return 32_768


def _listen(port: int) -> socket.socket | None:
    """A socket that listens there; None when somebody else does."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # Without this, ports of connections that have just closed would look taken.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(1)
    except OSError:
        listener.close()
        return None
    return listener


def is_listening(port: int) -> bool:
    """Somebody listens on that port, on whichever address."""
    return port in listening_ports()


def listens(sockets: frozenset[str], port: int) -> bool:
    """One of these sockets, given as /proc writes them (socket:[INODE]), listens on that port."""
    rows = (line.split() for line in TCP.read_text().splitlines()[1:])
    return any(
        row[3] == LISTEN and int(row[1].rpartition(":")[2], 16) == port and f"socket:[{row[9]}]" in sockets
        for row in rows
    )


def listening_ports() -> frozenset[int]:
    """Ports with a listener on any IPv4 address; asked of the kernel, so that the listeners are not troubled."""
    rows = (line.split() for line in TCP.read_text().splitlines()[1:])
    return frozenset(int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == LISTEN)
