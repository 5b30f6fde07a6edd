"""Where a local cluster keeps its files.

The state folder holds what must be found again; sockets and spool live under a short runtime
folder, because a stepd socket longer than 107 bytes makes Slurm hold jobs with no word of why.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from hpcli.errors import HpcliError, NotFound, UsageFault

MAX_SOCKET = 107
NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
LONGEST_STEP = "_4294967294.4294967294"


def clusters_home() -> Path:
    """The folder of all local clusters of this user."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base).absolute() / "hpcli" / "clusters"


def _runtime_home() -> Path:
    return Path(os.environ.get("HPCLI_RUNTIME_DIR") or f"/tmp/hpcli-{os.getuid()}").absolute()


@dataclass(frozen=True, slots=True)
class Layout:
    """Every path of one local cluster."""

    name: str
    home: Path
    runtime: Path

    @classmethod
    def of(cls, name: str) -> "Layout":
        """Raises `UsageFault` for what cannot be a cluster's name, such as a path."""
        if not NAME.fullmatch(name):
            raise UsageFault(
                f"cluster {name!r}", "found no valid name, expected a-z, 0-9 and -, beginning with a letter"
            )
        home = clusters_home() / name
        tag = hashlib.sha256(str(home).encode()).hexdigest()[:8]
        return cls(name, home, _runtime_home() / tag)

    @classmethod
    def existing(cls, name: str) -> "Layout":
        """Raises `NotFound` when there is no such cluster."""
        layout = cls.of(name)
        # Somebody else's folder, which we may not enter, is no cluster of ours either.
        if not os.access(layout.record, os.R_OK):
            raise NotFound(f"cluster {name}", "no local cluster of that name", "see: hpcli cluster list")
        return layout

    @property
    def record(self) -> Path:
        return self.home / "cluster.json"

    @property
    def etc(self) -> Path:
        return self.home / "etc"

    @property
    def slurm_conf(self) -> Path:
        return self.etc / "slurm.conf"

    @property
    def hosts(self) -> Path:
        """What nss_wrapper tells the daemons where the machine's own name is no loopback one."""
        return self.etc / "hosts"

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def state(self) -> Path:
        """slurmctld's StateSaveLocation."""
        return self.home / "state"

    @property
    def journal(self) -> Path:
        return self.home / "journal.sqlite"

    @property
    def database(self) -> Path:
        """MariaDB's data folder, when accounting is on."""
        return self.home / "mariadb"

    @property
    def munge_key(self) -> Path:
        return self.home / "munge.key"

    @property
    def munge_socket(self) -> Path:
        return self.runtime / "munge.sock"

    @property
    def database_socket(self) -> Path:
        return self.runtime / "mariadb.sock"

    @property
    def pids(self) -> Path:
        return self.runtime / "pids"

    @property
    def spool(self) -> Path:
        return self.runtime / "s"

    def node(self, node: str) -> Path:
        """The folder that stands for a node's machine."""
        return self.home / "nodes" / node

    def check_lengths(self, nodes: tuple[str, ...]) -> None:
        """Raises `HpcliError` when a socket path would be too long for the kernel."""
        longest = max(nodes, key=len)
        worst = len(str(self.spool / longest / f"{longest}{LONGEST_STEP}"))
        if worst > MAX_SOCKET:
            raise HpcliError(
                f"cluster {self.name}",
                f"socket paths under {self.runtime} reach {worst} bytes, at most {MAX_SOCKET} work",
                "set HPCLI_RUNTIME_DIR to a shorter folder, or use shorter node names",
            )
