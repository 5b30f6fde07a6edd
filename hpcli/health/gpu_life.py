"""Checks of GPUs: whether driver and GPUs are there and answer."""

from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.domain.gpus import Driver, GpuLife, Loss
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.health.gpu_readings import ABSENT, GpuFault, NoParameters, conclude, nothing, readings
from hpcli.ports import Host

KERNEL_MODULE = "/proc/driver/nvidia/version"
BUS = "/sys/bus/pci/drivers/nvidia/*:*"

EXTRA = "install hpcli with its extra: pip install 'hpcli-slurm[gpu]'"

RECOVERY = {
    1: ("a reset of the GPU", Severity.CRITICAL, Remedy.RESET),
    2: ("a reboot of the node", Severity.CRITICAL, Remedy.REBOOT),
    3: ("that peer-to-peer traffic ends", Severity.WARN, Remedy.NONE),
    4: ("that jobs end, then a reset of the GPU", Severity.CRITICAL, Remedy.DRAIN),
    5: ("that the IMEX domain recovers", Severity.WARN, Remedy.NONE),
    6: ("a reset of its bus", Severity.CRITICAL, Remedy.RESET),
    7: ("a reboot of the system", Severity.CRITICAL, Remedy.REBOOT),
}
"""By nvmlDeviceGpuRecoveryAction_t (nvml.h); cyclecloud-healthagent takes 1, 2 and 4 for errors, 3 for a warning."""


@dataclass(frozen=True, slots=True)
class DriverParameters:
    """`expected`: GPUs of the node, 0 if it has none. `version`: the driver's, "" is not checked."""

    expected: int = 0
    version: str = ""


@dataclass(frozen=True, slots=True)
class HangParameters:
    """`limit`: seconds that NVML may take to answer (health.md, ours)."""

    limit: float = 30.0


@dataclass(frozen=True, slots=True)
class LostParameters:
    """`expected`: GPUs of the node, 0 is not counted."""

    expected: int = 0


@dataclass(frozen=True, slots=True)
class DriverState:
    """`module`: the kernel has a driver loaded. `waited`: seconds since the first question without an answer."""

    driver: Driver
    why: str
    waited: float
    version: str
    module: bool


@dataclass(frozen=True, slots=True)
class Lives:
    """`driver`: whether there is one. `bus`: PCI addresses that the kernel's driver is bound to."""

    driver: bool
    bus: tuple[str, ...]
    gpus: tuple[GpuLife, ...]


async def gather_driver(host: Host, _: DriverParameters | HangParameters) -> DriverState:
    found = await host.nvml()
    return DriverState(found.driver, found.why, found.waited, found.version, bool(host.glob(KERNEL_MODULE)))


async def gather_lives(host: Host, _: LostParameters | NoParameters) -> Lives:
    found = await readings(host)
    bus = tuple(path.rsplit("/", 1)[1] for path in host.glob(BUS))
    return Lives(found.driver not in ABSENT, bus, tuple(gpu.life for gpu in found.gpus))


def judge_driver(evidence: DriverState, parameters: DriverParameters) -> CheckResult:
    """A GPU node without a driver fails every job that asks for a GPU; jobs that do not may finish."""
    if evidence.driver == Driver.RUNNING:
        return _judge_version(evidence.version, parameters.version)
    if evidence.driver == Driver.FOREIGN or not parameters.expected:
        return CheckResult("gpu.driver", Severity.OK, f"nothing to check: {evidence.why}")
    # Without nvidia-ml-py nobody can ask the driver, but the kernel tells whether there is one.
    absent = evidence.driver == Driver.UNBOUND and not evidence.module
    if not absent and evidence.driver not in (Driver.MISSING, Driver.FAILING):
        hint = EXTRA if evidence.driver == Driver.UNBOUND else ""
        return CheckResult("gpu.driver", Severity.UNKNOWN, f"could not be checked: {evidence.why}", hint=hint)
    why = "no NVIDIA driver is loaded" if absent else evidence.why
    message = f"{why}; expected {parameters.expected} GPUs with a running driver"
    hint = "nvidia-smi; lsmod | grep nvidia; after a driver upgrade the node needs a reboot"
    return CheckResult("gpu.driver", Severity.CRITICAL, message, Remedy.DRAIN, hint=hint)


def _judge_version(found: str, expected: str) -> CheckResult:
    if expected in ("", found):
        return CheckResult("gpu.driver", Severity.OK, f"driver {found}")
    message = f"found driver {found}, expected {expected}"
    hint = "install the expected driver on the drained node and reboot it"
    return CheckResult("gpu.driver", Severity.CRITICAL, message, Remedy.DRAIN, hint=hint)


def judge_hang(evidence: DriverState, parameters: HangParameters) -> CheckResult:
    """Jobs whose GPU's driver hangs do not go on either, and only a boot ends a call that the kernel holds."""
    if evidence.driver != Driver.SILENT:
        return CheckResult("gpu.hang", Severity.OK, "NVML answers" if evidence.driver == Driver.RUNNING else "no NVML")
    message = f"NVML has not answered for {evidence.waited:.0f} s, limit {parameters.limit:g} s"
    if evidence.waited < parameters.limit:
        return CheckResult("gpu.hang", Severity.UNKNOWN, message)
    hint = "processes in state D and the kernel log tell where the driver hangs; reboot the node"
    return CheckResult("gpu.hang", Severity.CRITICAL, message, Remedy.REBOOT, hint=hint)


def judge_lost(evidence: Lives, parameters: LostParameters) -> CheckResult:
    """A lost GPU comes back after a boot, if at all; one that only needs a reset says so."""
    if not evidence.driver:
        return CheckResult("gpu.lost", Severity.OK, "nothing to check: no NVIDIA driver")
    hint = "look for an Xid in the kernel log; if a reboot does not bring it back, replace the node"
    found, expected = len(evidence.gpus), parameters.expected
    if found < expected:
        bus = f", {len(evidence.bus)} are on the PCI bus" if evidence.bus else ""
        message = f"the driver lists {found} GPUs{bus}, expected {expected}"
        return CheckResult("gpu.lost", Severity.CRITICAL, message, Remedy.REBOOT, hint=hint)
    faults = [fault for fault in map(_loss, evidence.gpus) if fault]
    return conclude("gpu.lost", faults, f"{found} GPUs answer", hint)


def _loss(life: GpuLife) -> GpuFault | None:
    where = f" ({life.pci})" if life.pci else ""
    if life.loss == Loss.LOST:
        return GpuFault(life.gpu, Severity.CRITICAL, f"lost{where}", Remedy.REBOOT)
    if life.loss == Loss.RESET_REQUIRED:
        return GpuFault(life.gpu, Severity.CRITICAL, f"needs a reset{where}", Remedy.RESET)
    if life.failed:
        return GpuFault(life.gpu, Severity.WARN, f"NVML calls fail{where}: {', '.join(life.failed)}")
    return None


def judge_recovery(evidence: Lives, _: NoParameters) -> CheckResult:
    """The driver knows best what brings a GPU back."""
    told = [life for life in evidence.gpus if life.recovery_action is not None]
    if not told:
        return nothing("gpu.recovery_action", "a recovery action")
    faults = [fault for fault in map(_recovery, told) if fault]
    hint = "nvidia-smi -q -i GPU shows it as GPU Recovery Action"
    return conclude("gpu.recovery_action", faults, f"{len(told)} GPUs ask for nothing", hint)


def _recovery(life: GpuLife) -> GpuFault | None:
    if not life.recovery_action:
        return None
    unknown = (f"recovery action {life.recovery_action}, which we do not know", Severity.WARN, Remedy.NONE)
    text, severity, remedy = RECOVERY.get(life.recovery_action, unknown)
    return GpuFault(life.gpu, severity, f"the driver asks for {text}", remedy)


def judge_inforom(evidence: Lives, _: NoParameters) -> CheckResult:
    """A GPU whose InfoROM is damaged has lost its serial number, settings and error history."""
    told = [life for life in evidence.gpus if life.inforom_ok is not None]
    if not told:
        return nothing("gpu.inforom", "the state of its InfoROM")
    damaged = [life.gpu for life in told if not life.inforom_ok]
    faults = [GpuFault(gpu, Severity.CRITICAL, "corrupt InfoROM", Remedy.REPLACE) for gpu in damaged]
    hint = "nvidia-smi -q -i GPU; return it to its vendor"
    return conclude("gpu.inforom", faults, f"{len(told)} InfoROMs valid", hint)


DRIVER = Check(
    name="gpu.driver",
    detects="a GPU node whose driver is missing, broken or of another version",
    source="NVML, /proc/driver/nvidia/version",
    scope=Scope.NODE,
    parameters=DriverParameters,
    gather=gather_driver,
    judge=judge_driver,
    evidence=DriverState,
    applies=lambda parameters: parameters.expected > 0 or parameters.version != "",
)

HANG = Check(
    name="gpu.hang",
    detects="a driver that does not answer",
    source="the age of an open question to NVML",
    scope=Scope.NODE,
    parameters=HangParameters,
    gather=gather_driver,
    judge=judge_hang,
    evidence=DriverState,
    strikes=1,
)

LOST = Check(
    name="gpu.lost",
    detects="a GPU that fell off the bus or cannot be used without a reset",
    source="NVML, /sys/bus/pci/drivers/nvidia",
    scope=Scope.NODE,
    parameters=LostParameters,
    gather=gather_lives,
    judge=judge_lost,
    evidence=Lives,
    strikes=1,
)

RECOVERY_ACTION = Check(
    name="gpu.recovery_action",
    detects="a GPU for which the driver asks for a reset or a reboot",
    source="NVML",
    scope=Scope.NODE,
    parameters=NoParameters,
    gather=gather_lives,
    judge=judge_recovery,
    evidence=Lives,
)

INFOROM = Check(
    name="gpu.inforom",
    detects="a GPU whose InfoROM is damaged",
    source="NVML",
    scope=Scope.NODE,
    parameters=NoParameters,
    gather=gather_lives,
    judge=judge_inforom,
    evidence=Lives,
)

CHECKS: tuple[AnyCheck, ...] = (DRIVER, HANG, LOST, RECOVERY_ACTION, INFOROM)
