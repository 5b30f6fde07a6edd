"""Checks of processors: how many there are, how fast they may run, and how much wants to."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from hpcli.domain.check import Blame, CheckResult, Remedy, Severity
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.ports import Host

SYSFS = "/sys/devices/system/cpu"
CLOCKSOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
MAX_CPUS = 1 << 16

MAX_SAMPLED = 32
"""CPUs whose present frequency is asked for; what slows a CPU down (heat, power) slows its whole socket."""

BUSY = 0.9
"""Tasks per CPU from which an honest CPU runs at speed; an idle one is slow on purpose."""


@dataclass(frozen=True, slots=True)
class CpuCountParameters:
    """`expected`: CPUs as Slurm counts them (hardware threads). `sockets`, `cores`: of the machine. 0: unchecked."""

    expected: int = 0
    sockets: int = 0
    cores: int = 0


@dataclass(frozen=True, slots=True)
class CpuCount:
    """What is online. `sockets` and `cores` are 0 when nobody asked."""

    cpus: int
    sockets: int = 0
    cores: int = 0


async def gather_count(host: Host, parameters: CpuCountParameters) -> CpuCount:
    cpus = online_cpus(host)
    sockets = _groups(host, cpus, "core_siblings_list") if parameters.sockets else 0
    cores = _groups(host, cpus, "thread_siblings_list") if parameters.cores else 0
    return CpuCount(len(cpus), sockets, cores)


def online_cpus(host: Host) -> frozenset[int]:
    return parse_cpu_list(host.read(f"{SYSFS}/online"))


def parse_cpu_list(text: str) -> frozenset[int]:
    """Parse "0-3,8" (cpuset(7), list format). Raises ValueError for anything else."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        span = range(int(first), int(last if dash else first) + 1)
        if not 0 < len(span) <= MAX_CPUS:
            raise ValueError(f"found {part[:40]!r}, expected CPUs as in 0-3,8")
        cpus.update(span)
    return frozenset(cpus)


def _groups(host: Host, cpus: frozenset[int], file: str) -> int:
    """How many groups of siblings there are; one file is read per group, not per CPU."""
    left, groups = set(cpus), 0
    while left:
        cpu = min(left)
        left -= parse_cpu_list(host.read(f"{SYSFS}/cpu{cpu}/topology/{file}")) | {cpu}
        groups += 1
    return groups


def judge_count(evidence: CpuCount, parameters: CpuCountParameters) -> CheckResult:
    """Fewer than expected: switched off after a fault or by firmware; a job that asks for all of them fails."""
    pairs = (
        ("CPUs", evidence.cpus, parameters.expected),
        ("sockets", evidence.sockets, parameters.sockets),
        ("cores", evidence.cores, parameters.cores),
    )
    compared = [(what, found, expected) for what, found, expected in pairs if expected]
    message = ", ".join(f"found {found} {what}, expected {expected}" for what, found, expected in compared)
    if any(found < expected for _, found, expected in compared):
        hint = "compare lscpu with the node's entry; firmware settings or a failed CPU take some away"
        return CheckResult("cpu.count", Severity.CRITICAL, message, Remedy.DRAIN, hint=hint)
    if any(found > expected for _, found, expected in compared):
        hint = "does the node's entry say how many CPUs it has? SMT may have been switched on"
        return CheckResult("cpu.count", Severity.WARN, message, hint=hint)
    return CheckResult("cpu.count", Severity.OK, message)


@dataclass(frozen=True, slots=True)
class FrequencyParameters:
    """`floor`: MHz that every CPU may reach, and does reach while the machine is busy (1500: gcm's example)."""

    floor: float = 1500.0


@dataclass(frozen=True, slots=True)
class Frequencies:
    """MHz. `hardware`: what the slowest CPU can do; `ceiling`: the lowest limit set; `median`: of the present ones.

    All 0 where the kernel does not scale frequencies. `busy`: tasks per CPU that run or wait for one,
    now and over the last minute, whichever is less.
    """

    hardware: float = 0.0
    ceiling: float = 0.0
    median: float = 0.0
    busy: float = 0.0


async def gather_frequencies(host: Host, _: FrequencyParameters) -> Frequencies:
    policies = host.glob(f"{SYSFS}/cpufreq/policy[0-9]*")
    sampled = policies[:: len(policies) // MAX_SAMPLED + 1]
    hardware = _mhz(host, sampled, "cpuinfo_max_freq")
    ceilings = _mhz(host, policies, "scaling_max_freq")
    present = _mhz(host, sampled, "scaling_cur_freq")
    if not (hardware and ceilings and present):
        return Frequencies()
    average, _fifteen, running = _load(host)
    busy = min(running, average) / len(online_cpus(host))
    return Frequencies(hardware[0], ceilings[0], present[len(present) // 2], busy)


def _mhz(host: Host, policies: Sequence[str], file: str) -> list[float]:
    """In order; without those of CPUs that are offline, which say nothing or "<unknown>"."""
    found = []
    for policy in policies:
        with suppress(OSError, ValueError):
            found.append(int(host.read(f"{policy}/{file}")) / 1000)
    return sorted(found)


def judge_frequencies(evidence: Frequencies, parameters: FrequencyParameters) -> CheckResult:
    """A limit too low, or a machine that is slow under load, holds back every rank of a job."""
    floor = parameters.floor
    if not evidence.hardware:
        return CheckResult("cpu.freq", Severity.OK, "nothing to check: the kernel does not scale CPU frequencies here")
    if evidence.hardware < floor:
        return CheckResult("cpu.freq", Severity.OK, f"nothing to check: these CPUs end at {evidence.hardware:.0f} MHz")
    if evidence.ceiling < floor:
        message = f"a CPU is limited to {evidence.ceiling:.0f} MHz, expected at least {floor:g} MHz"
        hint = "who set scaling_max_freq? cpupower frequency-info; tuned-adm active"
        return CheckResult("cpu.freq", Severity.CRITICAL, message, Remedy.DRAIN, hint=hint)
    message = f"CPUs run at {evidence.median:.0f} MHz with {evidence.busy:.2f} tasks each"
    if evidence.median >= floor or evidence.busy < BUSY:
        return CheckResult("cpu.freq", Severity.OK, message)
    hint = "heat or a lost power supply slows CPUs: look at the BMC's sensors and event log"
    message = f"{message}, expected at least {floor:g} MHz"
    return CheckResult("cpu.freq", Severity.CRITICAL, message, Remedy.DRAIN, hint=hint)


@dataclass(frozen=True, slots=True)
class GovernorParameters:
    """`expected`: the governor that every CPU has, as performance; "" is not checked."""

    expected: str = ""


@dataclass(frozen=True, slots=True)
class Governors:
    """Those in use, each once."""

    names: tuple[str, ...]


async def gather_governors(host: Host, _: GovernorParameters) -> Governors:
    policies = host.glob(f"{SYSFS}/cpufreq/policy[0-9]*")
    return Governors(tuple(sorted({host.read(f"{policy}/scaling_governor").strip() for policy in policies})))


def judge_governors(evidence: Governors, parameters: GovernorParameters) -> CheckResult:
    if not evidence.names:
        return CheckResult("cpu.governor", Severity.UNKNOWN, "the kernel does not scale CPU frequencies here")
    message = f"found {', '.join(evidence.names)}, expected {parameters.expected} on every CPU"
    if evidence.names == (parameters.expected,):
        return CheckResult("cpu.governor", Severity.OK, message)
    hint = f"cpupower frequency-set -g {parameters.expected}"
    return CheckResult("cpu.governor", Severity.CRITICAL, message, Remedy.DRAIN, hint=hint)


@dataclass(frozen=True, slots=True)
class ClocksourceParameters:
    """`expected`: one or more, separated by colons, as tsc or tsc:kvm-clock; "" is not checked."""

    expected: str = ""


@dataclass(frozen=True, slots=True)
class Clocksource:
    current: str


async def gather_clocksource(host: Host, _: ClocksourceParameters) -> Clocksource:
    return Clocksource(host.read(CLOCKSOURCE).strip())


def judge_clocksource(evidence: Clocksource, parameters: ClocksourceParameters) -> CheckResult:
    """The kernel leaves an unsteady tsc for hpet or acpi_pm, which make every look at the clock 20 times dearer."""
    if evidence.current in parameters.expected.split(":"):
        return CheckResult("cpu.clocksource", Severity.OK, evidence.current)
    message = f"found {evidence.current or 'none'}, expected {parameters.expected}"
    hint = "look for clocksource in the kernel log: a CPU or its firmware is unsteady; only a boot brings tsc back"
    return CheckResult("cpu.clocksource", Severity.CRITICAL, message, Remedy.DRAIN, hint=hint)


@dataclass(frozen=True, slots=True)
class LoadParameters:
    """`per_cpu`: average over 15 minutes above which it is worth a word."""

    per_cpu: float = 2.0


@dataclass(frozen=True, slots=True)
class Load:
    """The average number of tasks that run, wait for a CPU or for a disk, over 15 minutes."""

    average: float
    cpus: int


async def gather_load(host: Host, _: LoadParameters) -> Load:
    return Load(_load(host)[1], len(online_cpus(host)))


def _load(host: Host) -> tuple[float, float, int]:
    """Averages over 1 and 15 minutes, and the tasks that run or wait for a CPU now (proc(5)). Raises ValueError."""
    fields = host.read("/proc/loadavg").split()
    if len(fields) < 5:
        raise ValueError(f"/proc/loadavg: found {len(fields)} fields, expected 5")
    return float(fields[0]), float(fields[2]), int(fields[3].partition("/")[0])


def judge_load(evidence: Load, parameters: LoadParameters) -> CheckResult:
    """A job that starts too many threads slows itself down; it never costs the node."""
    limit = parameters.per_cpu * evidence.cpus
    message = f"load {evidence.average:.2f} on {evidence.cpus} CPUs"
    if evidence.average <= limit:
        return CheckResult("cpu.load", Severity.OK, message)
    hint = "who runs, and who waits for a disk? ps -eo state,pid,user,comm | grep '^[RD]'"
    message = f"{message}, limit {limit:g}"
    return CheckResult("cpu.load", Severity.WARN, message, blame=Blame.USER, hint=hint)


CHECKS: tuple[AnyCheck, ...] = (
    Check(
        name="cpu.count",
        detects="CPUs, cores or sockets that are missing",
        source="/sys/devices/system/cpu",
        scope=Scope.MACHINE,
        parameters=CpuCountParameters,
        gather=gather_count,
        judge=judge_count,
        evidence=CpuCount,
        applies=lambda parameters: bool(parameters.expected or parameters.sockets or parameters.cores),
    ),
    Check(
        name="cpu.freq",
        detects="CPUs limited to a low frequency, or slow under load",
        source="/sys/devices/system/cpu/cpufreq, /proc/loadavg",
        scope=Scope.MACHINE,
        parameters=FrequencyParameters,
        gather=gather_frequencies,
        judge=judge_frequencies,
        evidence=Frequencies,
        strikes=3,
    ),
    Check(
        name="cpu.governor",
        detects="a frequency governor other than the site's",
        source="/sys/devices/system/cpu/cpufreq",
        scope=Scope.MACHINE,
        parameters=GovernorParameters,
        gather=gather_governors,
        judge=judge_governors,
        evidence=Governors,
        applies=lambda parameters: bool(parameters.expected),
    ),
    Check(
        name="cpu.clocksource",
        detects="a clock source other than the site's, as when tsc was lost",
        source=CLOCKSOURCE,
        scope=Scope.MACHINE,
        parameters=ClocksourceParameters,
        gather=gather_clocksource,
        judge=judge_clocksource,
        evidence=Clocksource,
        applies=lambda parameters: bool(parameters.expected),
    ),
    Check(
        name="cpu.load",
        detects="far more work than CPUs",
        source="/proc/loadavg",
        scope=Scope.MACHINE,
        parameters=LoadParameters,
        gather=gather_load,
        judge=judge_load,
        evidence=Load,
    ),
)
