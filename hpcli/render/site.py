"""What the provider decides about a cluster's Slurm: addresses, ports, users and paths."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a daemon runs (`hostname`, as `hostname -s` says it) and where it is reached.

    On a shared machine daemons bind to what gethostname() resolves to (NoInAddrAny, NoCtldInAddrAny), so `address`
    must be exactly that: 127.0.1.1 on a stock Debian, whatever /etc/hosts says elsewhere.
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
    """slurmdbd's place, port and files, and its database.

    `hostname` and `address` are where slurmdbd runs, "" for the controller's machine. `database` names the schema and
    `user` its user. With `storage_host` "" the database is on slurmdbd's machine and reached through its socket
    without a password; else it is reached there, at `storage_port` (0: the default) with `password`.
    """

    port: int
    user: str
    database: str
    log: str
    pid: str
    hostname: str = ""
    address: str = ""
    storage_host: str = ""
    storage_port: int = 0
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class SlurmSite:
    """Everything that slurm.conf needs beyond the spec.

    `version` is (year, month) of the Slurm in use. `user` runs slurmctld, and slurmd too if `slurmd_user` is "".
    `shared_machine`: all daemons share one machine and its user's munged; then `%n` stands for the node's name in
    `spool`, `slurmd_log` and `slurmd_pid`. `overrides`: nodes are believed to have what the spec says, whatever their
    slurmd finds. `cgroup`: machines run systemd, so that jobs are held by cgroups. An empty `prolog`, `epilog`,
    `task_prolog` or `reboot_program` means none. `prolog_contain` is what pam_slurm_adopt needs.
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
    slurmd_user: str = ""
    shared_machine: bool = True
    overrides: bool = False
    cgroup: bool = False
    epilog: str = ""
    reboot_program: str = ""
    prolog_contain: bool = False
