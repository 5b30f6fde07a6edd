"""The check of what drives say of themselves: SMART, through smartctl's JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.errors import HpcliError
from hpcli.health import sysfs
from hpcli.health.check import AnyCheck, Check, Context, Scope
from hpcli.ports import Host

SCAN_TIMEOUT = 5.0
DRIVE_TIMEOUT = 5.0
"""Seconds for one drive; a drive that is asleep needs some to wake."""

MOST = 64
"""Drives that are asked; a shelf of hundreds is no node's."""

TEMPERATURE_BIT = 0b10
"""Of NVMe's critical warning: outside a temperature limit, which passes by itself (NVMe specification, log page 2)."""

_PENDING = frozenset({197, 198})
_REALLOCATED = 5
"""ATA attributes: sectors that cannot be read now, and sectors replaced by spare ones."""


@dataclass(frozen=True, slots=True)
class SmartParameters:
    """`wear`: percent of an NVMe drive's rated life. `reallocated`: sectors replaced on an ATA drive (ours)."""

    wear: float = 95.0
    reallocated: int = 100


@dataclass(frozen=True, slots=True)
class Drive:
    """`warning`: NVMe's bits. `spare`: percent above the drive's own limit. `wear`: percent of its rated life used."""

    name: str
    passed: bool = True
    warning: int = 0
    spare: int = 100
    wear: int = 0
    media_errors: int = 0
    unreadable: int = 0
    reallocated: int = 0


@dataclass(frozen=True, slots=True)
class Drives:
    """`silent`: drives that did not answer as SMART drives do: virtual ones, or all of them if we are not root."""

    drives: tuple[Drive, ...]
    silent: tuple[str, ...] = ()


async def gather_smart(host: Host, _: SmartParameters) -> Drives:
    """Starts smartctl once to list drives and once for each; without smartctl no drive is seen."""
    try:
        listed = await host.run(["smartctl", "--json", "--scan"], timeout=SCAN_TIMEOUT)
    except HpcliError:
        return Drives(())
    drives, silent = list[Drive](), list[str]()
    for name in parse_scan(listed.out)[:MOST]:
        answer = await host.run(["smartctl", "--json", "-H", "-A", name], timeout=DRIVE_TIMEOUT)
        drive = parse_drive(name, answer.out)
        if drive:
            drives.append(drive)
        else:
            silent.append(name)
    return Drives(tuple(drives), tuple(silent))


def parse_scan(text: str) -> tuple[str, ...]:
    """Names of drives in `smartctl --json --scan`."""
    devices = _parsed(text).get("devices")
    names = [_below(device, "name") for device in devices] if isinstance(devices, list) else []
    return tuple(name for name in names if isinstance(name, str))


def parse_drive(name: str, text: str) -> Drive | None:
    """Parse `smartctl --json -H -A DRIVE`; None when the drive gave no verdict on itself."""
    answer = _parsed(text)
    passed = _below(answer, "smart_status", "passed")
    if not isinstance(passed, bool):
        return None
    log = _below(answer, "nvme_smart_health_information_log")
    table = _below(answer, "ata_smart_attributes", "table")
    raw = {_whole(row, "id"): _whole(row, "raw", "value") for row in table} if isinstance(table, list) else {}
    spare = _whole(log, "available_spare") - _whole(log, "available_spare_threshold")
    return Drive(
        name,
        passed,
        warning=_whole(log, "critical_warning"),
        spare=spare if isinstance(log, dict) and "available_spare" in log else 100,
        wear=_whole(log, "percentage_used"),
        media_errors=_whole(log, "media_errors"),
        unreadable=max((raw[number] for number in _PENDING & raw.keys()), default=0),
        reallocated=raw.get(_REALLOCATED, 0),
    )


def _parsed(text: str) -> Mapping[str, object]:
    try:
        answer = json.loads(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _below(tree: object, *keys: str) -> object:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _whole(tree: object, *keys: str) -> int:
    found = _below(tree, *keys)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def judge_smart(evidence: Drives, parameters: SmartParameters) -> CheckResult:
    """A drive that calls itself failing is believed; wear and single bad sectors are only worth a word."""
    failing = [(drive, fault) for drive in evidence.drives if (fault := _failing(drive))]
    if failing:
        shown = sysfs.some(f"{drive.name}: {fault}" for drive, fault in failing)
        hint = "copy what you need and change the drive: smartctl -x"
        return CheckResult(
            "disk.smart", Severity.CRITICAL, shown, Remedy.DRAIN, component=failing[0][0].name, hint=hint
        )
    aging = [(drive, fault) for drive in evidence.drives if (fault := _aging(drive, parameters))]
    if aging:
        shown = sysfs.some(f"{drive.name}: {fault}" for drive, fault in aging)
        hint = "order a spare; smartctl -x shows the drive's history"
        return CheckResult("disk.smart", Severity.WARN, shown, component=aging[0][0].name, hint=hint)
    message = f"{len(evidence.drives)} drives say that they are well"
    if evidence.silent:
        message += f", {len(evidence.silent)} say nothing"
    return CheckResult("disk.smart", Severity.OK, message if evidence.drives else "no drive tells of itself here")


def _failing(drive: Drive) -> str:
    if drive.warning & ~TEMPERATURE_BIT:
        return f"critical warning 0x{drive.warning:02x}, expected 0"
    if drive.spare <= 0:
        return "no spare blocks left above its limit"
    # NVMe's verdict is the critical warning over again, temperature included.
    if not drive.passed and not drive.warning:
        return "its self-assessment says FAILED"
    return ""


def _aging(drive: Drive, parameters: SmartParameters) -> str:
    if drive.warning & TEMPERATURE_BIT:
        return "outside its temperature limits"
    if drive.wear >= parameters.wear:
        return f"{drive.wear} % of its rated life used"
    if drive.media_errors or drive.unreadable:
        return f"{drive.media_errors or drive.unreadable} sectors could not be read"
    if drive.reallocated > parameters.reallocated:
        return f"{drive.reallocated} sectors reallocated"
    return ""


SMART = Check(
    name="disk.smart",
    detects="a drive that says it is failing or worn",
    source="smartctl --json -H -A",
    scope=Scope.MACHINE,
    parameters=SmartParameters,
    gather=gather_smart,
    judge=judge_smart,
    evidence=Drives,
    contexts=frozenset({Context.ACCEPTANCE}),
    timeout=60.0,
)

CHECKS: tuple[AnyCheck, ...] = (SMART,)
