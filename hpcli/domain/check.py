"""What a health check says about a node."""

from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    OK = "ok"
    WARN = "warn"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


class Remedy(StrEnum):
    """The first step that a finding asks for, mildest first."""

    NONE = "none"
    DRAIN = "drain"
    EVICT = "evict"
    RESET = "reset"
    REBOOT = "reboot"
    REPLACE = "replace"


class Blame(StrEnum):
    NODE = "node"
    USER = "user"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check's judgement of one node.

    `check` is the catalogue name (`gpu.count`), `component` what it is about (`gpu0`, a PCI address,
    a path) or empty. `remedy` counts only when the severity is CRITICAL.
    """

    check: str
    severity: Severity
    message: str
    remedy: Remedy = Remedy.NONE
    blame: Blame = Blame.NODE
    component: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """A fault that stands on a node, folded from check results and kernel-log lines.

    `evict` says that the node is unusable now, so its jobs cannot be left to finish. A `latched`
    incident stays until the node reboots or is replaced, whatever later samples say.
    `first_seen` is in seconds since the epoch.
    """

    cause: str
    message: str
    remedy: Remedy
    evict: bool
    latched: bool
    first_seen: float
    component: str = ""
    evidence: tuple[str, ...] = field(default=())
