"""Checks of file systems."""

from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.health.check import Check, Scope
from hpcli.ports import DiskUse, Host

DISK_TIMEOUT = 8.0
"""Seconds for one look at a file system, inside the check's own limit of 10 s (health.md: fs.stale)."""


@dataclass(frozen=True, slots=True)
class DiskFreeParameters:
    """`path`: one or more, separated by colons. `warn` and `critical`: percent of space or inodes in use.

    gcm's examples use 80 and 85; machines that hold images and caches live above that, so ours are 85 and 95.
    """

    path: str = "/:/tmp"
    warn: float = 85.0
    critical: float = 95.0


@dataclass(frozen=True, slots=True)
class ReadOnlyParameters:
    """`path`: one or more, separated by colons."""

    path: str = "/:/tmp"


@dataclass(frozen=True, slots=True)
class Disk:
    path: str
    use: DiskUse


@dataclass(frozen=True, slots=True)
class Disks:
    """What was seen, in the order of the parameter."""

    disks: tuple[Disk, ...]


async def gather_disks(host: Host, parameters: DiskFreeParameters | ReadOnlyParameters) -> Disks:
    """Raises OSError for a path that does not exist, `TimedOut` for a stale mount."""
    paths = [path for path in parameters.path.split(":") if path]
    return Disks(tuple([Disk(path, await host.disk(path, DISK_TIMEOUT)) for path in paths]))


def judge_free(evidence: Disks, parameters: DiskFreeParameters) -> CheckResult:
    """The fullest file system decides; a job that cannot write fails, one that runs may still finish."""
    if not evidence.disks:
        return CheckResult("disk.free", Severity.UNKNOWN, "no path to look at")
    worst = max(evidence.disks, key=lambda disk: _fullest(disk.use)[0])
    percent, what = _fullest(worst.use)
    message = f"{worst.path}: {percent:.0f} % of {what} used"
    if percent < parameters.warn:
        return CheckResult("disk.free", Severity.OK, message, component=worst.path)
    hint = f"free some: du -xh --max-depth 2 {worst.path} | sort -h"
    if percent < parameters.critical:
        return CheckResult("disk.free", Severity.WARN, message, component=worst.path, hint=hint)
    message = f"{message}, limit {parameters.critical:g} %"
    return CheckResult("disk.free", Severity.CRITICAL, message, Remedy.DRAIN, component=worst.path, hint=hint)


def _fullest(use: DiskUse) -> tuple[float, str]:
    return max((use.space_percent, "space"), (use.inode_percent, "inodes"))


def judge_read_only(evidence: Disks, _: ReadOnlyParameters) -> CheckResult:
    """The kernel remounts a file system read-only when its disk fails."""
    stuck = [disk.path for disk in evidence.disks if disk.use.read_only]
    if not stuck:
        return CheckResult("disk.read_only", Severity.OK, f"{len(evidence.disks)} file systems writable")
    return CheckResult(
        "disk.read_only",
        Severity.CRITICAL,
        f"{', '.join(stuck)}: mounted read-only, expected writable",
        Remedy.EVICT,
        component=stuck[0],
        hint="look for I/O errors in the kernel log; a path that is meant to be read-only does not belong here",
    )


FREE = Check(
    name="disk.free",
    detects="a file system out of space or inodes",
    source="statvfs, in a child that can be killed",
    scope=Scope.MACHINE,
    parameters=DiskFreeParameters,
    gather=gather_disks,
    judge=judge_free,
    evidence=Disks,
)

READ_ONLY = Check(
    name="disk.read_only",
    detects="a file system that went read-only",
    source="/proc/self/mountinfo",
    scope=Scope.MACHINE,
    parameters=ReadOnlyParameters,
    gather=gather_disks,
    judge=judge_read_only,
    evidence=Disks,
)
