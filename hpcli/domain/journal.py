"""The words of the journal."""

from enum import StrEnum


class Kind(StrEnum):
    """The journal's own words."""

    OPENED = "opened"
    PLANNED = "planned"
    INTENT = "intent"
    DONE = "done"
    FAILED = "failed"
    REACHED = "reached"
    CLOSED = "closed"
    BREAKER = "breaker"
    PAUSE = "pause"
    MODE = "mode"
    AUDIT = "audit"


KINDS = frozenset(kind.value for kind in Kind)
"""A journal may hold others, written by a newer release before somebody went back to this one."""


class Step(StrEnum):
    """What a repair can do to the world."""

    DRAIN = "drain"
    REQUEUE = "requeue"
    CANCEL = "cancel"
    KILL = "kill"
    DOWN = "down"
    RELEASE = "release"
    REBOOT = "reboot"
    REPLACE = "replace"
    ACCEPT = "accept"
    RETURN = "return"


class Milestone(StrEnum):
    """What a repair has brought about, as seen in Slurm and in reports."""

    DRAINED = "drained"
    JOB_RUNNING = "job_running"
    REBOOTED = "rebooted"
    REPLACED = "replaced"
    ACCEPTED = "accepted"


class Outcome(StrEnum):
    """How a repair ended; `OBSERVED`: no step of it was ever to be taken."""

    RETURNED = "returned"
    PARKED = "parked"
    STOPPED = "stopped"
    OBSERVED = "observed"
