"""Names for clusters: where their Slurm is, and which of them is meant. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hpcli.errors import NotFound, UsageFault

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
"""As that of a cluster, which is a context by itself."""
SEE_LIST = "see: hpcli context list"

_LOGIN = re.compile(r"(?:(?P<user>[^@]+)@)?(?:\[(?P<bare>[^\]@]+)\]|(?P<host>[^\[\]:@]+))(?::(?P<port>\d{1,5}))?")
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Context:
    """A cluster of somebody else's. `host` is its login node, "" for Slurm of this machine; "" and 0 are ssh's choice.

    `login` is who we were there when it was added, "" when nobody looked.
    """

    name: str
    host: str = ""
    user: str = ""
    port: int = 0
    identity: str = ""
    known_hosts: str = ""
    slurm_conf: str = ""
    login: str = ""

    @property
    def where(self) -> str:
        """As people write it: ada@login.example.org:2222."""
        if not self.host:
            return "this machine"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}".lstrip("@") + (f":{self.port}" if self.port else "")


@dataclass(frozen=True, slots=True)
class Contexts:
    """All of a user's contexts by name; `current` is the one that is meant where no other is named, "" for none."""

    current: str = ""
    known: Mapping[str, Context] = field(default_factory=dict)

    def with_added(self, context: Context) -> "Contexts":
        """Raises `UsageFault` when the name is taken."""
        if context.name in self.known:
            found = f"found one already, at {self.known[context.name].where}; expected a new name"
            raise UsageFault(f"context {context.name}", found, f"hpcli context remove {context.name}")
        return replace(self, known={**self.known, context.name: context})

    def without(self, name: str) -> "Contexts":
        """Raises `NotFound`. The current one that is removed leaves none."""
        if name not in self.known:
            raise unknown(name)
        left = {other: context for other, context in self.known.items() if other != name}
        return Contexts("" if name == self.current else self.current, left)

    def using(self, name: str) -> "Contexts":
        """`name` is that of a context or cluster, "" for none."""
        return replace(self, current=name)


def unknown(name: str) -> NotFound:
    return NotFound(f"context {name}", "found no context and no cluster of that name", SEE_LIST)


def check_name(name: str) -> None:
    """Raises `UsageFault` for what cannot be a name."""
    if not NAME.fullmatch(name):
        raise UsageFault(f"context {name!r}", "found no valid name, expected a-z, 0-9 and -, beginning with a letter")


def parse_login(text: str) -> tuple[str, str, int]:
    """Host, user and port of USER@HOST:PORT, of which only the host is needed. Raises `UsageFault`."""
    found = _LOGIN.fullmatch(text)
    port = int(found["port"] or 0) if found else 0
    if not found or port > _MAX_PORT or (found["port"] and not port):
        raise UsageFault(f"--ssh {text}", "expected USER@HOST:PORT, HOST or a name of ~/.ssh/config", "")
    return found["host"] or found["bare"], found["user"] or "", port
