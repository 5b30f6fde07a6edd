"""Free TCP ports on the loopback interface."""

import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpcli.errors import HpcliError

FIRST = 20_000
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
TCP = Path("/proc/net/tcp")
LISTEN = "0A"


def find_free(count: int, taken: frozenset[int], first: int | None = None) -> tuple[int, ...]:
    """`count` ports below the ephemeral range; with `first`, exactly those from there on.

    Raises `HpcliError` naming the ports that are in use.
    """
    if first is not None:
        return _exactly(first, count, taken)
    every = range(FIRST, _ephemeral_start())
    # Another user's cluster may be looking at this very moment, and no lock is shared with it.
    start = secrets.randbelow(len(every))
    found: list[int] = []
    for port in (*every[start:], *every[:start]):
        if port not in taken and _is_free(port):
            found.append(port)
        if len(found) == count:
            return tuple(found)
    raise HpcliError(
        "ports",
        f"found {len(found)} free on 127.0.0.1 between {FIRST} and {_ephemeral_start()}, expected {count}",
        "stop another cluster (hpcli cluster list), or use fewer nodes",
    )


def _exactly(first: int, count: int, taken: frozenset[int]) -> tuple[int, ...]:
    wanted = range(first, first + count)
    used = [port for port in wanted if port in taken or not _is_free(port)]
    if used:
        shown = ", ".join(map(str, used[:5])) + (" ..." if len(used) > 5 else "")
        raise HpcliError(
            "local.first_port",
            f"found {shown} in use, expected {count} free ports from {first} on",
            "choose another first_port, or leave it out so that free ports are found",
        )
    return tuple(wanted)


def _ephemeral_start() -> int:
    try:
        return int(EPHEMERAL.read_text().split()[0])
    except OSError:
        return 32_768


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Without this, ports of connections that have just closed would look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def is_listening(port: int) -> bool:
    """Somebody listens on that port; asked of the kernel, so that the listener is not troubled."""
    rows = (line.split() for line in TCP.read_text().splitlines()[1:])
    return any(row[1].endswith(f":{port:04X}") and row[3] == LISTEN for row in rows)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock a folder, so that two clusters coming up at once do not choose the same ports."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
