"""Checks of the machine's own network: interfaces, losses, connection tracking. All from files."""

from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.health import sysfs
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.ports import Host

NET = "/sys/class/net"

LOSSES = (
    "rx_crc_errors",
    "rx_fifo_errors",
    "rx_frame_errors",
    "rx_missed_errors",
    "tx_carrier_errors",
    "tx_fifo_errors",
)
"""Packets that hardware lost. Not `rx_dropped`: that counts every packet of a protocol that nobody asked for."""


@dataclass(frozen=True, slots=True)
class LinkParameters:
    """`interfaces` that must be up, with commas. `speed` in Mb/s and `mtu` in bytes: 0 is not checked."""

    interfaces: str = ""
    speed: int = 0
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class DropParameters:
    """`percent` of packets lost between two samples, from `packets` lost on (ours). `exclude`: globs with commas."""

    percent: float = 0.1
    packets: int = 100
    exclude: str = ""


@dataclass(frozen=True, slots=True)
class ConntrackParameters:
    """`warn`: percent of the table in use (ours)."""

    warn: float = 85.0


@dataclass(frozen=True, slots=True)
class Interface:
    """`state` in the kernel's word, "" when there is no such interface. `speed` in Mb/s, 0 unknown.

    `idle`: members of a bond that are not up.
    """

    name: str
    state: str
    speed: int
    mtu: int
    idle: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Interfaces:
    interfaces: tuple[Interface, ...]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Packets since the driver was loaded."""

    name: str
    passed: int
    lost: int


@dataclass(frozen=True, slots=True)
class Flows:
    interfaces: tuple[Traffic, ...]


@dataclass(frozen=True, slots=True)
class Conntrack:
    """Entries of the connection table; `limit` 0 where there is none."""

    used: int
    limit: int


async def gather_links(host: Host, parameters: LinkParameters) -> Interfaces:
    if not host.glob(f"{NET}/*"):
        raise ValueError(f"{NET}: found no interface, is /sys mounted?")
    return Interfaces(tuple(_interface(host, name) for name in sysfs.words(parameters.interfaces)))


def _interface(host: Host, name: str) -> Interface:
    folder = f"{NET}/{name}"
    members = sysfs.text(host, f"{folder}/bonding/slaves").split()
    idle = [member for member in members if sysfs.text(host, f"{NET}/{member}/operstate") != "up"]
    state, speed = sysfs.text(host, f"{folder}/operstate"), sysfs.number(host, f"{folder}/speed")
    # An interface that is down says -1, or 4294967295 with older drivers.
    known = speed if 0 < speed < 1 << 31 else 0
    return Interface(name, state, known, sysfs.number(host, f"{folder}/mtu"), tuple(idle))


async def gather_flows(host: Host, parameters: DropParameters) -> Flows:
    """Interfaces with hardware, real or virtual, behind them."""
    names = [path.split("/")[4] for path in host.glob(f"{NET}/*/device")]
    wanted = [name for name in names if not sysfs.matches(name, parameters.exclude)]
    return Flows(tuple(_traffic(host, name) for name in wanted))


def _traffic(host: Host, name: str) -> Traffic:
    folder = f"{NET}/{name}/statistics"
    passed = sysfs.number(host, f"{folder}/rx_packets") + sysfs.number(host, f"{folder}/tx_packets")
    return Traffic(name, passed, sum(sysfs.number(host, f"{folder}/{loss}") for loss in LOSSES))


async def gather_conntrack(host: Host, _: ConntrackParameters) -> Conntrack:
    folder = "/proc/sys/net/netfilter"
    limit = sysfs.number(host, f"{folder}/nf_conntrack_max")
    return Conntrack(sysfs.number(host, f"{folder}/nf_conntrack_count"), limit)


def judge_links(evidence: Interfaces, parameters: LinkParameters) -> CheckResult:
    faults = [(each.name, fault) for each in evidence.interfaces if (fault := _fault(each, parameters))]
    if faults:
        shown = sysfs.some(f"{name}: {fault}" for name, fault in faults)
        hint = f"ethtool {faults[0][0]}; look at the cable and at the switch's port"
        return CheckResult("net.link", Severity.CRITICAL, shown, Remedy.DRAIN, component=faults[0][0], hint=hint)
    thin = [each for each in evidence.interfaces if each.idle]
    if thin:
        shown = sysfs.some(f"{each.name}: without {', '.join(each.idle)}" for each in thin)
        hint = f"look at the cable of {thin[0].idle[0]}; the bond carries on with the others"
        return CheckResult("net.link", Severity.WARN, shown, component=thin[0].name, hint=hint)
    return CheckResult("net.link", Severity.OK, f"{len(evidence.interfaces)} interfaces as expected")


def _fault(interface: Interface, parameters: LinkParameters) -> str:
    # InfiniBand and some tunnels say "unknown" as long as they work.
    if interface.state not in ("up", "unknown"):
        return f"{interface.state}, expected up" if interface.state else "no such interface"
    if parameters.speed and 0 < interface.speed < parameters.speed:
        return f"{interface.speed} Mb/s, expected {parameters.speed}"
    if parameters.mtu and interface.mtu != parameters.mtu:
        return f"MTU {interface.mtu}, expected {parameters.mtu}"
    return ""


def judge_flows(evidence: Flows, _: DropParameters) -> CheckResult:
    """One look at counters says nothing of when they grew."""
    return CheckResult("net.drops", Severity.OK, f"{len(evidence.interfaces)} interfaces watched")


def judge_flows_change(before: Flows, now: Flows, parameters: DropParameters) -> CheckResult:
    known = {each.name: each for each in before.interfaces}
    for each in now.interfaces:
        old = known.get(each.name, each)
        lost, passed = sysfs.growth(old.lost, each.lost), sysfs.growth(old.passed, each.passed)
        percent = 100 * lost / (lost + passed) if lost + passed else 0.0
        if lost >= parameters.packets and percent >= parameters.percent:
            hint = f"ethtool -S {each.name}: bad cable (CRC), or rings too small (missed: ethtool -G)"
            message = f"{each.name}: lost {lost} packets, {percent:.1f} %, limit {parameters.percent:g} %"
            return CheckResult("net.drops", Severity.WARN, message, component=each.name, hint=hint)
    return judge_flows(now, parameters)


def judge_conntrack(evidence: Conntrack, parameters: ConntrackParameters) -> CheckResult:
    """When the table is full, new connections are dropped without a word to whoever makes them."""
    if evidence.limit <= 0:
        return CheckResult("net.conntrack", Severity.OK, "no connection tracking here")
    percent = 100 * evidence.used / evidence.limit
    message = f"{evidence.used} of {evidence.limit} entries used, {percent:.0f} %"
    if percent < parameters.warn:
        return CheckResult("net.conntrack", Severity.OK, message)
    hint = "raise net.netfilter.nf_conntrack_max, or exempt the cluster's own traffic (NOTRACK)"
    return CheckResult("net.conntrack", Severity.WARN, message, hint=hint)


LINK = Check(
    name="net.link",
    detects="an interface that is down, slow or set otherwise",
    source="/sys/class/net",
    scope=Scope.MACHINE,
    parameters=LinkParameters,
    gather=gather_links,
    judge=judge_links,
    evidence=Interfaces,
    applies=lambda parameters: bool(parameters.interfaces),
    strikes=3,
)

DROPS = Check(
    name="net.drops",
    detects="packets lost by an interface",
    source="/sys/class/net/*/statistics",
    scope=Scope.MACHINE,
    parameters=DropParameters,
    gather=gather_flows,
    judge=judge_flows,
    judge_change=judge_flows_change,
    evidence=Flows,
)

CONNTRACK = Check(
    name="net.conntrack",
    detects="a connection table that is nearly full",
    source="/proc/sys/net/netfilter",
    scope=Scope.MACHINE,
    parameters=ConntrackParameters,
    gather=gather_conntrack,
    judge=judge_conntrack,
    evidence=Conntrack,
)

CHECKS: tuple[AnyCheck, ...] = (LINK, DROPS, CONNTRACK)
