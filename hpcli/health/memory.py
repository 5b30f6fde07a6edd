"""Checks of memory beyond its size: errors, fragments, what idle nodes keep, swap."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.health.processes import STEPD, TABLE, read_of
from hpcli.ports import Host

EDAC = "/sys/devices/system/edac/mc"
DAY = 86400.0
LARGE = 8
"""Order of a block worth having: 256 pages, 1 MiB with pages of 4 KiB."""

_ZONE = re.compile(r"Node\s+\d+,\s+zone\s+(\w+)((?:\s+\d+)+)\s*")


@dataclass(frozen=True, slots=True)
class FragmentParameters:
    """`blocks`: large free blocks there must be (10 of order 8 and up in zone Normal: gcm).

    `worth`: judged only while the free memory would make so many; a full page cache is no fragmentation.
    """

    blocks: int = 10
    worth: int = 1024


@dataclass(frozen=True, slots=True)
class FreeBlocks:
    """Of zone Normal, all NUMA nodes together. `large`: free blocks of order 8 and up; `worth`: if all were in one."""

    large: int
    worth: int


async def gather_fragments(host: Host, _: FragmentParameters) -> FreeBlocks:
    return parse_buddyinfo(host.read("/proc/buddyinfo"))


def parse_buddyinfo(text: str) -> FreeBlocks:
    """Parse /proc/buddyinfo: column N counts free blocks of 2^N pages (proc(5)). Raises ValueError for other text."""
    zones = [_ZONE.fullmatch(line) for line in text.splitlines()]
    if not zones or None in zones:
        raise ValueError(f"/proc/buddyinfo: found {text[:80]!r}")
    large = pages = 0
    for zone in zones:
        if zone and zone[1] == "Normal":
            counts = [int(count) for count in zone[2].split()]
            large += sum(counts[LARGE:])
            pages += sum(count << order for order, count in enumerate(counts))
    return FreeBlocks(large, pages >> LARGE)


def judge_fragments(evidence: FreeBlocks, parameters: FragmentParameters) -> CheckResult:
    """Without large blocks huge pages and registered buffers fail or are slow, though memory is free."""
    message = f"{evidence.large} large blocks free, memory for {evidence.worth}"
    if evidence.large >= parameters.blocks or evidence.worth < parameters.worth:
        return CheckResult("mem.fragment", Severity.OK, message)
    message = f"{message}, expected at least {parameters.blocks}"
    hint = "echo 1 > /proc/sys/vm/compact_memory; if that does not help, reboot"
    return CheckResult("mem.fragment", Severity.CRITICAL, message, Remedy.DRAIN, hint=hint)


@dataclass(frozen=True, slots=True)
class EccParameters:
    """`per_day`: corrected errors a day of one memory controller.

    `burst`: corrected errors from one sample to the next, in a row. Uncorrected ones are never allowed.
    """

    per_day: float = 1000.0
    burst: int = 1000


@dataclass(frozen=True, slots=True)
class MemoryErrors:
    """Errors of one memory controller since `seconds` ago; `dimms`: labels of the modules that made them."""

    controller: str
    corrected: int
    uncorrected: int
    seconds: float
    dimms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ecc:
    """One entry per memory controller; none without an EDAC driver."""

    controllers: tuple[MemoryErrors, ...] = ()


async def gather_ecc(host: Host, _: EccParameters) -> Ecc:
    """Modules are looked at only where a controller has counted something."""
    return Ecc(tuple(_errors(host, path) for path in host.glob(f"{EDAC}/mc[0-9]*")))


def _errors(host: Host, path: str) -> MemoryErrors:
    corrected, uncorrected = (int(host.read(f"{path}/{kind}_count")) for kind in ("ce", "ue"))
    seconds = float(host.read(f"{path}/seconds_since_reset"))
    dimms = _dimms(host, path) if corrected or uncorrected else ()
    return MemoryErrors(path.rpartition("/")[2], corrected, uncorrected, seconds, dimms)


def _dimms(host: Host, path: str) -> tuple[str, ...]:
    """Those with uncorrected errors; if there are none, those with corrected ones."""
    for kind in ("ue", "ce"):
        counts = host.glob(f"{path}/dimm[0-9]*/dimm_{kind}_count")
        labels = [_label(host, count.rpartition("/")[0]) for count in counts if int(host.read(count))]
        if labels:
            return tuple(labels)
    return ()


def _label(host: Host, dimm: str) -> str:
    """Firmware's name of the slot, or the kernel's of the module."""
    return host.read(f"{dimm}/dimm_label").strip()[:64] or dimm.rpartition("/")[2]


def judge_ecc(evidence: Ecc, parameters: EccParameters) -> CheckResult:
    """The rate is over the time since the counters began, and never less than a day: a short burst is no habit."""
    if not evidence.controllers:
        return CheckResult("mem.ecc", Severity.OK, "nothing to check: no EDAC driver counts memory errors here")
    broken = [mc for mc in evidence.controllers if mc.uncorrected > 0]
    if broken:
        total = sum(mc.uncorrected for mc in broken)
        return _bad_memory(broken, f"{total} uncorrected memory error{'' if total == 1 else 's'}, expected 0")
    frequent = [mc for mc in evidence.controllers if _per_day(mc) > parameters.per_day]
    if frequent:
        rate = max(_per_day(mc) for mc in frequent)
        return _bad_memory(frequent, f"{rate:.0f} corrected memory errors a day, limit {parameters.per_day:g}")
    total = sum(mc.corrected for mc in evidence.controllers)
    return CheckResult("mem.ecc", Severity.OK, f"{total} corrected memory errors, none uncorrected")


def judge_ecc_change(before: Ecc, now: Ecc, parameters: EccParameters) -> CheckResult:
    """A module that begins to fail after a year must not hide behind its good average."""
    result = judge_ecc(now, parameters)
    known = {mc.controller: mc.corrected for mc in before.controllers}
    storms = [mc for mc in now.controllers if mc.corrected - known.get(mc.controller, mc.corrected) > parameters.burst]
    if result.severity is not Severity.OK or not storms:
        return result
    return _bad_memory(storms, f"more than {parameters.burst} corrected memory errors since the last sample")


def _per_day(errors: MemoryErrors) -> float:
    return errors.corrected * DAY / max(errors.seconds, DAY)


def _bad_memory(controllers: Iterable[MemoryErrors], what: str) -> CheckResult:
    places = ", ".join(f"{mc.controller} {' '.join(mc.dimms)}".rstrip() for mc in controllers)
    hint = "replace the module; until then the firmware may map it out"
    return CheckResult("mem.ecc", Severity.CRITICAL, f"{places}: {what}", Remedy.DRAIN, component=places, hint=hint)


@dataclass(frozen=True, slots=True)
class IdleUsedParameters:
    """`limit`: MiB in use while no job is on the node; 0 is not checked."""

    limit: int = 0


@dataclass(frozen=True, slots=True)
class IdleUse:
    """MiB. `shared`: in /dev/shm and other memory that outlives its process. `jobs`: slurmstepd processes."""

    used: int
    shared: int
    jobs: int


async def gather_idle_use(host: Host, _: IdleUsedParameters) -> IdleUse:
    """Raises ValueError when /proc/meminfo is not what it should be."""
    found = dict(re.findall(r"^(MemTotal|MemAvailable|Shmem):\s+(\d+) kB$", host.read("/proc/meminfo"), re.MULTILINE))
    if len(found) < 3:
        raise ValueError("/proc/meminfo lacks MemTotal, MemAvailable or Shmem")
    mib = {name: int(kib) // 1024 for name, kib in found.items()}
    return IdleUse(mib["MemTotal"] - mib["MemAvailable"], mib["Shmem"], len(_steps(host)))


def _steps(host: Host) -> list[int]:
    """Pids of the steps that run here. ("slurmstepd infinity" only holds a cgroup and lives as long as slurmd.)"""
    pids = [process.pid for process in TABLE.look(host).processes.values() if process.name == STEPD]
    return [pid for pid in pids if "infinity" not in read_of(host, pid, "cmdline")]


def judge_idle_use(evidence: IdleUse, parameters: IdleUsedParameters) -> CheckResult:
    """What a job left behind is missing for the next one."""
    if evidence.jobs:
        return CheckResult("mem.idle_used", Severity.OK, "nothing to check: jobs are running")
    message = f"{evidence.used} MiB in use without a job, {evidence.shared} MiB of it shared"
    if evidence.used <= parameters.limit:
        return CheckResult("mem.idle_used", Severity.OK, message)
    message = f"{message}, limit {parameters.limit} MiB"
    hint = "look for leftovers: ls -l /dev/shm; ipcs -m; ps -eo pid,user,rss,comm --sort -rss | head"
    return CheckResult("mem.idle_used", Severity.CRITICAL, message, Remedy.DRAIN, hint=hint)


@dataclass(frozen=True, slots=True)
class SwapParameters:
    """`expected`: MiB, 0 for none at all, -1 is not checked. `tolerance`: percent."""

    expected: int = -1
    tolerance: float = 5.0


@dataclass(frozen=True, slots=True)
class Swap:
    """`total` in MiB; `areas` are files and devices."""

    total: int = 0
    areas: tuple[str, ...] = ()


async def gather_swap(host: Host, _: SwapParameters) -> Swap:
    return parse_swaps(host.read("/proc/swaps"))


def parse_swaps(text: str) -> Swap:
    """Parse /proc/swaps: a header, then name, type, size in KiB, used, priority. Raises ValueError for other text."""
    header, *lines = text.splitlines() or [""]
    rows = [line.split() for line in lines]
    if not header.startswith("Filename") or any(len(row) != 5 for row in rows):
        raise ValueError(f"/proc/swaps: found {text[:80]!r}")
    return Swap(sum(int(row[2]) for row in rows) // 1024, tuple(row[0] for row in rows))


def judge_swap(evidence: Swap, parameters: SwapParameters) -> CheckResult:
    """On a node that should have none, a job that swaps takes ten times as long instead of failing."""
    areas = f" ({', '.join(evidence.areas)})" if evidence.areas else ""
    message = f"found {evidence.total} MiB of swap{areas}, expected {parameters.expected} MiB"
    if abs(evidence.total - parameters.expected) <= parameters.expected * parameters.tolerance / 100:
        return CheckResult("swap", Severity.OK, message)
    hint = "swapon --show; swapoff -a; see /etc/fstab and systemctl list-units --type swap"
    return CheckResult("swap", Severity.CRITICAL, message, Remedy.DRAIN, hint=hint)


CHECKS: tuple[AnyCheck, ...] = (
    Check(
        name="mem.fragment",
        detects="free memory that is in small pieces only",
        source="/proc/buddyinfo",
        scope=Scope.MACHINE,
        parameters=FragmentParameters,
        gather=gather_fragments,
        judge=judge_fragments,
        evidence=FreeBlocks,
    ),
    Check(
        name="mem.ecc",
        detects="memory modules with uncorrected, or many corrected, errors",
        source="/sys/devices/system/edac/mc",
        scope=Scope.MACHINE,
        parameters=EccParameters,
        gather=gather_ecc,
        judge=judge_ecc,
        judge_change=judge_ecc_change,
        evidence=Ecc,
    ),
    Check(
        name="mem.idle_used",
        detects="memory held while no job is there",
        source="/proc/meminfo, slurmstepd in /proc",
        scope=Scope.MACHINE,
        parameters=IdleUsedParameters,
        gather=gather_idle_use,
        judge=judge_idle_use,
        evidence=IdleUse,
        applies=lambda parameters: parameters.limit > 0,
        strikes=3,
    ),
    Check(
        name="swap",
        detects="swap where none should be, or not as much as expected",
        source="/proc/swaps",
        scope=Scope.MACHINE,
        parameters=SwapParameters,
        gather=gather_swap,
        judge=judge_swap,
        evidence=Swap,
        applies=lambda parameters: parameters.expected >= 0,
    ),
)
