"""Checks of mounts: there, answering, and the files that must be on them."""

import asyncio
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.errors import HpcliError, TimedOut
from hpcli.health import sysfs
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.ports import Host

LONGEST = 7.0
"""Seconds for one mount to answer at most; 2 more for the end of its child stay within the check's limit of 10 s."""

LEFT_BEHIND = 10.0
"""Seconds after which a child of ours is left over from an earlier round, whichever check started it."""

TICKS = 100
"""Per second, as /proc counts them on every architecture of today (USER_HZ)."""

MOST = 32
"""Mounts that are asked."""

DEAD_WORDS = ("Stale", "Transport endpoint", "Input/output error", "Host is down", "Connection timed out", "shutdown")
"""strerror's words for ESTALE, ENOTCONN, EIO, EHOSTDOWN, ETIMEDOUT and ESHUTDOWN."""

NETWORK = (
    "nfs,nfs4,lustre,ceph,fuse.ceph,gpfs,beegfs,beegfs_*,cifs,smb3,wekafs,pvfs2,glusterfs,fuse.glusterfs,panfs,afs"
)
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountParameters:
    """`required`: mount points with commas, each with the options it must have: `/home, /scratch=rw+nosuid`.

    `fstab`: also what /etc/fstab mounts at boot, but for `nofail`.
    """

    required: str = ""
    fstab: bool = False


@dataclass(frozen=True, slots=True)
class StaleParameters:
    """`types`: kinds of file systems that are asked, `exclude`: mount points that are not; globs with commas.

    `limit`: seconds for each to answer, at most 7.
    """

    types: str = NETWORK
    exclude: str = ""
    limit: float = LONGEST


@dataclass(frozen=True, slots=True)
class Mount:
    """The topmost mount at `point`; `device` is its number, the same for all mounts of one file system."""

    point: str
    kind: str
    options: tuple[str, ...]
    device: str = ""


@dataclass(frozen=True, slots=True)
class Mounts:
    """`booted`: mount points that /etc/fstab asks for."""

    mounts: tuple[Mount, ...]
    booted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a mount said: `fault` is "" when it answered, `hung` when it did not."""

    point: str
    kind: str
    hung: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Answers:
    answers: tuple[Answer, ...]


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Parse /proc/self/mountinfo (proc(5)); of several mounts at one point the last hides the others."""
    found: dict[str, Mount] = {}
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, source = left.split(" "), right.split(" ")
        if len(fields) > 5 and len(source) > 2:
            point = _unescape(fields[4])
            options = {*fields[5].split(","), *source[-1].split(",")}
            # A file system that is read-only as a whole says so only in its own options.
            kept = options - {"rw"} if "ro" in options else options
            found[point] = Mount(point, source[0], tuple(sorted(kept)), fields[2])
    return tuple(found.values())


def parse_fstab(text: str) -> tuple[str, ...]:
    """Mount points that fstab(5) mounts at boot and whose absence is a fault."""
    points = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 4 and not line.lstrip().startswith("#") and fields[1].startswith("/"):
            options = fields[3].split(",")
            if fields[2] != "swap" and not {"noauto", "nofail"} & set(options):
                points.append(_unescape(fields[1]))
    return tuple(points)


def _unescape(text: str) -> str:
    return os.fsdecode(_OCTAL.sub(lambda found: chr(int(found[1], 8)), text).encode("latin-1", errors="replace"))


async def gather_mounts(host: Host, parameters: MountParameters) -> Mounts:
    """Raises OSError when a list of mounts cannot be read, ValueError when it is empty."""
    mounts = parse_mountinfo(host.read("/proc/self/mountinfo"))
    if not mounts:
        raise ValueError("/proc/self/mountinfo: found no mount")
    return Mounts(mounts, parse_fstab(host.read("/etc/fstab")) if parameters.fstab else ())


async def gather_stale(host: Host, parameters: StaleParameters) -> Answers:
    """Starts two short programs per network file system, none where there is no such mount."""
    mounts = parse_mountinfo(sysfs.text(host, "/proc/self/mountinfo"))
    asked = {mount.device: mount for mount in sorted(mounts, key=lambda mount: mount.point, reverse=True)}
    wanted = [mount for mount in asked.values() if sysfs.matches(mount.kind, parameters.types)]
    wanted = [mount for mount in wanted if not sysfs.matches(mount.point, parameters.exclude)]
    stuck = _stuck(host) if wanted else set()
    limit = min(parameters.limit, LONGEST)
    answers = [_ask(host, mount, stuck, limit) for mount in sorted(wanted, key=lambda mount: mount.point)[:MOST]]
    return Answers(tuple(await asyncio.gather(*answers)))


def _stuck(host: Host) -> set[str]:
    """Paths at which children of ours from earlier rounds still hang, beyond even SIGKILL.

    Asking again would leave one more of them behind every round.
    """
    children = [sysfs.text(host, path).split() for path in host.glob("/proc/self/task/*/children")]
    old = [pid for each in children for pid in each if _age(host, pid) > LEFT_BEHIND]
    commands = [sysfs.text(host, f"/proc/{pid}/cmdline").rstrip("\0").split("\0") for pid in old]
    return {command[-1] for command in commands if command[0] == "stat"}


def _age(host: Host, pid: str) -> float:
    """Seconds since a process started: field 22 of its stat, in hundredths (proc(5)); 0 when it is gone."""
    fields = sysfs.text(host, f"/proc/{pid}/stat").rpartition(")")[2].split()
    return sysfs.uptime(host) - int(fields[19]) / TICKS if len(fields) > 19 and fields[19].isdecimal() else 0.0


async def _ask(host: Host, mount: Mount, stuck: Iterable[str], limit: float) -> Answer:
    if mount.point in stuck:
        return Answer(mount.point, mount.kind, hung=True)
    try:
        async with asyncio.timeout(limit):
            await host.disk(mount.point, limit)
    except (TimedOut, TimeoutError):
        return Answer(mount.point, mount.kind, hung=True)
    except (OSError, HpcliError) as error:
        return Answer(mount.point, mount.kind, fault=str(error))
    return Answer(mount.point, mount.kind)


def judge_mounts(evidence: Mounts, parameters: MountParameters) -> CheckResult:
    """A job on a node without its file system fails at once, and the next one too."""
    wanted = [*map(_wanted, sysfs.words(parameters.required)), *((point, ()) for point in evidence.booted)]
    mounted = {mount.point: mount for mount in evidence.mounts}
    absent = [point for point, _ in wanted if point not in mounted]
    if absent:
        message = f"{sysfs.some(absent)}: not mounted, expected {len(wanted)} mounts"
        return _evict(message, absent[0], f"mount {absent[0]}; is its server up?")
    for point, options in wanted:
        lacking = sorted(set(options) - set(mounted[point].options))
        if lacking:
            message = f"{point}: mounted without {', '.join(lacking)}, expected {', '.join(options)}"
            return _evict(message, point, f"mount -o remount,{','.join(lacking)} {point}, and see /etc/fstab")
    return CheckResult("fs.mount", Severity.OK, f"{len(wanted)} mounts as expected")


def _wanted(word: str) -> tuple[str, tuple[str, ...]]:
    point, _, options = word.partition("=")
    return point.rstrip("/") or "/", tuple(option for option in options.split("+") if option)


def _evict(message: str, component: str, hint: str) -> CheckResult:
    return CheckResult("fs.mount", Severity.CRITICAL, message, Remedy.EVICT, component=component, hint=hint)


def judge_stale(evidence: Answers, parameters: StaleParameters) -> CheckResult:
    """Whoever touches a stale mount hangs with it. A refusal (no permission) is an answer."""
    stale = [each for each in evidence.answers if each.hung or any(word in each.fault for word in DEAD_WORDS)]
    if not stale:
        return CheckResult("fs.stale", Severity.OK, f"{len(evidence.answers)} network file systems answer")
    faults = (f"{each.point} ({each.kind}): {'no answer' if each.hung else each.fault}" for each in stale)
    message = f"{sysfs.some(faults)}, expected an answer within {parameters.limit:g} s"
    hint = "is its server up? umount -f -l, then mount again; processes that hang there need a reboot"
    first = stale[0].point
    return CheckResult("fs.stale", Severity.CRITICAL, message, Remedy.EVICT, component=first, hint=hint)


MOUNT = Check(
    name="fs.mount",
    detects="a mount that is missing or has other options",
    source="/proc/self/mountinfo, /etc/fstab",
    scope=Scope.MACHINE,
    parameters=MountParameters,
    gather=gather_mounts,
    judge=judge_mounts,
    evidence=Mounts,
    applies=lambda parameters: bool(parameters.required) or parameters.fstab,
)

STALE = Check(
    name="fs.stale",
    detects="a network file system that does not answer",
    source="statvfs, in a child that can be killed",
    scope=Scope.MACHINE,
    parameters=StaleParameters,
    gather=gather_stale,
    judge=judge_stale,
    evidence=Answers,
)

CHECKS: tuple[AnyCheck, ...] = (MOUNT, STALE)
