"""What the provider decides about a cluster's Slurm: addresses, ports, users and paths."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a daemon runs (`hostname`, as `hostname -s` says it) and where it is reached.

    Daemons bind to what gethostname() resolves to (NoInAddrAny, NoCtldInAddrAny), so `address` must be
    exactly that: 127.0.1.1 on a stock Debian, whatever /etc/hosts says elsewhere.
    """

    hostname: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class NodeSite:
    """Where a node's slurmd is reached, and the folder that holds its `nvidia0`, `nvidia1`, … device files."""

    hostname: str
    address: str
    port: int
    devices: str


@dataclass(frozen=True, slots=True)
class AccountingSite:
    """slurmdbd's port and files; its address is the controller's. `database` names its MariaDB schema."""

    port: int
    user: str
    database: str
    log: str
    pid: str


@dataclass(frozen=True, slots=True)
class SlurmSite:
    """Everything that slurm.conf needs beyond the spec.

    `version` is (year, month) of the Slurm in use. `user` runs slurmctld and slurmd. In `spool`,
    `slurmd_log` and `slurmd_pid`, `%n` stands for the node's name. An empty `prolog` or `task_prolog` means none.
    """

    version: tuple[int, int]
    user: str
    controller: Endpoint
    nodes: Mapping[str, NodeSite]
    munge_socket: str
    state: str
    spool: str
    slurmctld_log: str
    slurmctld_pid: str
    slurmd_log: str
    slurmd_pid: str
    prolog: str = ""
    task_prolog: str = ""
    accounting: AccountingSite | None = None
