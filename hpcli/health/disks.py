"""Checks of drives and arrays: there, answering, redundant."""

import re
from dataclasses import dataclass, replace

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.health import sysfs
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.ports import Host

_NOT_A_DRIVE = re.compile(r"sr\d+|fd\d+|nvme\d+c\d+n\d+")
"""Optical and floppy drives, and the hidden paths below a multipath NVMe drive."""

_DEAD = frozenset({"dead", "offline", "deleting (no IO)"})
_ALIVE = frozenset({"live", "running"})
"""States of NVMe controllers and SCSI devices (the kernel's nvme/host/sysfs.c, scsi_sysfs.c); others pass by."""

_ARRAY = re.compile(r"(md\S+) : (active|inactive)(?: \([a-z-]+\))?(.*)")
_SLOTS = re.compile(r"\[(\d{1,4})/(\d{1,4})\]")
_PROGRESS = re.compile(r"(recovery|resync|reshape|check) *= *(?:([\d.]{1,8})%|(\w+))")


@dataclass(frozen=True, slots=True)
class CountParameters:
    """`expected`: drives whose name in /sys/block matches `names` (globs with commas); 0 is not checked."""

    expected: int = 0
    names: str = "*"


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing to set."""


@dataclass(frozen=True, slots=True)
class Drives:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A drive and its state in the kernel's word."""

    name: str
    state: str


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """A file system and the errors that it counted, those of earlier boots included."""

    name: str
    errors: int


@dataclass(frozen=True, slots=True)
class Condition:
    devices: tuple[DeviceState, ...]
    filesystems: tuple[ErrorCount, ...]


@dataclass(frozen=True, slots=True)
class Array:
    """One md array. `slots` and `working`: members it has room for and that work, 0 for kinds without redundancy.

    `progress` names what runs on it ("recovery 12.6 %"), `outside` says that firmware, not md, keeps its records.
    """

    name: str
    state: str
    slots: int = 0
    working: int = 0
    failed: tuple[str, ...] = ()
    progress: str = ""
    outside: bool = False


@dataclass(frozen=True, slots=True)
class Arrays:
    arrays: tuple[Array, ...]


async def gather_drives(host: Host, _: CountParameters) -> Drives:
    """Drives are block devices with hardware, real or virtual, behind them, and with a size.

    Raises ValueError where there is no block device of any kind.
    """
    if not host.glob("/sys/block/*"):
        raise ValueError("/sys/block: found nothing, is /sys mounted?")
    names = [path.split("/")[3] for path in host.glob("/sys/block/*/device")]
    real = [name for name in names if not _NOT_A_DRIVE.fullmatch(name)]
    return Drives(tuple(name for name in real if sysfs.number(host, f"/sys/block/{name}/size") > 0))


async def gather_condition(host: Host, _: Nothing) -> Condition:
    paths = host.glob("/sys/class/nvme/nvme*/state") + host.glob("/sys/block/sd*/device/state")
    devices = [DeviceState(_drive(path), sysfs.text(host, path)) for path in paths]
    counts = [
        ErrorCount(path.split("/")[4], sysfs.number(host, path)) for path in host.glob("/sys/fs/ext4/*/errors_count")
    ]
    for path in host.glob("/sys/fs/btrfs/*/devinfo/*/error_stats"):
        pairs = (line.split() for line in sysfs.text(host, path).splitlines())
        errors = sum(sysfs.whole(pair[1]) for pair in pairs if len(pair) == 2)
        counts.append(ErrorCount(f"btrfs {path.split('/')[4][:8]} device {path.split('/')[6]}", errors))
    return Condition(tuple(device for device in devices if device.state), tuple(counts))


def _drive(path: str) -> str:
    return path.split("/")[4 if path.startswith("/sys/class") else 3]


async def gather_arrays(host: Host, _: Nothing) -> Arrays:
    """A striped array that lost a member still says `active` in /proc/mdstat; sysfs says `broken`."""
    found = parse_mdstat(sysfs.text(host, "/proc/mdstat")).arrays
    return Arrays(tuple(replace(array, state="broken") if _is_broken(host, array) else array for array in found))


def _is_broken(host: Host, array: Array) -> bool:
    return sysfs.text(host, f"/sys/block/{array.name}/md/array_state") == "broken"


def parse_mdstat(text: str) -> Arrays:
    """Parse /proc/mdstat: a line per array, then indented lines about it; lines that say nothing to us are skipped."""
    heads: list[tuple[re.Match[str], str]] = []
    for line in text.splitlines():
        head = _ARRAY.match(line)
        if head:
            heads.append((head, ""))
        elif heads and line.startswith(" "):
            heads[-1] = heads[-1][0], f"{heads[-1][1]}\n{line}"
    return Arrays(tuple(_array(head, body) for head, body in heads))


def _array(head: re.Match[str], body: str) -> Array:
    members = head[3].split()
    slots, progress = _SLOTS.search(body), _PROGRESS.search(body)
    amount = f"{progress[2]} %" if progress and progress[2] else (progress[3] if progress else "")
    return Array(
        name=head[1],
        state=head[2],
        slots=int(slots[1]) if slots else 0,
        working=int(slots[2]) if slots else 0,
        failed=tuple(member.partition("[")[0] for member in members if member.endswith("(F)")),
        progress=f"{progress[1]} {amount}" if progress else "",
        outside="super external" in body,
    )


def judge_count(evidence: Drives, parameters: CountParameters) -> CheckResult:
    ours = [name for name in evidence.names if sysfs.matches(name, parameters.names)]
    message = f"found {len(ours)} drives, expected {parameters.expected}"
    if len(ours) == parameters.expected:
        return CheckResult("disk.count", Severity.OK, message)
    if len(ours) > parameters.expected:
        hint = "does the parameter say how many the node has? `names` leaves some out"
        return CheckResult("disk.count", Severity.WARN, f"{message}: {sysfs.some(ours, 12)}", hint=hint)
    hint = "reseat the missing drive; lsblk and nvme list show those that answer"
    message = f"{message}: {sysfs.some(ours, 12) or 'none'}"
    return CheckResult("disk.count", Severity.CRITICAL, message, Remedy.DRAIN, hint=hint)


def judge_condition(evidence: Condition, _: Nothing) -> CheckResult:
    """A drive that the kernel gave up on takes the jobs that use it with it."""
    dead = [device for device in evidence.devices if device.state in _DEAD]
    if dead:
        shown = sysfs.some(f"{device.name} is {device.state}" for device in dead)
        return _evict(f"{shown}, expected live or running", dead[0].name)
    odd = [device for device in evidence.devices if device.state not in _ALIVE]
    if odd:
        shown = sysfs.some(f"{device.name} is {device.state}" for device in odd)
        hint = "the kernel resets it or waits for its path; if it stays so, look at the kernel log"
        return CheckResult("disk.io_error", Severity.WARN, shown, component=odd[0].name, hint=hint)
    marred = [filesystem for filesystem in evidence.filesystems if filesystem.errors]
    if marred:
        shown = sysfs.some(f"{filesystem.name}: {filesystem.errors} errors on record" for filesystem in marred)
        hint = "check it while it is not mounted: e2fsck -f, btrfs scrub; that also clears the record"
        return CheckResult("disk.io_error", Severity.WARN, shown, component=marred[0].name, hint=hint)
    watched = f"{len(evidence.devices)} drives, {len(evidence.filesystems)} file systems"
    return CheckResult("disk.io_error", Severity.OK, f"no errors on {watched}")


def judge_condition_change(before: Condition, now: Condition, parameters: Nothing) -> CheckResult:
    known = {filesystem.name: filesystem.errors for filesystem in before.filesystems}
    fresh = [each for each in now.filesystems if each.errors > known.get(each.name, each.errors)]
    if fresh:
        shown = sysfs.some(f"{each.name}: {each.errors - known[each.name]} new errors" for each in fresh)
        return _evict(f"{shown}, expected none", fresh[0].name)
    return judge_condition(now, parameters)


def _evict(message: str, component: str) -> CheckResult:
    hint = "look for the drive in the kernel log, then reseat or change it"
    return CheckResult("disk.io_error", Severity.CRITICAL, message, Remedy.EVICT, component=component, hint=hint)


def judge_arrays(evidence: Arrays, _: Nothing) -> CheckResult:
    """A degraded array still works: jobs finish, then a person changes the drive. A rebuild is only waited for."""
    hint = "mdadm --detail shows which member is gone; change it and add the new one"
    broken = [array for array in evidence.arrays if array.state == "broken"]
    if broken:
        message = f"{sysfs.some(array.name for array in broken)}: too few members work, expected all"
        return CheckResult("disk.raid", Severity.CRITICAL, message, Remedy.EVICT, component=broken[0].name, hint=hint)
    degraded = [array for array in evidence.arrays if array.working < array.slots or array.failed]
    stuck = [array for array in degraded if not array.progress.startswith(("recovery", "reshape"))]
    if stuck:
        shown = sysfs.some(map(_shown, stuck))
        return CheckResult("disk.raid", Severity.CRITICAL, shown, Remedy.DRAIN, component=stuck[0].name, hint=hint)
    odd = [each for each in evidence.arrays if each in degraded or (each.state != "active" and not each.outside)]
    if odd:
        shown = sysfs.some(map(_shown, odd))
        return CheckResult("disk.raid", Severity.WARN, shown, component=odd[0].name, hint=hint)
    message = f"{len(evidence.arrays)} arrays complete" if evidence.arrays else "no md arrays here"
    return CheckResult("disk.raid", Severity.OK, message)


def _shown(array: Array) -> str:
    failed = f", failed: {sysfs.some(array.failed)}" if array.failed else ""
    progress = f", {array.progress}" if array.progress else ""
    return f"{array.name}: {array.state}, {array.working} of {array.slots} members work{failed}{progress}"


COUNT = Check(
    name="disk.count",
    detects="a drive that is missing",
    source="/sys/block",
    scope=Scope.MACHINE,
    parameters=CountParameters,
    gather=gather_drives,
    judge=judge_count,
    evidence=Drives,
    applies=lambda parameters: parameters.expected > 0,
)

IO_ERROR = Check(
    name="disk.io_error",
    detects="a drive that the kernel gave up on, errors counted by a file system",
    source="/sys/class/nvme, /sys/block/sd*, /sys/fs/{ext4,btrfs}",
    scope=Scope.MACHINE,
    parameters=Nothing,
    gather=gather_condition,
    judge=judge_condition,
    judge_change=judge_condition_change,
    evidence=Condition,
    strikes=1,
)

RAID = Check(
    name="disk.raid",
    detects="a software RAID that lost a member",
    source="/proc/mdstat, /sys/block/md*/md/array_state",
    scope=Scope.MACHINE,
    parameters=Nothing,
    gather=gather_arrays,
    judge=judge_arrays,
    evidence=Arrays,
)

CHECKS: tuple[AnyCheck, ...] = (COUNT, IO_ERROR, RAID)
