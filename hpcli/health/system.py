"""Checks of memory and clock."""

import math
from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.errors import HpcliError
from hpcli.health.check import Check, Scope
from hpcli.ports import Host

CLOCK_TIMEOUT = 3.0
"""Seconds for each time service to answer."""


@dataclass(frozen=True, slots=True)
class MemoryTotalParameters:
    """`expected`: MiB, 0 is not checked. `tolerance`: percent (5: Azure's NHC; firmware keeps some)."""

    expected: int = 0
    tolerance: float = 5.0


@dataclass(frozen=True, slots=True)
class MemoryFreeParameters:
    """`warn`: percent of memory available below which it is worth a word."""

    warn: float = 5.0


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB, as the kernel counts them."""

    total: int
    available: int


async def gather_memory(host: Host, _: MemoryTotalParameters | MemoryFreeParameters) -> Memory:
    """Raises ValueError when /proc/meminfo is not what it should be."""
    kib = {}
    for line in host.read("/proc/meminfo").splitlines():
        name, _colon, rest = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            kib[name] = int(rest.removesuffix("kB"))
    if len(kib) < 2:
        raise ValueError("/proc/meminfo has no MemTotal or no MemAvailable")
    return Memory(kib["MemTotal"] // 1024, kib["MemAvailable"] // 1024)


def judge_total(evidence: Memory, parameters: MemoryTotalParameters) -> CheckResult:
    """Less than expected means a lost DIMM."""
    floor = parameters.expected * (1 - parameters.tolerance / 100)
    message = f"found {evidence.total} MiB, expected {parameters.expected} MiB"
    if evidence.total >= floor:
        return CheckResult("mem.total", Severity.OK, message)
    hint = "a DIMM may have failed: look for EDAC lines in the kernel log and compare dmidecode -t memory"
    return CheckResult("mem.total", Severity.CRITICAL, message, Remedy.DRAIN, hint=hint)


def judge_available(evidence: Memory, parameters: MemoryFreeParameters) -> CheckResult:
    """Low memory is the job's business; it never costs the node."""
    percent = 100 * evidence.available / evidence.total if evidence.total else 0.0
    message = f"{percent:.0f} % of {evidence.total} MiB available"
    if percent >= parameters.warn:
        return CheckResult("mem.free", Severity.OK, message)
    hint = "who has it? ps -eo pid,user,rss,comm --sort -rss | head"
    return CheckResult("mem.free", Severity.WARN, message, hint=hint)


@dataclass(frozen=True, slots=True)
class ClockParameters:
    """Seconds of offset from true time; `jump`: of a step between two samples."""

    warn: float = 0.1
    critical: float = 2.0
    jump: float = 5.0


@dataclass(frozen=True, slots=True)
class Clock:
    """`synchronised` is None when no time service could be asked. `boot_time`: wall clock minus uptime, in seconds."""

    service: str = ""
    synchronised: bool | None = None
    offset: float = 0.0
    boot_time: int = 0


async def gather_clock(host: Host, _: ClockParameters) -> Clock:
    """chronyd knows the offset; timedatectl knows only yes or no."""
    boot_time = _boot_time(host.read("/proc/stat"))
    tracking = await _ask(host, "chronyc", "-c", "tracking")
    if tracking:
        return parse_tracking(tracking, boot_time)
    answer = (await _ask(host, "timedatectl", "show", "--property=NTPSynchronized", "--value")).strip()
    if answer in ("yes", "no"):
        return Clock("timedatectl", answer == "yes", 0.0, boot_time)
    return Clock(boot_time=boot_time)


def parse_tracking(text: str, boot_time: int) -> Clock:
    """Parse `chronyc -c tracking`: field 5 is the offset in seconds, the last the leap status.

    Raises ValueError for anything else.
    """
    fields = text.strip().split(",")
    if len(fields) < 14:
        raise ValueError(f"chronyc: found {len(fields)} fields, expected 14")
    offset = float(fields[4])
    if not math.isfinite(offset):
        raise ValueError(f"chronyc: found offset {fields[4]!r}, expected seconds")
    return Clock("chronyd", fields[13] != "Not synchronised", offset, boot_time)


async def _ask(host: Host, *argv: str) -> str:
    try:
        answer = await host.run(argv, timeout=CLOCK_TIMEOUT)
    except HpcliError:
        return ""
    return "" if answer.code else answer.out


def _boot_time(stat: str) -> int:
    line = next((line for line in stat.splitlines() if line.startswith("btime ")), "btime 0")
    return int(line.split()[1])


def judge_clock(evidence: Clock, parameters: ClockParameters) -> CheckResult:
    """Without a time service there is nothing to compare with; that alone is no fault of the node."""
    if evidence.synchronised is None:
        hint = "install chrony, or turn time.sync off"
        return CheckResult("time.sync", Severity.OK, "no time service to compare with", hint=hint)
    offset = abs(evidence.offset)
    if not evidence.synchronised:
        message = f"{evidence.service}: the clock is not synchronised"
        return CheckResult("time.sync", Severity.WARN, message, hint="can the node reach its time servers?")
    message = f"{evidence.service}: {offset:.3f} s off"
    if offset < parameters.warn:
        return CheckResult("time.sync", Severity.OK, message)
    if offset < parameters.critical:
        return CheckResult("time.sync", Severity.WARN, message, hint="chronyc makestep")
    message = f"{message}, limit {parameters.critical:g} s"
    return CheckResult("time.sync", Severity.CRITICAL, message, Remedy.DRAIN, hint="chronyc makestep")


def judge_clock_change(before: Clock, now: Clock, parameters: ClockParameters) -> CheckResult:
    """Wall clock minus uptime is constant unless somebody set the clock."""
    result = judge_clock(now, parameters)
    step = now.boot_time - before.boot_time
    if result.severity is not Severity.OK or abs(step) < parameters.jump or 0 in (now.boot_time, before.boot_time):
        return result
    hint = "MUNGE credentials expire early or late after a step; slew instead of stepping"
    return CheckResult("time.sync", Severity.WARN, f"the clock was set {step:+d} s", hint=hint)


TOTAL = Check(
    name="mem.total",
    detects="memory missing from the machine",
    source="/proc/meminfo",
    scope=Scope.MACHINE,
    parameters=MemoryTotalParameters,
    gather=gather_memory,
    judge=judge_total,
    evidence=Memory,
    applies=lambda parameters: parameters.expected > 0,
)

FREE = Check(
    name="mem.free",
    detects="memory nearly used up",
    source="/proc/meminfo",
    scope=Scope.MACHINE,
    parameters=MemoryFreeParameters,
    gather=gather_memory,
    judge=judge_available,
    evidence=Memory,
)

SYNC = Check(
    name="time.sync",
    detects="a clock that is off or was set",
    source="chronyc, timedatectl, /proc/stat",
    scope=Scope.MACHINE,
    parameters=ClockParameters,
    gather=gather_clock,
    judge=judge_clock,
    judge_change=judge_clock_change,
    evidence=Clock,
)
