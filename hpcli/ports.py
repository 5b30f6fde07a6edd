"""What hpcli needs from outside, as Protocols. Adapters live in the layers above."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hpcli.domain.gpus import Gpus
from hpcli.domain.job import Job, JobFiles
from hpcli.domain.ledger import Entry
from hpcli.domain.node import Node


@dataclass(frozen=True, slots=True)
class Completed:
    """A finished process. `code` is negative for a signal, as in subprocess."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class Transport(Protocol):
    """A way to run programs somewhere. argv is a list; nothing is ever parsed by a shell."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        """Run to the end. Raises `TimedOut` (the whole process group is killed) or `NotFound`."""
        ...


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One kernel-log line. `seq` counts up within `boot_id`."""

    boot_id: str
    seq: int
    text: str


@dataclass(frozen=True, slots=True)
class DiskUse:
    """A file system's fill in percent and whether it is mounted read-only."""

    space_percent: float
    inode_percent: float
    read_only: bool


class Host(Protocol):
    """What a health check may touch on a node. Paths are those of a real machine ("/dev/nvidia0")."""

    name: str

    def read(self, path: str) -> str:
        """Text of a file, undecodable bytes replaced. Raises OSError."""
        ...

    def glob(self, pattern: str) -> tuple[str, ...]:
        """Paths that match, sorted."""
        ...

    async def run(self, argv: Sequence[str], *, stdin: str = "", timeout: float = 10.0) -> Completed:
        """Run a program; on timeout its whole process group is killed and `TimedOut` raised."""
        ...

    async def disk(self, path: str, timeout: float) -> DiskUse:
        """Fill of the file system at `path`. Raises `TimedOut` on a stale mount, OSError if absent."""
        ...

    def boot_id(self) -> str:
        """This boot's id, "" while the node is off."""
        ...

    def instance_id(self) -> str:
        """Changes when the machine behind the node's name is replaced."""
        ...

    def kernel_log(self) -> "KernelLog": ...

    async def nvml(self) -> Gpus:
        """What NVML says of the node's GPUs; within seconds even when the driver hangs, and never raises."""
        ...


class KernelLog(Protocol):
    """The kernel log from a cursor on; old lines of an earlier boot never come again."""

    def poll(self) -> Sequence[LogRecord]:
        """Records since the last call, without blocking; a line is cut at 8 KiB."""
        ...


class SlurmGateway(Protocol):
    """Slurm, many objects at a time; hostlists in, domain objects out."""

    async def nodes(self, hostlist: str = "") -> tuple[Node, ...]: ...

    async def jobs(self) -> tuple[Job, ...]:
        """Jobs that slurmctld still holds, array tasks one by one."""
        ...

    async def job_files(self, job_id: str) -> tuple[JobFiles, ...]:
        """The job, or each task of an array, with its output files. Raises `NotFound`."""
        ...

    async def partitions(self) -> tuple[str, ...]: ...

    async def submit(
        self,
        args: Sequence[str],
        *,
        script: str = "",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Pass `args` to sbatch and return the job id; `script` text goes in on standard input.

        `env` is added to the job's environment. (`--export=NAME=value` would make slurmd run a login
        shell for the user first: a second lost, and not to be had in an unprivileged container.)
        """
        ...

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """End jobs. This and the next two take labels (`123`, `123_4`): Slurm knows an array task by no other name,
        and takes the number of an array's last task for the whole array.
        """
        ...

    async def requeue(self, job_ids: Sequence[str]) -> None: ...

    async def release(self, job_ids: Sequence[str]) -> None:
        """Make pending jobs eligible now (StartTime=now) and lift a hold that Slurm itself put."""
        ...

    async def notify(self, job_id: str, message: str) -> None:
        """Say something to a job's owner."""
        ...

    async def update_nodes(self, hostlist: str, state: str, reason: str = "") -> None: ...

    async def reboot(self, hostlist: str) -> None:
        """Have Slurm run its RebootProgram on nodes that hold no job; drained ones stay drained, with their reason."""
        ...

    async def version(self) -> tuple[int, int]:
        """Year and month of the Slurm release, as (22, 5)."""
        ...

    async def admin_level(self, user: str) -> str:
        """A user's AdminLevel in the accounting: "Operator", "Administrator", "None" or ""."""
        ...


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do; asked before anything starts."""

    reboot: bool
    replace: bool
    accounting: bool
    max_nodes: int


@dataclass(frozen=True, slots=True)
class Machine:
    """A node's machine as its provider sees it."""

    node: str
    boot_id: str
    instance_id: str


class Provider(Protocol):
    """Where the machines come from."""

    def capabilities(self) -> Capabilities: ...

    async def reboot(self, node: str) -> None:
        """Stop everything on the node and boot it again; done when the machine is up, healthy or not."""
        ...

    async def replace(self, node: str) -> None:
        """Put another machine behind the node's name."""
        ...

    def machine(self, node: str) -> Machine: ...


class Progress(Protocol):
    """Where a long step says what it is doing."""

    def step(self, text: str) -> None: ...


class Store(Protocol):
    """An append-only journal, and the sequence numbers that reports must exceed."""

    def append(self, kind: str, body: Mapping[str, object], at: float) -> int: ...

    def since(self, entry_id: int) -> Sequence[Entry]: ...

    def sequences(self) -> Mapping[str, int]: ...

    def remember_sequences(self, sequences: Mapping[str, int]) -> None: ...


class Agents(Protocol):
    """The agents that are connected now."""

    async def kill_job(self, job_id: str, nodes: Sequence[str]) -> None:
        """End a job's processes on these nodes with SIGKILL."""
        ...

    async def accept(self, repair: str, nodes: Sequence[str]) -> None:
        """Run the acceptance suite on these nodes; the outcome comes with a report."""
        ...

    async def reboot(self, node: str) -> None:
        """Have the machine reboot itself at once. Raises `Unreachable` while its agent is not connected."""
        ...

    async def set_gate(self, closed: bool) -> None:
        """Let the Prologs of all nodes hold jobs back (closed), or let every job start (open)."""
        ...


class Controller(Protocol):
    """The cluster's controller, asked from outside."""

    async def ask(self, what: str, **details: object) -> Any:
        """Put one question. Raises `Unreachable`, or the error that the controller answered with."""
        ...


class Credentials(Protocol):
    """Wraps a payload so that the reader knows who wrote it and that it is new."""

    async def encode(self, payload: bytes) -> bytes: ...

    async def decode(self, credential: bytes) -> "Claim":
        """Raises `Unreachable` for a credential that is forged, expired or replayed."""
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """A decoded credential: the payload and who encoded it where."""

    payload: bytes
    uid: int
    gid: int
    host: str
