"""The cluster's own known_hosts file: the containers' host keys, as the engine, which is trusted, tells them."""

import fcntl
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpcli.errors import HpcliError
from hpcli.providers.docker.record import write_private

NAME = "known_hosts"


@dataclass(frozen=True, slots=True)
class HostKey:
    """A container's public host key, and the names by which ssh calls the container."""

    name: str
    address: str
    key: str

    @property
    def line(self) -> str:
        return f"{self.name},{self.address} {self.key}"


def with_keys(text: str, keys: Mapping[str, HostKey], gone: Collection[str] = ()) -> str:
    """The file's text with these keys in place of what their names and addresses had, and without `gone`."""
    dropped = {*gone, *keys, *(key.address for key in keys.values())}
    kept = [line for line in text.splitlines() if not dropped & set(line.partition(" ")[0].split(","))]
    return "".join(f"{line}\n" for line in (*kept, *(key.line for key in keys.values())))


def parse_key(text: str, container: str) -> str:
    """The type and the key of a .pub file. Raises `HpcliError`."""
    words = text.split()
    if len(words) < 2 or not words[0].startswith("ssh-"):
        raise HpcliError(
            f"container {container}",
            f"found {text.strip()[:40]!r} as its host key, expected an SSH public key",
            "does its image make one at its first start? see docker.image",
        )
    return f"{words[0]} {words[1]}"


def update(home: Path, keys: Mapping[str, HostKey], gone: Collection[str] = ()) -> None:
    """Write the keys into the folder's known_hosts, 0600. Raises `HpcliError`."""
    with _alone(home):
        path = home / NAME
        before = read(home)
        after = with_keys(before, keys, gone)
        if after != before or not path.exists():
            write_private(path, after)


def read(home: Path) -> str:
    """The file's text, "" when there is none."""
    try:
        return (home / NAME).read_text()
    except FileNotFoundError:
        return ""


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """An apply and the keeper may both have news; the lock is held for one reading and writing."""
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
