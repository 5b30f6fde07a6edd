"""Checks of what must be installed and running: units of systemd, packages."""

from collections.abc import Sequence
from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.health import sysfs
from hpcli.health.check import AnyCheck, Check, Context, Scope
from hpcli.ports import Host

SYSTEMCTL_TIMEOUT = 5.0
PACKAGE_TIMEOUT = 8.0
STARTED = "/run/systemd/units"
"""Where systemd keeps a file for each unit that is neither inactive nor failed (tried with 257)."""

RUNNING = frozenset({"active", "reloading", "refreshing", "activating"})
"""ActiveState of a unit that works or is about to (systemd's unit-def.c); between two crashes it is `auto-restart`."""

_PROPERTIES = "Id,LoadState,ActiveState,SubState,NRestarts"


@dataclass(frozen=True, slots=True)
class ActiveParameters:
    """`units` that must be active, with commas: `slurmd, munge, sssd, nvidia-persistenced`."""

    units: str = ""


@dataclass(frozen=True, slots=True)
class RestartParameters:
    """`units` that are watched. `limit`: automatic restarts an hour (ours)."""

    units: str = ""
    limit: int = 3


@dataclass(frozen=True, slots=True)
class PackageParameters:
    """`packages` and their versions, globs, with commas: `slurmd=24.11.*, munge=0.5.15-1`."""

    packages: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit in systemd's own words; `restarts`: automatic ones since somebody started it."""

    name: str
    load: str
    active: str
    sub: str
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Units:
    """`uptime`: seconds since boot when systemd was asked."""

    uptime: float
    units: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class Package:
    """`version`: "" when it is not installed."""

    name: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Packages:
    packages: tuple[Package, ...]


async def gather_active(host: Host, parameters: ActiveParameters) -> Units:
    """Starts systemctl only when a unit has no file of its start: systemd removes that when the unit stops or fails.

    Raises ValueError where systemd does not run.
    """
    names = _units(host, parameters.units)
    started = {path.partition("invocation:")[2] for path in host.glob(f"{STARTED}/invocation:*")}
    if started.issuperset(names):
        return Units(sysfs.uptime(host), tuple(Unit(name, "loaded", "active", "started") for name in names))
    return await _show(host, names)


async def gather_restarts(host: Host, parameters: RestartParameters) -> Units:
    """Starts systemctl once (7 ms of CPU time), since no file counts restarts. Raises ValueError without systemd."""
    return await _show(host, _units(host, parameters.units))


def _units(host: Host, listed: str) -> list[str]:
    if not host.glob("/run/systemd/system"):
        raise ValueError("systemd does not run here")
    return [name if "." in name else f"{name}.service" for name in sysfs.words(listed)]


async def _show(host: Host, names: Sequence[str]) -> Units:
    argv = ["systemctl", "show", f"--property={_PROPERTIES}", "--", *names]
    answer = await host.run(argv, timeout=SYSTEMCTL_TIMEOUT)
    if answer.code:
        raise ValueError(f"systemctl: {answer.err.strip()[:200] or f'exit code {answer.code}'}")
    return Units(sysfs.uptime(host), parse_units(answer.out))


def parse_units(text: str) -> tuple[Unit, ...]:
    """Parse `systemctl show`: a block of NAME=VALUE lines per unit, blank lines between them."""
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.split("\n\n")]
    return tuple(
        Unit(
            block["Id"],
            block.get("LoadState", ""),
            block.get("ActiveState", ""),
            block.get("SubState", ""),
            sysfs.whole(block.get("NRestarts", "")),
        )
        for block in blocks
        if block.get("Id")
    )


async def gather_packages(host: Host, parameters: PackageParameters) -> Packages:
    """Starts dpkg-query where there is dpkg, else rpm; asks all packages at once."""
    names = [word.partition("=")[0].strip() for word in sysfs.words(parameters.packages)]
    if host.glob("/var/lib/dpkg/status"):
        argv = ["dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Status}\\n", "--", *names]
    else:
        argv = ["rpm", "-q", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE} installed\\n", "--", *names]
    answer = await host.run(argv, timeout=PACKAGE_TIMEOUT)
    rows = [line.split() for line in answer.out.splitlines()]
    found = {row[0]: row[1] for row in rows if len(row) == 3 and row[2] == "installed"}
    return Packages(tuple(Package(name, found.get(name, "")) for name in names))


def judge_active(evidence: Units, _: ActiveParameters) -> CheckResult:
    down = [unit for unit in evidence.units if unit.active not in RUNNING or unit.sub == "auto-restart"]
    if down:
        shown = sysfs.some(map(_shown, down))
        hint = f"journalctl -u {down[0].name} -n 50; systemctl start {down[0].name}"
        return _drain("svc.active", f"{shown}, expected active", down[0].name, hint)
    starting = [unit for unit in evidence.units if unit.active == "activating"]
    if starting:
        hint = f"journalctl -u {starting[0].name} -n 50, if it goes on"
        shown = sysfs.some(map(_shown, starting))
        return CheckResult("svc.active", Severity.WARN, shown, component=starting[0].name, hint=hint)
    if not evidence.units:
        return CheckResult("svc.active", Severity.UNKNOWN, "systemd named no unit")
    return CheckResult("svc.active", Severity.OK, f"{len(evidence.units)} units active")


def _shown(unit: Unit) -> str:
    state = "no such unit" if unit.load == "not-found" else f"{unit.active} ({unit.sub})"
    return f"{unit.name}: {state}"


def judge_restarts(evidence: Units, parameters: RestartParameters) -> CheckResult:
    """What restarted often in the first hour after boot did so within the window."""
    worst = max(evidence.units, key=lambda unit: unit.restarts, default=None)
    if worst and evidence.uptime <= 3600 and worst.restarts > parameters.limit:
        return _looping(worst.name, worst.restarts, evidence.uptime, parameters)
    return CheckResult("svc.restarts", Severity.OK, f"{len(evidence.units)} units watched")


def judge_restarts_change(before: Units, now: Units, parameters: RestartParameters) -> CheckResult:
    known = {unit.name: unit.restarts for unit in before.units}
    counts = {unit.name: sysfs.growth(known.get(unit.name, 0), unit.restarts) for unit in now.units}
    name = max(counts, key=lambda unit: counts[unit], default="")
    seconds = now.uptime - before.uptime
    if not name or not counts[name] or seconds <= 0:
        return judge_restarts(now, parameters)
    if counts[name] > parameters.limit * max(1.0, seconds / 3600):
        return _looping(name, counts[name], seconds, parameters)
    result = judge_restarts(now, parameters)
    if result.severity is Severity.CRITICAL:
        return result
    message = f"{name}: restarted by itself {counts[name]} times in {seconds:.0f} s"
    hint = f"journalctl -u {name} -n 50"
    return CheckResult("svc.restarts", Severity.WARN, message, component=name, hint=hint)


def _looping(name: str, count: int, seconds: float, parameters: RestartParameters) -> CheckResult:
    message = f"{name}: restarted by itself {count} times in {seconds:.0f} s, limit {parameters.limit} an hour"
    return _drain("svc.restarts", message, name, f"journalctl -u {name} -n 50")


def judge_packages(evidence: Packages, parameters: PackageParameters) -> CheckResult:
    """A node that missed an update runs jobs that fail only there."""
    pairs = [word.partition("=")[::2] for word in sysfs.words(parameters.packages)]
    wanted = {name.strip(): version.strip() or "*" for name, version in pairs}
    wrong = [
        each
        for each in evidence.packages
        if not each.version or not sysfs.matches(each.version, wanted.get(each.name, "*"))
    ]
    if not wrong:
        return CheckResult("svc.package", Severity.OK, f"{len(evidence.packages)} packages as expected")
    first = wrong[0]
    shown = sysfs.some(
        f"{each.name} {each.version or 'not installed'}, expected {wanted.get(each.name)}" for each in wrong
    )
    return _drain("svc.package", shown, first.name, "install what the other nodes have")


def _drain(check: str, message: str, component: str, hint: str) -> CheckResult:
    return CheckResult(check, Severity.CRITICAL, message, Remedy.DRAIN, component=component, hint=hint)


ACTIVE = Check(
    name="svc.active",
    detects="a unit that does not run",
    source="/run/systemd/units, systemctl show",
    scope=Scope.MACHINE,
    parameters=ActiveParameters,
    gather=gather_active,
    judge=judge_active,
    evidence=Units,
    applies=lambda parameters: bool(parameters.units),
)

RESTARTS = Check(
    name="svc.restarts",
    detects="a unit that restarts again and again",
    source="systemctl show: NRestarts",
    scope=Scope.MACHINE,
    parameters=RestartParameters,
    gather=gather_restarts,
    judge=judge_restarts,
    judge_change=judge_restarts_change,
    evidence=Units,
    applies=lambda parameters: bool(parameters.units),
    strikes=1,
)

PACKAGE = Check(
    name="svc.package",
    detects="a package that is missing or of another version",
    source="dpkg-query, rpm",
    scope=Scope.MACHINE,
    parameters=PackageParameters,
    gather=gather_packages,
    judge=judge_packages,
    evidence=Packages,
    applies=lambda parameters: bool(parameters.packages),
    contexts=frozenset({Context.ACCEPTANCE}),
)

CHECKS: tuple[AnyCheck, ...] = (ACTIVE, RESTARTS, PACKAGE)
