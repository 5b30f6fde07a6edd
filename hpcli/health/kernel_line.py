"""What a kernel-log line says about the node: the table, compiled, with the site's overrides."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hpcli.domain.check import Remedy
from hpcli.domain.incident import Finding

MATCHED = 1024
"""Characters of a line that are looked at: the kernel cuts its own text at 1 KiB (printk.c, LOG_LINE_MAX)."""

NEVER_ACT = frozenset({13, 31, 43, 45})
"""Xids of user code, and of clean-up after another Xid."""

RECOVERY_ACTION = 154
"""The Xid in whose text the driver names the recovery action."""

_STAMP = re.compile(
    r"(?:[A-Z][a-z]{2} [ \d]\d [\d:]{8} \S{1,255} )?(?:kernel: )?(?:<\d{1,3}>)?(?:\[ *\d{1,10}\.\d{1,9}\] )?"
)
_CARRIERS = ("oom-kill:", "Memory cgroup stats for ", "Tasks in /", "audit: ")
"""Beginnings of lines that repeat text a user chose, such as a cgroup's name: no line of ours."""

_PCI = re.compile(r"(?:([0-9A-Fa-f]{4,8}):)?([0-9A-Fa-f]{2}):([0-9A-Fa-f]{2})(?:\.([0-7]))?")
_STATED = re.compile(r" to 0x[0-9A-Fa-f]+ \(([^)]{1,80})\)")
_STATED_REMEDY = (
    ("drain and reset", Remedy.RESET),
    ("drain p2p", Remedy.DRAIN),
    ("node reboot", Remedy.REBOOT),
    ("gpu reset", Remedy.RESET),
)


@dataclass(frozen=True, slots=True)
class XidRow:
    """One Xid. Not `urgent`: running jobs may finish first. `unless`: a line with this asks for nothing."""

    number: int
    meaning: str
    remedy: Remedy
    urgent: bool
    unless: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True)
class Pattern:
    """One kind of kernel-log line. Every match contains `literal`."""

    id: str
    action: str
    meaning: str
    literal: str
    regex: re.Pattern[str]
    remedy: Remedy


@dataclass(frozen=True, slots=True)
class Table:
    """Xids by number, and patterns in the order in which they are tried."""

    xids: Mapping[int, XidRow]
    patterns: tuple[Pattern, ...]

    def match(self, text: str) -> Finding | None:
        """What the line means; None when it is none of ours. A finding with remedy NONE is only to be known."""
        start = _STAMP.match(text)
        line = text[start.end() if start else 0 :][:MATCHED]
        if line.startswith(_CARRIERS):
            return None
        for pattern in self.patterns:
            if pattern.literal in line and (found := pattern.regex.search(line)):
                return self._finding(pattern, found, line)
        return None

    def _finding(self, pattern: Pattern, found: re.Match[str], line: str) -> Finding:
        if pattern.action == "by_xid":
            return self._xid(int(found[2][:9]), _pci(found[1]), line)
        if pattern.action == "drain_if_fatal":
            fatal = found[3] == "Fatal"
            remedy = pattern.remedy if fatal else Remedy.NONE
            return Finding(f"sxid{found[2][:9]}", pattern.meaning, remedy, line, _pci(found[1]))
        component = _component(found[1]) if pattern.regex.groups else ""
        return Finding(pattern.id, pattern.meaning, pattern.remedy, line, component)

    def _xid(self, number: int, gpu: str, line: str) -> Finding:
        row = self.xids.get(number, XidRow(number, "unknown Xid", Remedy.NONE, urgent=False))
        if number == RECOVERY_ACTION:
            row = _as_stated(row, line)
        if row.unless and row.unless.search(line):
            row = replace(row, remedy=Remedy.NONE)
        return Finding(f"xid{number}", row.meaning, row.remedy, line, gpu, row.urgent)


def _as_stated(row: XidRow, line: str) -> XidRow:
    """Read the action that the driver asks for; wording that we do not know asks for what the table says."""
    stated = _STATED.search(line)
    words = stated[1].lower() if stated else ""
    remedy = next((remedy for known, remedy in _STATED_REMEDY if known in words), row.remedy)
    return replace(row, remedy=remedy, urgent="drain" not in words)


def _component(text: str | None) -> str:
    """A device's name; numbers alone (a CPU, a pid) name nothing that could be repaired."""
    if not text or text.isdigit():
        return ""
    return _pci(text)[:64].rstrip(":,")


def _pci(text: str) -> str:
    """Normalise a PCI address to 0000:18:00.0; other text stays as it is."""
    found = _PCI.fullmatch(text)
    if not found:
        return text[:64]
    domain = int(found[1] or "0", 16)
    return f"{domain:04x}:{found[2]}:{found[3]}.{found[4] or '0'}".lower()
