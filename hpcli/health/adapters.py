"""Checks of RDMA adapters against what the site expects: firmware, PCIe link, cable, RoCE settings."""

from collections.abc import Iterable
from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.errors import NotFound
from hpcli.health import rdma, sysfs
from hpcli.health.check import AnyCheck, Check, Context, Scope
from hpcli.ports import Host

ETHTOOL_TIMEOUT = 5.0
"""Seconds to read one module's memory; the bus behind it is slow, a healthy read takes 0.1 s."""


@dataclass(frozen=True, slots=True)
class FirmwareParameters:
    """`version`: of adapters whose name matches `names`; globs with commas, "" is not checked."""

    version: str = ""
    names: str = "*"


@dataclass(frozen=True, slots=True)
class PcieParameters:
    """`width` in lanes and `speed` in GT/s that adapters named `names` must have; 0 is not checked."""

    width: int = 0
    speed: float = 0.0
    names: str = "*"


@dataclass(frozen=True, slots=True)
class CableParameters:
    """`exclude`: interfaces never looked at, globs with commas."""

    exclude: str = ""


@dataclass(frozen=True, slots=True)
class Adapter:
    """`width` in lanes, `speed` in GT/s, 0 where the kernel does not tell."""

    name: str
    firmware: str = ""
    width: int = 0
    speed: float = 0.0


@dataclass(frozen=True, slots=True)
class Adapters:
    adapters: tuple[Adapter, ...]


@dataclass(frozen=True, slots=True)
class Module:
    """A cable's or transceiver's own complaints, in ethtool's words."""

    interface: str
    alarms: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Modules:
    """Modules of interfaces that are up and whose module tells of itself."""

    modules: tuple[Module, ...]


async def gather_adapters(host: Host, _: FirmwareParameters | PcieParameters) -> Adapters:
    names = sorted({port.device for port in rdma.ports(host).ports if not port.is_efa})
    return Adapters(tuple(_adapter(host, name) for name in names))


def _adapter(host: Host, name: str) -> Adapter:
    folder = f"{rdma.CLASS}/{name}"
    return Adapter(
        name,
        firmware=sysfs.text(host, f"{folder}/fw_ver"),
        width=sysfs.number(host, f"{folder}/device/current_link_width"),
        speed=sysfs.quantity(sysfs.text(host, f"{folder}/device/current_link_speed")),
    )


async def gather_modules(host: Host, parameters: CableParameters) -> Modules:
    """Starts ethtool once for each interface of an adapter; none at all where there is no adapter."""
    found = []
    for interface in sorted(_interfaces(host)):
        if sysfs.matches(interface, parameters.exclude):
            continue
        try:
            answer = await host.run(["ethtool", "-m", interface], timeout=ETHTOOL_TIMEOUT)
        except NotFound:
            break
        if answer.code == 0:
            found.append(parse_module(interface, answer.out))
    return Modules(tuple(found))


def _interfaces(host: Host) -> Iterable[str]:
    for path in host.glob(f"{rdma.CLASS}/*/device/net/*/operstate"):
        if sysfs.text(host, path) == "up" and rdma.driver(host, path.split("/")[4]) != "efa":
            yield path.split("/")[-2]


def parse_module(interface: str, text: str) -> Module:
    """Parse `ethtool -m`: lines such as `Laser rx power low alarm (Channel 1) : On`. Thresholds are no flags."""
    pairs = [line.partition(":") for line in text.splitlines()]
    raised = [" ".join(name.split()) for name, _, value in pairs if value.strip() == "On"]
    alarms = tuple(name for name in raised if " alarm" in name)
    return Module(interface, alarms, tuple(name for name in raised if " warning" in name))


def judge_firmware(evidence: Adapters, parameters: FirmwareParameters) -> CheckResult:
    """Firmware that differs from the fleet's behaves differently under load, and nobody looks for it there."""
    ours = [adapter for adapter in evidence.adapters if sysfs.matches(adapter.name, parameters.names)]
    if not ours:
        return CheckResult("ib.firmware", Severity.UNKNOWN, f"no RDMA device is named {parameters.names}")
    wrong = [adapter for adapter in ours if not sysfs.matches(adapter.firmware, parameters.version)]
    if not wrong:
        return CheckResult("ib.firmware", Severity.OK, f"{len(ours)} devices at {parameters.version}")
    shown = sysfs.some(f"{adapter.name}: {adapter.firmware or 'unreadable'}" for adapter in wrong)
    hint = "flash it (flint, mlxfwmanager) and reboot"
    return _drain("ib.firmware", f"{shown}, expected {parameters.version}", wrong[0].name, hint)


def judge_pcie(evidence: Adapters, parameters: PcieParameters) -> CheckResult:
    """A link that trained narrower or slower than it should halves the adapter's bandwidth, or worse."""
    ours = [adapter for adapter in evidence.adapters if sysfs.matches(adapter.name, parameters.names)]
    known = [adapter for adapter in ours if adapter.width]
    if not known:
        return CheckResult("ib.pcie", Severity.UNKNOWN, f"no RDMA device named {parameters.names} shows its PCIe link")
    slow = [adapter for adapter in known if adapter.width < parameters.width or adapter.speed < parameters.speed]
    if not slow:
        return CheckResult("ib.pcie", Severity.OK, f"{len(known)} devices at full width and speed")
    shown = sysfs.some(f"{adapter.name}: x{adapter.width} at {adapter.speed:g} GT/s" for adapter in slow)
    hint = "reboot, then reseat the adapter; lspci -vv shows what both ends can do"
    message = f"{shown}, expected x{parameters.width} at {parameters.speed:g} GT/s"
    return _drain("ib.pcie", message, slow[0].name, hint)


def judge_cable(evidence: Modules, _: CableParameters) -> CheckResult:
    """The module compares temperature, voltage and light with its own limits."""
    alarmed = [module for module in evidence.modules if module.alarms]
    hint = "clean or change the cable or transceiver; ethtool -m shows values and limits"
    if alarmed:
        shown = sysfs.some(f"{module.interface}: {sysfs.some(module.alarms, 2)}" for module in alarmed)
        return _drain("ib.cable", shown, alarmed[0].interface, hint)
    warned = [module for module in evidence.modules if module.warnings]
    if warned:
        shown = sysfs.some(f"{module.interface}: {sysfs.some(module.warnings, 2)}" for module in warned)
        return CheckResult("ib.cable", Severity.WARN, shown, component=warned[0].interface, hint=hint)
    return CheckResult("ib.cable", Severity.OK, f"{len(evidence.modules)} modules within their limits")


def _drain(check: str, message: str, component: str, hint: str) -> CheckResult:
    return CheckResult(check, Severity.CRITICAL, message, Remedy.DRAIN, component=component, hint=hint)


FIRMWARE = Check(
    name="ib.firmware",
    detects="an RDMA adapter with another firmware",
    source="/sys/class/infiniband/*/fw_ver",
    scope=Scope.MACHINE,
    parameters=FirmwareParameters,
    gather=gather_adapters,
    judge=judge_firmware,
    evidence=Adapters,
    applies=lambda parameters: bool(parameters.version),
)

PCIE = Check(
    name="ib.pcie",
    detects="an RDMA adapter whose PCIe link is narrow or slow",
    source="/sys/class/infiniband/*/device/current_link_*",
    scope=Scope.MACHINE,
    parameters=PcieParameters,
    gather=gather_adapters,
    judge=judge_pcie,
    evidence=Adapters,
    applies=lambda parameters: parameters.width > 0 or parameters.speed > 0,
)

CABLE = Check(
    name="ib.cable",
    detects="a cable or transceiver outside its own limits",
    source="ethtool -m",
    scope=Scope.MACHINE,
    parameters=CableParameters,
    gather=gather_modules,
    judge=judge_cable,
    evidence=Modules,
    contexts=frozenset({Context.ACCEPTANCE}),
    timeout=30.0,
)

CHECKS: tuple[AnyCheck, ...] = (FIRMWARE, PCIE, CABLE)
