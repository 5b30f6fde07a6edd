"""Checks of GPUs: heat, clocks and power."""

from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.domain.gpus import GpuHeat
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.health.gpu_readings import GpuFault, conclude, nothing, readings
from hpcli.ports import Host

REASONS = (
    (0x8, "hardware slowdown"),
    (0x20, "software thermal slowdown"),
    (0x40, "hardware thermal slowdown"),
    (0x80, "power brake"),
)
"""Bits of NVML's clocks event reasons that mean a fault (cyclecloud-healthagent: mask 0xE8)."""

CHOSEN = 0x2 | 0x10
"""Bits that mean a clock somebody set: application clocks, sync boost."""


@dataclass(frozen=True, slots=True)
class TemperatureParameters:
    """Degrees Celsius. `warn`: of the GPU (gcm: 84); `memory`: of its memory (sichek: 95).

    `margin`: CRITICAL at this many degrees below the GPU's own slowdown threshold, or fewer (gpud: 0).
    """

    warn: int = 84
    memory: int = 95
    margin: int = 0


@dataclass(frozen=True, slots=True)
class ThrottleParameters:
    """`mask`: clocks event reasons that count (cyclecloud-healthagent: 0xE8 = 232)."""

    mask: int = 0xE8


@dataclass(frozen=True, slots=True)
class ClockParameters:
    """`floor`: MHz of a busy GPU (sichek: 800). `busy`: percent of utilization from which on it counts as such (ours).

    `expected`: MHz that the highest clock must be, 0 is not checked (gcm: 1155 on A100).
    """

    floor: int = 800
    busy: int = 50
    expected: int = 0


@dataclass(frozen=True, slots=True)
class PowerParameters:
    """`percent`: of the power limit, above it is worth a word. `limit`: W that the limit must be. 0 is not checked."""

    percent: float = 0.0
    limit: float = 0.0


@dataclass(frozen=True, slots=True)
class Heats:
    gpus: tuple[GpuHeat, ...]


async def gather_heats(
    host: Host, _: TemperatureParameters | ThrottleParameters | ClockParameters | PowerParameters
) -> Heats:
    return Heats(tuple(gpu.heat for gpu in (await readings(host)).gpus))


def judge_temperature(evidence: Heats, parameters: TemperatureParameters) -> CheckResult:
    """From its slowdown threshold on a GPU halves its clocks, and with them the speed of a whole job."""
    known = [heat.celsius for heat in evidence.gpus if heat.celsius is not None]
    if not known:
        return nothing("gpu.temp", "its temperature")
    faults = [fault for heat in evidence.gpus for fault in _hot(heat, parameters)]
    hint = "fans, inlet temperature and the neighbours' exhaust; nvidia-smi -q -d TEMPERATURE"
    return conclude("gpu.temp", faults, f"{len(known)} GPUs, at most {max(known)} °C", hint)


def _hot(heat: GpuHeat, parameters: TemperatureParameters) -> list[GpuFault]:
    """Older GPUs tell the threshold of their slowdown, newer ones how far it is."""
    if heat.celsius is None:
        return []
    left = heat.slowdown - heat.celsius if heat.slowdown else heat.margin
    if left is not None and left <= parameters.margin:
        text = f"{heat.celsius} °C, {left} °C below its slowdown threshold"
        return [GpuFault(heat.gpu, Severity.CRITICAL, text, Remedy.DRAIN)]
    if heat.celsius >= parameters.warn:
        return [GpuFault(heat.gpu, Severity.WARN, f"{heat.celsius} °C, limit {parameters.warn} °C")]
    limit = heat.memory_max or parameters.memory
    # Boards whose memory has no sensor say 0.
    if 0 < limit <= (heat.memory_celsius or 0):
        return [GpuFault(heat.gpu, Severity.WARN, f"memory {heat.memory_celsius} °C, limit {limit} °C")]
    return []


def judge_throttle(evidence: Heats, parameters: ThrottleParameters) -> CheckResult:
    """A GPU that hardware or heat slows down holds up every other one of its job."""
    told = [(heat.gpu, heat.reasons) for heat in evidence.gpus if heat.reasons is not None]
    if not told:
        return nothing("gpu.throttle", "why its clocks are what they are")
    faults = [
        GpuFault(gpu, Severity.CRITICAL, _reasons(reasons & parameters.mask), Remedy.DRAIN)
        for gpu, reasons in told
        if reasons & parameters.mask
    ]
    hint = "nvidia-smi -q -d PERFORMANCE; power supplies (power brake), cooling (thermal), else the GPU itself"
    return conclude("gpu.throttle", faults, f"{len(told)} GPUs not slowed down", hint)


def _reasons(bits: int) -> str:
    names = [name for bit, name in REASONS if bits & bit]
    rest = bits & ~sum(bit for bit, _ in REASONS)
    return ", ".join(names + ([f"reasons {rest:#x}"] if rest else []))


def judge_clock(evidence: Heats, parameters: ClockParameters) -> CheckResult:
    """A busy GPU that stays slow is broken, unless somebody set its clocks."""
    told = [heat for heat in evidence.gpus if heat.sm_clock is not None]
    if not told:
        return nothing("gpu.clock", "its clocks")
    faults = [fault for heat in told for fault in _slow(heat, parameters)]
    hint = "nvidia-smi -q -d CLOCK,PERFORMANCE; nvidia-smi -rac -i GPU undoes clocks that somebody set"
    return conclude("gpu.clock", faults, f"{len(told)} GPUs as fast as they should be", hint)


def _slow(heat: GpuHeat, parameters: ClockParameters) -> list[GpuFault]:
    clock, most = heat.sm_clock or 0, heat.sm_clock_max or 0
    if 0 < most < parameters.expected:
        text = f"highest clock {most} MHz, expected {parameters.expected} MHz"
        return [GpuFault(heat.gpu, Severity.CRITICAL, text, Remedy.DRAIN)]
    # A small GPU's full speed may be below the floor.
    floor = min(parameters.floor, most // 2) if most else parameters.floor
    if clock >= floor or (heat.utilization or 0) < parameters.busy:
        return []
    text = f"{clock} MHz while {heat.utilization} % busy, expected at least {floor} MHz"
    if (heat.reasons or 0) & CHOSEN:
        return [GpuFault(heat.gpu, Severity.WARN, f"{text}: set so")]
    return [GpuFault(heat.gpu, Severity.CRITICAL, text, Remedy.DRAIN)]


def judge_power(evidence: Heats, parameters: PowerParameters) -> CheckResult:
    """Power costs no node; it explains slow ones."""
    told = [heat for heat in evidence.gpus if heat.power is not None and heat.power_limit]
    if not told:
        return nothing("gpu.power", "its power")
    faults = [fault for heat in told for fault in _power(heat, parameters)]
    total = sum(heat.power or 0.0 for heat in told)
    return conclude("gpu.power", faults, f"{len(told)} GPUs draw {total:.0f} W", "nvidia-smi -q -d POWER")


def _power(heat: GpuHeat, parameters: PowerParameters) -> list[GpuFault]:
    power, limit = heat.power or 0.0, heat.power_limit or 0.0
    if limit < parameters.limit:
        return [GpuFault(heat.gpu, Severity.WARN, f"power limit {limit:.0f} W, expected {parameters.limit:.0f} W")]
    if parameters.percent and power > limit * parameters.percent / 100:
        return [GpuFault(heat.gpu, Severity.WARN, f"{power:.0f} W of {limit:.0f} W")]
    return []


TEMPERATURE = Check(
    name="gpu.temp",
    detects="a GPU too hot for its full speed",
    source="NVML",
    scope=Scope.NODE,
    parameters=TemperatureParameters,
    gather=gather_heats,
    judge=judge_temperature,
    evidence=Heats,
    strikes=3,
)

THROTTLE = Check(
    name="gpu.throttle",
    detects="a GPU slowed down by its hardware or by heat",
    source="NVML",
    scope=Scope.NODE,
    parameters=ThrottleParameters,
    gather=gather_heats,
    judge=judge_throttle,
    evidence=Heats,
    # A peak of load slows a GPU for moments; a minute of it at the default interval is a fault (ours).
    strikes=6,
)

CLOCK = Check(
    name="gpu.clock",
    detects="a busy GPU with low clocks",
    source="NVML",
    scope=Scope.NODE,
    parameters=ClockParameters,
    gather=gather_heats,
    judge=judge_clock,
    evidence=Heats,
    # sichek waits for 15 minutes of it: 90 samples at the default interval.
    strikes=90,
)

POWER = Check(
    name="gpu.power",
    detects="a GPU at its power limit, or with another limit than expected",
    source="NVML",
    scope=Scope.NODE,
    parameters=PowerParameters,
    gather=gather_heats,
    judge=judge_power,
    evidence=Heats,
    applies=lambda parameters: parameters.percent > 0 or parameters.limit > 0,
)

CHECKS: tuple[AnyCheck, ...] = (TEMPERATURE, THROTTLE, CLOCK, POWER)
