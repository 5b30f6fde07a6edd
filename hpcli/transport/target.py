"""Where an SSH connection goes."""

import re
from dataclasses import dataclass
from pathlib import Path

from hpcli.errors import NotFound, UsageFault

NAME = re.compile(r"[^\s@/\\'\"`$;&|<>(){}*?\x00-\x1f-][^\s@/\\'\"`$;&|<>(){}*?\x00-\x1f]*")
"""What may name a host or user: nothing that an option or a shell (of a ProxyCommand) could be made of."""


@dataclass(frozen=True, slots=True)
class SshTarget:
    """A machine as `ssh` would be told of it; "" and 0 leave the choice to `~/.ssh/config`.

    `host` is a name of that file, a host name or an address. `identity` is a private key's file: it is tried
    first, then those that the configuration names for the host, and no other that an agent holds. `known_hosts` is
    read in place of the user's own, `config` in place of `~/.ssh/config` and the system's. Raises `UsageFault` for
    a name that no host or user can have.
    """

    host: str
    user: str = ""
    port: int = 0
    identity: str = ""
    known_hosts: str = ""
    config: str = ""

    def __post_init__(self) -> None:
        for what, name in (("host", self.host), ("user", self.user or "x")):
            if not NAME.fullmatch(name):
                raise UsageFault(f"{what} {name!r}", "found a character that no such name has", "check the address")

    @property
    def subject(self) -> str:
        """What errors call it."""
        return f"host {self.host}"


def check_files(target: SshTarget) -> None:
    """Raises `NotFound` for a file that was named and is not there: ssh itself would go on without it."""
    for what, name in (("identity", target.identity), ("config", target.config)):
        if name and not Path(name).expanduser().is_file():
            raise NotFound(f"{target.subject}: {name}", f"found no such file, expected the {what} of this host", "")
