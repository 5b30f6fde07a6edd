"""A plan: what differs, and how much each change disturbs."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Disruption(IntEnum):
    """What a change costs the cluster, from nothing to new machines."""

    NONE = 0
    RECONFIGURE = 1
    RESTART = 2
    DRAIN = 3
    REBUILD = 4

    @property
    def words(self) -> str:
        return ("none", "reconfigure", "restart daemons", "drain nodes", "rebuild nodes")[self]


class Part(StrEnum):
    """Whose business a change is: the daemons that must hear of it."""

    SLURM = "slurm"
    ACCOUNTING = "accounting"
    MUNGE = "munge"
    HPCLI = "hpcli"
    LIFECYCLE = "lifecycle"
    MACHINE = "machine"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that will be different. `before` or `after` is "" for what is added or removed.

    `hosts` is a hostlist of the machines it touches; `why` explains the disruption, where it needs words.
    """

    what: str
    before: str
    after: str
    disruption: Disruption
    hosts: str = ""
    why: str = ""
    part: Part = Part.SLURM


@dataclass(frozen=True, slots=True)
class HandEdit:
    """A file that somebody changed on a machine. `line` counts from 1 in the file as found; 0: the file is gone,
    or only its mode or owner differ (`found` and `expected` say which)."""

    host: str
    path: str
    line: int
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that `apply` will do. `base` and `goal` are fingerprints: of what it was made against, and of
    what it leads to. `notes` say what else a person should know, such as an apply that was interrupted."""

    cluster: str
    base: str
    goal: str
    changes: tuple[Change, ...]
    edits: tuple[HandEdit, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def disruption(self) -> Disruption:
        return max((change.disruption for change in self.changes), default=Disruption.NONE)
