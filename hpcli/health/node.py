"""Checks of what a node must have and must not have: programs, kernel modules, firmware."""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields

from hpcli.domain.check import Blame, CheckResult, Remedy, Severity
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.health.processes import STEPD, TABLE, Process, Snapshot, read_of, uptime
from hpcli.ports import Host

COMM = 15
"""Characters that the kernel keeps of a program's name."""

SYSTEM_UIDS = range(60001, 65536)
"""No person's: systemd's dynamic users and nobody (systemd's UIDS-GIDS page)."""

_JOB_CGROUP = re.compile(r"/(?:[^/\n]*slurmstepd\.scope|slurm(?:_[^/\n]*)?)/")


def listed(text: str) -> tuple[str, ...]:
    """Values of a parameter that holds several, separated by colons."""
    return tuple(value for value in text.split(":") if value)


@dataclass(frozen=True, slots=True)
class NamesParameters:
    """`names`: of programs, or of kernel modules, separated by colons; "" is not checked."""

    names: str = ""


@dataclass(frozen=True, slots=True)
class Present:
    """Those of the wanted names that are there."""

    names: tuple[str, ...] = ()


async def gather_required(host: Host, parameters: NamesParameters) -> Present:
    alive = {process.name for process in TABLE.look(host).processes.values() if process.state not in "ZX"}
    return Present(tuple(name for name in listed(parameters.names) if name[:COMM] in alive))


async def gather_modules(host: Host, parameters: NamesParameters) -> Present:
    """/sys/module has the loaded ones and, of the built-in ones, those with parameters; all with _ for -."""
    found = {path.rpartition("/")[2] for path in host.glob("/sys/module/*")}
    if not found:
        raise ValueError("/sys/module is empty")
    return Present(tuple(name for name in listed(parameters.names) if name.replace("-", "_") in found))


def judge_required(evidence: Present, parameters: NamesParameters) -> CheckResult:
    return _judge_missing("proc.required", evidence, parameters, "not running", "systemctl status")


def judge_modules(evidence: Present, parameters: NamesParameters) -> CheckResult:
    return _judge_missing("node.module", evidence, parameters, "not in the kernel", "modprobe")


def _judge_missing(check: str, evidence: Present, parameters: NamesParameters, fault: str, hint: str) -> CheckResult:
    missing = [name for name in listed(parameters.names) if name not in evidence.names]
    if not missing:
        return CheckResult(check, Severity.OK, ", ".join(evidence.names))
    message, hint = f"{fault}: {', '.join(missing)}", f"{hint} {missing[0]}"
    return CheckResult(check, Severity.CRITICAL, message, Remedy.DRAIN, component=missing[0], hint=hint)


@dataclass(frozen=True, slots=True)
class LineageParameters:
    """`uid_min`: from here on users are people, as 1000; 0 is not checked. `ignore`: programs of a login session."""

    uid_min: int = 0
    ignore: str = "systemd:(sd-pam):sshd:sshd-session:dbus-daemon"


@dataclass(frozen=True, slots=True)
class Stranger:
    """A process that belongs to no job; `uid` is its real one, -1 if it is gone."""

    pid: int
    name: str
    uid: int


@dataclass(frozen=True, slots=True)
class Strangers:
    processes: tuple[Stranger, ...] = ()


async def gather_forbidden(host: Host, parameters: NamesParameters) -> Strangers:
    names = {name[:COMM] for name in listed(parameters.names)}
    return _strangers(host, lambda process: process.name in names, 0)


async def gather_lineage(host: Host, parameters: LineageParameters) -> Strangers:
    return _strangers(host, lambda process: process.name not in listed(parameters.ignore), parameters.uid_min)


def _strangers(host: Host, wanted: Callable[[Process], bool], uid_min: int) -> Strangers:
    look = TABLE.look(host)
    # A user can call his process slurmstepd; the real one is nobody's in particular.
    steps = {p.pid for p in look.processes.values() if p.name == STEPD and not 0 < uid_min <= _uid(host, p.pid)}
    found = [
        p for p in look.processes.values() if p.state not in "ZX" and wanted(p) and not _started_by(steps, p, look)
    ]
    known = (Stranger(process.pid, process.name, _uid(host, process.pid)) for process in found)
    persons = [one for one in known if one.uid >= uid_min and not (uid_min and one.uid in SYSTEM_UIDS)]
    # Also pam_slurm_adopt and proctrack/cgroup put a process into its job's cgroup.
    return Strangers(tuple(one for one in persons if not _JOB_CGROUP.search(read_of(host, one.pid, "cgroup"))))


def _started_by(steps: set[int], process: Process, look: Snapshot) -> bool:
    """Whether one of the steps is the process or an ancestor of it."""
    for _ in look.processes:
        if process.pid in steps or process.parent not in look.processes:
            break
        process = look.processes[process.parent]
    return process.pid in steps


def _uid(host: Host, pid: int) -> int:
    found = re.search(r"^Uid:\s+(\d+)", read_of(host, pid, "status"), re.MULTILINE)
    return int(found[1]) if found else -1


def judge_forbidden(evidence: Strangers, _: NamesParameters) -> CheckResult:
    return _judge_strangers("proc.forbidden", evidence)


def judge_lineage(evidence: Strangers, _: LineageParameters) -> CheckResult:
    return _judge_strangers("proc.user_lineage", evidence)


def _judge_strangers(check: str, evidence: Strangers) -> CheckResult:
    """What runs beside the jobs takes CPUs, memory and GPUs that Slurm has promised to them."""
    if not evidence.processes:
        return CheckResult(check, Severity.OK, "none outside a job")
    first = evidence.processes[0]
    rest = f" and {len(evidence.processes) - 1} more" if len(evidence.processes) > 1 else ""
    message = f"outside any job: {first.name} ({first.pid}) of uid {first.uid}{rest}"
    hint = f"ask its owner, or end it: kill {first.pid}; pam_slurm_adopt keeps logins inside jobs"
    return CheckResult(check, Severity.CRITICAL, message, Remedy.DRAIN, Blame.USER, first.name, hint)


@dataclass(frozen=True, slots=True)
class UptimeParameters:
    """`warn`: seconds (600: gcm)."""

    warn: float = 600.0


@dataclass(frozen=True, slots=True)
class Uptime:
    seconds: float


async def gather_uptime(host: Host, _: UptimeParameters) -> Uptime:
    return Uptime(uptime(host))


def judge_uptime(evidence: Uptime, parameters: UptimeParameters) -> CheckResult:
    """What fails minutes after a boot is often not up yet; whoever reads the other results should know."""
    message = f"up for {evidence.seconds:.0f} s"
    if evidence.seconds >= parameters.warn:
        return CheckResult("node.uptime", Severity.OK, message)
    return CheckResult("node.uptime", Severity.WARN, message, hint="was that boot planned? journalctl -b -1 -e")


@dataclass(frozen=True, slots=True)
class BiosParameters:
    """Each one or more, separated by colons; "" is not checked. Named as their files."""

    bios_version: str = ""
    bios_date: str = ""


@dataclass(frozen=True, slots=True)
class DmiParameters:
    """Each one or more, separated by colons; "" is not checked. Named as their files."""

    sys_vendor: str = ""
    product_name: str = ""
    board_name: str = ""


@dataclass(frozen=True, slots=True)
class DmiValue:
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Dmi:
    """What firmware says of the machine, as far as an expectation was named."""

    values: tuple[DmiValue, ...]


async def gather_dmi(host: Host, parameters: BiosParameters | DmiParameters) -> Dmi:
    """What dmidecode prints, without starting it. Raises OSError where firmware tells nothing."""
    names = [field.name for field in fields(parameters) if getattr(parameters, field.name)]
    return Dmi(tuple(DmiValue(name, host.read(f"/sys/class/dmi/id/{name}").strip()) for name in names))


def judge_bios(evidence: Dmi, parameters: BiosParameters) -> CheckResult:
    return _judge_dmi("node.bios", evidence, parameters, "flash the node as its neighbours are; firmware changes speed")


def judge_dmi(evidence: Dmi, parameters: DmiParameters) -> CheckResult:
    return _judge_dmi("node.dmi", evidence, parameters, "was the machine exchanged for another model?")


def _judge_dmi(check: str, evidence: Dmi, parameters: BiosParameters | DmiParameters, hint: str) -> CheckResult:
    compared = [(value, getattr(parameters, value.name)) for value in evidence.values]
    wrong = [(value, expected) for value, expected in compared if value.text not in listed(expected)]
    if not wrong:
        return CheckResult(check, Severity.OK, ", ".join(f"{value.name} {value.text}" for value in evidence.values))
    message = ", ".join(f"found {value.name} {value.text!r}, expected {expected}" for value, expected in wrong)
    return CheckResult(check, Severity.CRITICAL, message, Remedy.DRAIN, hint=hint)


CHECKS: tuple[AnyCheck, ...] = (
    Check(
        name="proc.required",
        detects="a daemon that does not run",
        source="/proc/PID/stat",
        scope=Scope.MACHINE,
        parameters=NamesParameters,
        gather=gather_required,
        judge=judge_required,
        evidence=Present,
        applies=lambda parameters: bool(listed(parameters.names)),
    ),
    Check(
        name="proc.forbidden",
        detects="a program of the site's list that runs outside a job",
        source="/proc/PID/stat and cgroup",
        scope=Scope.MACHINE,
        parameters=NamesParameters,
        gather=gather_forbidden,
        judge=judge_forbidden,
        evidence=Strangers,
        applies=lambda parameters: bool(listed(parameters.names)),
    ),
    Check(
        name="proc.user_lineage",
        detects="a user's process that slurmd did not start",
        source="/proc/PID/stat, status and cgroup",
        scope=Scope.MACHINE,
        parameters=LineageParameters,
        gather=gather_lineage,
        judge=judge_lineage,
        evidence=Strangers,
        applies=lambda parameters: parameters.uid_min > 0,
    ),
    Check(
        name="node.uptime",
        detects="a node that booted a short while ago",
        source="/proc/uptime",
        scope=Scope.MACHINE,
        parameters=UptimeParameters,
        gather=gather_uptime,
        judge=judge_uptime,
        evidence=Uptime,
    ),
    Check(
        name="node.module",
        detects="a kernel module that is missing",
        source="/sys/module",
        scope=Scope.MACHINE,
        parameters=NamesParameters,
        gather=gather_modules,
        judge=judge_modules,
        evidence=Present,
        applies=lambda parameters: bool(listed(parameters.names)),
    ),
    Check(
        name="node.bios",
        detects="firmware other than expected",
        source="/sys/class/dmi/id/bios_*",
        scope=Scope.MACHINE,
        parameters=BiosParameters,
        gather=gather_dmi,
        judge=judge_bios,
        evidence=Dmi,
        applies=lambda parameters: parameters != BiosParameters(),
    ),
    Check(
        name="node.dmi",
        detects="a machine of another make or model",
        source="/sys/class/dmi/id",
        scope=Scope.MACHINE,
        parameters=DmiParameters,
        gather=gather_dmi,
        judge=judge_dmi,
        evidence=Dmi,
        applies=lambda parameters: parameters != DmiParameters(),
    ),
)
