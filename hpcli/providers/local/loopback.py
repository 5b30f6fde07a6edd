"""The loopback address on which a local cluster's daemons listen.

NoInAddrAny and NoCtldInAddrAny make Slurm bind to whatever the machine's own name resolves to. Where
that is no loopback address, nss_wrapper tells the cluster's daemons, and nobody else, that it is one.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcli.errors import HpcliError

LOOPBACK = "127.0.0.1"
WRAPPERS = ("/usr/lib/*/libnss_wrapper.so", "/usr/lib64/libnss_wrapper.so", "/usr/lib/libnss_wrapper.so")


@dataclass(frozen=True, slots=True)
class Loopback:
    """`wrapper` is the library to preload; "" where the machine's name is a loopback one already."""

    address: str
    wrapper: str = ""

    def environment(self, hosts: Path) -> dict[str, str]:
        """What a daemon needs to believe the hosts file `hosts`."""
        return {"LD_PRELOAD": self.wrapper, "NSS_WRAPPER_HOSTS": str(hosts)} if self.wrapper else {}


def short_host_name() -> str:
    return socket.gethostname().split(".")[0]


def _wrappers() -> list[str]:
    return [str(path) for pattern in WRAPPERS for path in Path("/").glob(pattern.lstrip("/"))]


def _resolve(name: str) -> str:
    try:
        return socket.gethostbyname(name)
    except OSError:
        return ""


def find_loopback(
    resolve: Callable[[str], str] = _resolve, wrappers: Callable[[], Sequence[str]] = _wrappers
) -> Loopback:
    """Raises `HpcliError` when the machine's name is no loopback one and nss_wrapper is missing."""
    address = resolve(socket.gethostname())
    if address.startswith("127."):
        return Loopback(address)
    found = wrappers()
    if not found:
        raise HpcliError(
            f"host name {socket.gethostname()}",
            f"found that it resolves to {address or 'nothing'}, expected a loopback address",
            f"apt-get install libnss-wrapper, or add this line to /etc/hosts: 127.0.1.1 {socket.gethostname()}",
        )
    return Loopback(LOOPBACK, found[0])


def hosts_file() -> str:
    name = socket.gethostname()
    return f"{LOOPBACK} localhost {' '.join(dict.fromkeys((name, name.split('.')[0])))}\n"
