"""Ports to machines: a transport that can do all that administration needs, and a whole cluster's machines."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from hpcli.domain.blueprint import Blueprint, ConfigFile
from hpcli.ports import Completed, Transport


class RemoteTransport(Transport, Protocol):
    """A transport that also moves files, tells lines as they come, and can hold a program open.

    Everything raises `Unreachable` when the machine is not to be reached.
    """

    async def follow(
        self, argv: Sequence[str], told: Callable[[str], None], *, stdin: str = "", timeout: float = 60.0
    ) -> Completed:
        """As `run`, and `told` gets each line of standard output as it comes, without its end of line."""
        ...

    def hold(self, argv: Sequence[str]) -> AbstractAsyncContextManager[str]:
        """Start a program, wait for its first line and give it; leaving closes its standard input and ends it.

        When we are killed, its standard input closes by itself. Raises `HpcliError` if it ends before a line.
        """
        ...

    async def put(self, content: bytes, path: str, mode: int = 0o600) -> None:
        """Write a file whole or not at all; never for a moment with wider permissions. Raises `HpcliError`."""
        ...

    async def get(self, path: str) -> bytes:
        """Raises `NotFound` or `HpcliError`."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file as it lies on a machine now. `text` is "" for one that was only to be hashed."""

    sha256: str
    mode: int
    owner: str
    group: str
    text: str = ""


class Machines(Protocol):
    """The machines of one cluster, as plan and apply touch them. Hosts go by their names in the cluster.

    Many hosts at once, in parallel; a fault on some raises `HpcliError` naming them when the others have ended.
    Everything is safe to repeat. The controller's machine is the one whose role that is.
    """

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Hold the cluster against other applies; freed when we die. Raises `Unsafe` naming the holder."""
        ...

    async def applied(self) -> Blueprint | None:
        """What the last good apply left, None before the first."""
        ...

    async def keep_applied(self, blueprint: Blueprint) -> None:
        """Write it down, durably: the apply has ended well. Nothing is pending any more."""
        ...

    async def pending(self) -> tuple[Blueprint, ...]:
        """Goals of applies that began since the last good one and did not end well, the oldest first."""
        ...

    async def keep_pending(self, goal: Blueprint) -> None:
        """Add a goal, durably, before anything is touched for it; once if it is there already."""
        ...

    async def read(self, wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Mapping[str, FoundFile]]:
        """Files by host and path, with their text; those that do not exist are left out."""
        ...

    async def write(self, files: Mapping[str, Sequence[ConfigFile]]) -> None:
        """Write each file whole or not at all, folders made, with owner and mode. Raises `HpcliError` (disk full)."""
        ...

    async def remove(self, paths: Mapping[str, Sequence[str]]) -> None: ...

    async def service(self, verb: str, name: str, hosts: Sequence[str]) -> None:
        """`start`, `stop`, `restart` or `reload` one of munge, mariadb, slurmdbd, slurmctld, slurmd, hpcli-agent,
        hpcli-controller and hpcli-keeper on these hosts. Jobs live on when slurmd restarts."""
        ...

    async def last_words(self, name: str, host: str) -> str:
        """The line in which a service says why it ended or refuses, "" if it says nothing."""
        ...

    async def try_slurm(self, goal: Blueprint) -> str:
        """Start a throw-away slurmctld of that very version with the goal's files, an empty state directory and
        other ports; "" when it comes up, else its own message. Touches nothing of the cluster."""
        ...

    async def keep_state(self) -> str:
        """Copy StateSaveLocation beside itself while slurmctld is stopped; returns where. The newest 3 are kept."""
        ...

    async def restore_state(self, copy: str) -> None:
        """Put that copy back in the place of StateSaveLocation, slurmctld being stopped."""
        ...

    async def create(self, goal: Blueprint, hosts: Sequence[str]) -> None:
        """Make these machines and bootstrap them for the goal: files in place, services enabled, not started
        where they need slurmctld to know them. Resumes what an earlier try left."""
        ...

    async def retire(self, hosts: Sequence[str]) -> None:
        """Stop everything of ours on these machines, and remove those that we made."""
        ...

    async def rerun(self, goal: Blueprint, hosts: Sequence[str]) -> None:
        """Run the lifecycle scripts again: users, mounts, accounts and packages are put right; no daemon restarts."""
        ...
