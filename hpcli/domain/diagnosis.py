"""What the doctor says: findings with their cost and their fix, and Slurm's configuration as it judges it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

_ENTRY = re.compile(r"^(\w+)(?:\[\d+\])?\s*= ?(.*)$")
_AS_OF = re.compile(r"^Configuration data as of (\S+)", re.MULTILINE)
_CONTROLLER = re.compile(r"^Slurmctld\((\w+)\) at (\S+) is (\w+)", re.MULTILINE)
_PAIR = re.compile(r"(\w+)=(\S*)")
_NOTHING = frozenset({"", "(null)", "none", "None", "N/A"})


class Severity(StrEnum):
    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `cost` is what it leads to, `fix` the next step. `fine`: it is not wrong."""

    subject: str
    severity: Severity
    found: str
    cost: str = ""
    fix: str = ""
    fine: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fine", self.severity is not Severity.WRONG)


def ok(subject: str, found: str) -> Finding:
    return Finding(subject, Severity.OK, found)


def note(subject: str, found: str, cost: str, fix: str = "") -> Finding:
    return Finding(subject, Severity.NOTE, found, cost, fix)


def wrong(subject: str, found: str, cost: str, fix: str = "") -> Finding:
    return Finding(subject, Severity.WRONG, found, cost, fix)


@dataclass(frozen=True, slots=True)
class Configuration:
    """slurmctld's configuration. Keys in lower case; `as_of` is its clock, 0.0 if it is not told.

    `controllers` are (rank, host, state), as ("primary", "head", "UP").
    """

    values: Mapping[str, str]
    as_of: float = 0.0
    controllers: tuple[tuple[str, str, str], ...] = ()

    def text(self, key: str) -> str:
        """The value, "" for Slurm's various words for none."""
        value = self.values.get(key.lower(), "")
        return "" if value in _NOTHING else value

    def number(self, key: str) -> int | None:
        """The number before the unit; None for none, or for UNLIMITED."""
        found = re.match(r"\d+", self.text(key))
        return int(found[0]) if found else None

    def words(self, key: str) -> tuple[str, ...]:
        """A comma-separated value, in lower case."""
        return tuple(word for word in self.text(key).lower().split(",") if word)

    def option(self, key: str, name: str) -> str:
        """What a comma-separated value says after `name=`, "" if it does not."""
        pairs = (word.partition("=") for word in self.text(key).split(","))
        return next((value for word, _, value in pairs if word.strip().lower() == name), "")

    def yes(self, key: str) -> bool:
        return self.text(key).lower() == "yes"

    @property
    def version(self) -> tuple[int, int]:
        """Year and month, (0, 0) if they are not told."""
        found = re.match(r"(\d+)\.(\d+)", self.text("SLURM_VERSION"))
        return (int(found[1]), int(found[2])) if found else (0, 0)


def parse_configuration(text: str) -> Configuration | None:
    """Parse `scontrol show config`, with times in seconds since the epoch; None when it is something else.

    From 24.11 on some values are numbered, as `Prolog[0]`; they are joined with commas.
    """
    head = _AS_OF.search(text)
    if head is None:
        return None
    values: dict[str, str] = {}
    for line in text[head.end() :].splitlines():
        if found := _ENTRY.match(line):
            key, value = found[1].lower(), found[2].strip()
            values[key] = f"{values[key]},{value}" if f"{found[1]}[" in line and key in values else value
    as_of = float(head[1]) if head[1].isdigit() else 0.0
    return Configuration(values, as_of, tuple((f[1], f[2], f[3]) for f in _CONTROLLER.finditer(text)))


@dataclass(frozen=True, slots=True)
class Partition:
    """What preemption depends on; `grace` in seconds, `preempt_mode` "" where the cluster's counts."""

    name: str
    tier: int
    grace: int
    preempt_mode: str = ""


def parse_partitions(text: str) -> tuple[Partition, ...]:
    """Parse `scontrol show partition -o`."""
    found = (dict(_PAIR.findall(line)) for line in text.splitlines())
    return tuple(
        Partition(
            one["PartitionName"],
            _whole(one.get("PriorityTier", "")),
            _whole(one.get("GraceTime", "")),
            one.get("PreemptMode", ""),
        )
        for one in found
        if "PartitionName" in one
    )


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    order = (Severity.WRONG, Severity.NOTE, Severity.OK)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))


def _whole(text: str) -> int:
    return int(text) if text.isdigit() else 0
