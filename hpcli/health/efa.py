"""Checks of AWS's Elastic Fabric Adapters, read from sysfs."""

from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.health import rdma, sysfs
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.health.rdma import Port, Ports
from hpcli.ports import Host

DRIVER_FAULTS = ("rdma_read_wr_err", "rdma_write_wr_err", "impaired_remote_conn_events")
REMOTE_FAULTS = ("retrans_timeout_events", "unresponsive_remote_events", "rx_drops")
"""Counters in hw_counters, named by the kernel driver (amzn/amzn-drivers, kernel/linux/efa).

The second kind also grows when a job on the other end dies, so it never costs this node.
"""


@dataclass(frozen=True, slots=True)
class CountParameters:
    """`expected`: EFA devices of the node; 0 is not checked."""

    expected: int = 0


@dataclass(frozen=True, slots=True)
class StateParameters:
    """`exclude`: devices never looked at, globs with commas."""

    exclude: str = ""


@dataclass(frozen=True, slots=True)
class ErrorParameters:
    """Errors a minute on one device between two samples (ours). `exclude`: devices never looked at."""

    warn: float = 10.0
    critical: float = 1000.0
    exclude: str = ""


@dataclass(frozen=True, slots=True)
class DeviceCounters:
    """A device's error counters: `own` ones, and those that a dead peer moves too."""

    device: str
    own: int = 0
    remote: int = 0


@dataclass(frozen=True, slots=True)
class Counters:
    """`uptime`: seconds since boot when they were read."""

    uptime: float
    devices: tuple[DeviceCounters, ...]


async def gather_all(host: Host, _: CountParameters) -> Ports:
    return rdma.ports(host)


async def gather_state(host: Host, parameters: StateParameters) -> Ports:
    return rdma.ports(host, parameters.exclude)


async def gather_counters(host: Host, parameters: ErrorParameters) -> Counters:
    found = _efa(rdma.ports(host, parameters.exclude))
    return Counters(sysfs.uptime(host), tuple(_counters(host, port) for port in found))


def _counters(host: Host, port: Port) -> DeviceCounters:
    """Older drivers keep them at the device, newer ones at the port; names that a driver lacks count 0."""
    places = (f"ports/{port.name.rpartition(':')[2]}/hw_counters", "hw_counters")
    folders = [f"{rdma.CLASS}/{port.device}/{place}" for place in places]
    own = sum(max(sysfs.number(host, f"{folder}/{name}") for folder in folders) for name in DRIVER_FAULTS)
    remote = sum(max(sysfs.number(host, f"{folder}/{name}") for folder in folders) for name in REMOTE_FAULTS)
    return DeviceCounters(port.device, own, remote)


def _efa(evidence: Ports) -> list[Port]:
    return [port for port in evidence.ports if port.is_efa]


def judge_count(evidence: Ports, parameters: CountParameters) -> CheckResult:
    """AWS cannot give a missing device back to a running instance; another instance has it."""
    found = len({port.device for port in _efa(evidence)})
    message = f"found {found} EFA devices, expected {parameters.expected}"
    if found == parameters.expected:
        return CheckResult("efa.count", Severity.OK, message)
    if found > parameters.expected:
        hint = "does the parameter say how many the instance type has?"
        return CheckResult("efa.count", Severity.WARN, message, hint=hint)
    hint = "compare with lspci -d 1d0f:; is the efa driver loaded?"
    return CheckResult("efa.count", Severity.CRITICAL, message, Remedy.REPLACE, hint=hint)


def judge_state(evidence: Ports, _: StateParameters) -> CheckResult:
    """An EFA port has no cable that could be missing: it is up, or the device is broken."""
    found = _efa(evidence)
    down = [port for port in found if not port.is_up]
    if not down:
        return CheckResult("efa.state", Severity.OK, f"{len(found)} devices up" if found else "no EFA here")
    shown = sysfs.some(f"{port.device}: {port.state or 'unreadable'}" for port in down)
    hint = "replace the instance; AWS support takes the instance id and the kernel log's lines of the driver efa"
    message = f"{shown}, expected ACTIVE"
    return CheckResult("efa.state", Severity.CRITICAL, message, Remedy.REPLACE, component=down[0].device, hint=hint)


def judge_errors(evidence: Counters, _: ErrorParameters) -> CheckResult:
    """One look at counters says nothing of when they grew."""
    return CheckResult("efa.errors", Severity.OK, f"{len(evidence.devices)} devices watched")


def judge_errors_change(before: Counters, now: Counters, parameters: ErrorParameters) -> CheckResult:
    minutes = (now.uptime - before.uptime) / 60
    known = {device.device: device for device in before.devices}
    pairs = [(known[device.device], device) for device in now.devices if device.device in known]
    if minutes <= 0 or not pairs:
        return judge_errors(now, parameters)
    own, device = max((sysfs.growth(old.own, new.own) / minutes, new.device) for old, new in pairs)
    if own >= parameters.critical:
        message = f"{device}: {own:.0f} errors a minute, limit {parameters.critical:g}"
        hint = "read the kernel log's lines of the driver efa; replace the instance if it goes on"
        return CheckResult("efa.errors", Severity.CRITICAL, message, Remedy.DRAIN, component=device, hint=hint)
    if own >= parameters.warn:
        hint = "read the kernel log's lines of the driver efa"
        message = f"{device}: {own:.0f} errors a minute"
        return CheckResult("efa.errors", Severity.WARN, message, component=device, hint=hint)
    remote, device = max((sysfs.growth(old.remote, new.remote) / minutes, new.device) for old, new in pairs)
    if remote < parameters.warn:
        return judge_errors(now, parameters)
    hint = "did a job lose a peer? then look at that node; otherwise at this one's security groups and MTU"
    message = f"{device}: {remote:.0f} lost peers or packets a minute"
    return CheckResult("efa.errors", Severity.WARN, message, component=device, hint=hint)


COUNT = Check(
    name="efa.count",
    detects="an EFA device that is missing",
    source="/sys/class/infiniband",
    scope=Scope.MACHINE,
    parameters=CountParameters,
    gather=gather_all,
    judge=judge_count,
    evidence=Ports,
    applies=lambda parameters: parameters.expected > 0,
)

STATE = Check(
    name="efa.state",
    detects="an EFA device that is not active",
    source="/sys/class/infiniband/*/ports/*/{state,phys_state}",
    scope=Scope.MACHINE,
    parameters=StateParameters,
    gather=gather_state,
    judge=judge_state,
    evidence=Ports,
)

ERRORS = Check(
    name="efa.errors",
    detects="bursts of errors on an EFA device",
    source="/sys/class/infiniband/*/ports/*/hw_counters",
    scope=Scope.MACHINE,
    parameters=ErrorParameters,
    gather=gather_counters,
    judge=judge_errors,
    judge_change=judge_errors_change,
    evidence=Counters,
    strikes=3,
)

CHECKS: tuple[AnyCheck, ...] = (COUNT, STATE, ERRORS)
