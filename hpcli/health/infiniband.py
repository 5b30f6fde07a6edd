"""Checks of InfiniBand ports, read from sysfs: there, up, fast, and without errors."""

from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.health import rdma, sysfs
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.health.rdma import Port, Ports
from hpcli.ports import Host


@dataclass(frozen=True, slots=True)
class StateParameters:
    """`ports`: those that must be up, as device or device:port; `exclude`: devices never looked at. Globs with commas.

    A port that is not named and was never up has no cable, which is no fault.
    """

    ports: str = ""
    exclude: str = ""


@dataclass(frozen=True, slots=True)
class CountParameters:
    """`expected`: devices whose name matches `names`; 0 is not checked."""

    expected: int = 0
    names: str = "*"


@dataclass(frozen=True, slots=True)
class RateParameters:
    """`rate`: Gb/s that each port which is up must reach (Azure's NHC: 400 on NDR); 0 is not checked."""

    rate: float = 0.0
    names: str = "*"


@dataclass(frozen=True, slots=True)
class FlapParameters:
    """`limit`: losses of link within `hours` (Azure's NHC: 5 in 24 h). `exclude`: devices never looked at."""

    limit: int = 5
    hours: float = 24.0
    exclude: str = ""


@dataclass(frozen=True, slots=True)
class ErrorParameters:
    """What may happen on a port between two samples.

    `recoveries`: of the link (cyclecloud-healthagent: 3). `warn`, `critical`: symbol and receive errors (ours).
    `exclude`: devices never looked at; on restricted functions each look writes to the kernel log (gpud issue 1164).
    """

    recoveries: int = 3
    warn: int = 10
    critical: int = 1000
    exclude: str = ""


@dataclass(frozen=True, slots=True)
class PortCounters:
    """A port's error counters since the driver was loaded."""

    name: str
    link_downed: int = 0
    recoveries: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Counters:
    """`uptime`: seconds since boot when they were read."""

    uptime: float
    ports: tuple[PortCounters, ...]


async def gather_state(host: Host, parameters: StateParameters) -> Ports:
    return rdma.ports(host, parameters.exclude)


async def gather_ports(host: Host, _: CountParameters | RateParameters) -> Ports:
    return rdma.ports(host)


async def gather_counters(host: Host, parameters: FlapParameters | ErrorParameters) -> Counters:
    found = [port for port in rdma.ports(host, parameters.exclude).ports if not port.is_efa]
    return Counters(sysfs.uptime(host), tuple(_counters(host, port) for port in found))


def _counters(host: Host, port: Port) -> PortCounters:
    folder = f"{rdma.CLASS}/{port.device}/ports/{port.name.rpartition(':')[2]}/counters"
    return PortCounters(
        port.name,
        link_downed=sysfs.number(host, f"{folder}/link_downed"),
        recoveries=sysfs.number(host, f"{folder}/link_error_recovery"),
        errors=sysfs.number(host, f"{folder}/symbol_error") + sysfs.number(host, f"{folder}/port_rcv_errors"),
    )


def judge_state(evidence: Ports, parameters: StateParameters) -> CheckResult:
    """A port that the site names must be up; another that was up and is not is worth a word."""
    found = [port for port in evidence.ports if not port.is_efa]
    absent = [name for name in sysfs.words(parameters.ports) if not any(_is(port, name) for port in found)]
    if absent:
        hint = "is the adapter in lspci, and its driver loaded?"
        return _critical("ib.state", f"{sysfs.some(absent)}: no such port", absent[0], hint, Remedy.EVICT)
    down = [port for port in found if not port.is_up]
    required = [port for port in down if any(_is(port, name) for name in sysfs.words(parameters.ports))]
    if required:
        message = f"{sysfs.some(map(_shown, required))}, expected ACTIVE, LinkUp"
        return _critical("ib.state", message, required[0].name, _why_down(required[0]), Remedy.EVICT)
    lost = [port for port in down if port.lost]
    if lost:
        hint = f"name it in ib.state's `ports` if it must be up; {_why_down(lost[0])}"
        message = f"{sysfs.some(map(_shown, lost))}; it was up earlier"
        return CheckResult("ib.state", Severity.WARN, message, component=lost[0].name, hint=hint)
    up = len(found) - len(down)
    return CheckResult("ib.state", Severity.OK, f"{up} of {len(found)} ports up" if found else "no InfiniBand here")


def _is(port: Port, wanted: str) -> bool:
    return sysfs.matches(port.name, wanted) or sysfs.matches(port.device, wanted)


def _shown(port: Port) -> str:
    return f"{port.name}: {port.state or 'unreadable'}, {port.physical or 'no physical state'}"


def _why_down(port: Port) -> str:
    if port.physical == "LinkUp":
        return "the cable is good, but no subnet manager has brought the port up: is it running?"
    if port.physical == "Disabled":
        return "the port was disabled by hand: ibportstate says by whom"
    return "look at the cable and at the switch's port: ibstat, iblinkinfo"


def judge_count(evidence: Ports, parameters: CountParameters) -> CheckResult:
    """Fewer adapters than the node was bought with."""
    ours = {port.device for port in evidence.ports if not port.is_efa and sysfs.matches(port.device, parameters.names)}
    message = f"found {len(ours)} RDMA devices, expected {parameters.expected}"
    if len(ours) == parameters.expected:
        return CheckResult("ib.count", Severity.OK, message)
    if len(ours) > parameters.expected:
        hint = (
            "does the parameter say how many the node has? virtual functions count too unless `names` leaves them out"
        )
        return CheckResult("ib.count", Severity.WARN, message, hint=hint)
    hint = "compare with lspci; is the driver loaded?"
    return _critical("ib.count", message, "", hint)


def judge_rate(evidence: Ports, parameters: RateParameters) -> CheckResult:
    """A port that came up narrower or slower slows every job that spans nodes. One that is down is ib.state's."""
    up = [port for port in evidence.ports if port.is_up and not port.is_efa]
    ours = [port for port in up if sysfs.matches(port.device, parameters.names)]
    slow = [port for port in ours if port.rate < parameters.rate]
    if not slow:
        return CheckResult("ib.rate", Severity.OK, f"{len(ours)} ports at {parameters.rate:g} Gb/s or more")
    shown = sysfs.some(f"{port.name}: {port.rate:g} Gb/s" for port in slow)
    hint = "reseat or change the cable; iblinkinfo shows both ends"
    return _critical("ib.rate", f"{shown}, expected {parameters.rate:g} Gb/s", slow[0].name, hint)


def judge_flap(evidence: Counters, parameters: FlapParameters) -> CheckResult:
    """On a machine up for less than the window, all that the counters hold lies inside it."""
    total = sum(port.link_downed for port in evidence.ports)
    worst = max(evidence.ports, key=lambda port: port.link_downed, default=PortCounters(""))
    if evidence.uptime <= parameters.hours * 3600 and worst.link_downed >= parameters.limit:
        return _flapping(worst.name, worst.link_downed, evidence.uptime, parameters)
    return CheckResult("ib.flap", Severity.OK, f"{total} losses of link on {len(evidence.ports)} ports")


def judge_flap_change(before: Counters, now: Counters, parameters: FlapParameters) -> CheckResult:
    """A single loss is worth a word; a link that goes again and again costs every job its communicator."""
    known = {port.name: port.link_downed for port in before.ports}
    losses = {port.name: sysfs.growth(known[port.name], port.link_downed) for port in now.ports if port.name in known}
    name = max(losses, key=lambda port: losses[port], default="")
    seconds = now.uptime - before.uptime
    if not name or losses[name] == 0 or seconds < 0:
        return judge_flap(now, parameters)
    if losses[name] >= parameters.limit:
        return _flapping(name, losses[name], seconds, parameters)
    result = judge_flap(now, parameters)
    if result.severity is Severity.CRITICAL:
        return result
    message = f"{name}: link lost {losses[name]} times in {seconds:.0f} s"
    hint = "watch it: a cable or transceiver that begins to fail does this first"
    return CheckResult("ib.flap", Severity.WARN, message, component=name, hint=hint)


def _flapping(name: str, losses: int, seconds: float, parameters: FlapParameters) -> CheckResult:
    message = f"{name}: link lost {losses} times in {seconds / 3600:.1f} h, limit {parameters.limit}"
    return _critical("ib.flap", message, name, "reseat the cable, then change it, then the transceiver")


def judge_errors(evidence: Counters, _: ErrorParameters) -> CheckResult:
    """One look at counters says nothing of when they grew."""
    return CheckResult("ib.errors", Severity.OK, f"{len(evidence.ports)} ports watched")


def judge_errors_change(before: Counters, now: Counters, parameters: ErrorParameters) -> CheckResult:
    known = {port.name: port for port in before.ports}
    pairs = [(known[port.name], port) for port in now.ports if port.name in known]
    for old, port in pairs:
        recovered = sysfs.growth(old.recoveries, port.recoveries)
        if recovered > parameters.recoveries:
            message = f"{port.name}: link recovered {recovered} times, limit {parameters.recoveries}"
            return _critical("ib.errors", message, port.name, "reseat or change the cable: ibdiagnet")
    worst = max(pairs, key=lambda pair: sysfs.growth(pair[0].errors, pair[1].errors), default=None)
    count = sysfs.growth(worst[0].errors, worst[1].errors) if worst else 0
    if not worst or count < parameters.warn:
        return judge_errors(now, parameters)
    message = f"{worst[1].name}: {count} symbol and receive errors in {now.uptime - before.uptime:.0f} s"
    hint = "clean or change the cable: ibdiagnet, mlxlink"
    if count < parameters.critical:
        return CheckResult("ib.errors", Severity.WARN, message, component=worst[1].name, hint=hint)
    return _critical("ib.errors", f"{message}, limit {parameters.critical}", worst[1].name, hint)


def _critical(check: str, message: str, component: str, hint: str, remedy: Remedy = Remedy.DRAIN) -> CheckResult:
    return CheckResult(check, Severity.CRITICAL, message, remedy, component=component, hint=hint)


STATE = Check(
    name="ib.state",
    detects="an InfiniBand or RoCE port that is down",
    source="/sys/class/infiniband/*/ports/*/{state,phys_state}",
    scope=Scope.MACHINE,
    parameters=StateParameters,
    gather=gather_state,
    judge=judge_state,
    evidence=Ports,
)

COUNT = Check(
    name="ib.count",
    detects="an RDMA adapter that is missing",
    source="/sys/class/infiniband",
    scope=Scope.MACHINE,
    parameters=CountParameters,
    gather=gather_ports,
    judge=judge_count,
    evidence=Ports,
    applies=lambda parameters: parameters.expected > 0,
)

RATE = Check(
    name="ib.rate",
    detects="a port that came up too slow",
    source="/sys/class/infiniband/*/ports/*/rate",
    scope=Scope.MACHINE,
    parameters=RateParameters,
    gather=gather_ports,
    judge=judge_rate,
    evidence=Ports,
    applies=lambda parameters: parameters.rate > 0,
)

FLAP = Check(
    name="ib.flap",
    detects="a link that comes and goes",
    source="/sys/class/infiniband/*/ports/*/counters/link_downed",
    scope=Scope.MACHINE,
    parameters=FlapParameters,
    gather=gather_counters,
    judge=judge_flap,
    judge_change=judge_flap_change,
    evidence=Counters,
    strikes=1,
)

ERRORS = Check(
    name="ib.errors",
    detects="errors on a link",
    source="/sys/class/infiniband/*/ports/*/counters",
    scope=Scope.MACHINE,
    parameters=ErrorParameters,
    gather=gather_counters,
    judge=judge_errors,
    judge_change=judge_errors_change,
    evidence=Counters,
)

CHECKS: tuple[AnyCheck, ...] = (STATE, COUNT, RATE, FLAP, ERRORS)
