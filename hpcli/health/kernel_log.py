"""Reading the kernel-log table: the package's YAML, then the site's overrides."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from hpcli.domain.check import Remedy
from hpcli.errors import HpcliError, UsageFault
from hpcli.health.kernel_line import NEVER_ACT, Pattern, Table, XidRow

TABLE = Path(__file__).with_name("xid.yaml")

REMEDIES = {
    "drain": Remedy.DRAIN,
    "drain_if_fatal": Remedy.DRAIN,
    "reset_gpu": Remedy.RESET,
    "reboot": Remedy.REBOOT,
    "replace": Remedy.REPLACE,
}
"""Actions of the table that touch the node; the others only make the line known."""

URGENT = frozenset({"error", "fatal"})
ORDER = tuple(Remedy)

Overrides = Mapping[str, Mapping[str, object]]


def load_table(overrides: Overrides, path: Path = TABLE) -> Table:
    """Read and compile the table. `overrides`: by Xid number or pattern id, each `{remedy: ...}`.

    Raises `UsageFault` for an unknown number, id, key or remedy.
    """
    raw = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    xids = {int(row["xid"]): _xid(row) for row in raw["xids"]}
    patterns = {str(row["id"]): _pattern(row) for row in raw["kernel_log"]}
    for key, override in overrides.items():
        remedy = _remedy(key, override)
        if key.isdigit() and int(key) in xids:
            xids[int(key)] = _override_xid(xids[int(key)], remedy)
        elif key in patterns and patterns[key].action != "by_xid":
            patterns[key] = _override_pattern(patterns[key], remedy)
        else:
            raise _unknown(key, xids, patterns)
    return Table(xids, tuple(sorted(patterns.values(), key=_first_tried)))


def _xid(row: Mapping[str, Any]) -> XidRow:
    remedy = REMEDIES.get(row["action"], Remedy.NONE)
    unless = re.compile(row["unless"]) if "unless" in row else None
    return XidRow(int(row["xid"]), row["meaning"], remedy, row["severity"] in URGENT, unless)


def _pattern(row: Mapping[str, Any]) -> Pattern:
    remedy = REMEDIES.get(row["action"], Remedy.NONE)
    return Pattern(row["id"], row["action"], row["meaning"], row["literal"], re.compile(row["regex"]), remedy)


def _first_tried(pattern: Pattern) -> tuple[bool, bool, int]:
    """Xids first, then known noise, then the gravest: a line counts once."""
    return pattern.action != "by_xid", pattern.action != "ignore", -ORDER.index(pattern.remedy)


def _override_xid(row: XidRow, remedy: Remedy) -> XidRow:
    if row.number in NEVER_ACT and remedy is not Remedy.NONE:
        raise UsageFault(
            f"health.kernel_log: {row.number}",
            f"found remedy {remedy}, expected none: {row.meaning}",
            "no node is at fault for this Xid alone; override the one that came with it",
        )
    # Who asks for a remedy by hand means it: also a line that the table takes for mild.
    return replace(row, remedy=remedy, urgent=row.urgent or remedy is not Remedy.RESET)


def _override_pattern(row: Pattern, remedy: Remedy) -> Pattern:
    # Non-fatal lines stay harmless; known noise that a site takes seriously is noise no more.
    return replace(row, remedy=remedy, action=row.action if row.action == "drain_if_fatal" else "override")


def _remedy(key: str, override: Mapping[str, object]) -> Remedy:
    subject = f"health.kernel_log: {key}"
    if set(override) != {"remedy"}:
        raise UsageFault(subject, f"found {sorted(override)}, expected remedy alone", "for example {remedy: drain}")
    known = [str(remedy) for remedy in Remedy]
    given = override["remedy"]
    if given not in known:
        expected = f"expected one of {', '.join(known)}"
        raise UsageFault(subject, f"found remedy {given!r}, {expected}", _suggestion(str(given), known))
    return Remedy(str(given))


def _unknown(key: str, xids: Iterable[int], patterns: Iterable[str]) -> HpcliError:
    known = [*map(str, xids), *(name for name in patterns if name != "nvidia_xid")]
    hint = _suggestion(key, known)
    return UsageFault("health.kernel_log", f"found {key!r}, expected an Xid number or a pattern id", hint)


def _suggestion(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else "the table is described in docs/health-checks.md"
