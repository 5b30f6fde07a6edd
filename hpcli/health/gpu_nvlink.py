"""Checks of GPUs: NVLink and the fabric that it makes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.domain.gpus import GpuNvlink
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.health.gpu_readings import GpuFault, NoParameters, conclude, nothing, readings
from hpcli.ports import Host

NOT_SUPPORTED, COMPLETED = 0, 3
"""nvmlGpuFabricState_t."""

DEGRADED = (
    (0, "degraded bandwidth"),
    (2, "route recovery"),
    (4, "an unhealthy route"),
    (6, "recovery from an access timeout"),
)
"""Two bits each of the fabric's health mask, from this bit on; 1 is true (nvml.h: NVML_GPU_FABRIC_HEALTH_MASK_*)."""

STATES = {1: "not started", 2: "in progress"}


@dataclass(frozen=True, slots=True)
class DownParameters:
    """`expected`: active links of each GPU (sichek: 18 on H100); 0: as many as most GPUs of the node have."""

    expected: int = 0


@dataclass(frozen=True, slots=True)
class ErrorParameters:
    """Between two samples, a minute: `recoveries` of a GPU's links (ours), `errors` of CRC and replays (ours).

    gcm allows none at all; the links correct both, so single ones are worth a word and many a drain.
    """

    recoveries: float = 1.0
    errors: float = 100.0


@dataclass(frozen=True, slots=True)
class RateParameters:
    """`limit`: effective bit error rate (cyclecloud-healthagent: 1e-6)."""

    limit: float = 1e-6


@dataclass(frozen=True, slots=True)
class Links:
    """`taken`: seconds of a clock that only goes forward."""

    taken: float
    gpus: tuple[GpuNvlink, ...]


async def gather_links(host: Host, _: DownParameters | ErrorParameters | RateParameters | NoParameters) -> Links:
    found = await readings(host)
    return Links(found.taken, tuple(gpu.nvlink for gpu in found.gpus))


def judge_down(evidence: Links, parameters: DownParameters) -> CheckResult:
    """Boards differ in how many links are wired, so without an expectation the GPUs of a node are compared."""
    told = [link for link in evidence.gpus if link.active]
    if not told:
        return nothing("gpu.nvlink_down", "NVLinks")
    faults = []
    for link in told:
        found, expected = sum(link.active), parameters.expected or _usual(told, link.model)
        if found < expected:
            down = ", ".join(str(number) for number, active in enumerate(link.active) if not active)
            text = f"{found} NVLinks active, expected {expected} (down: {down or 'none listed'})"
            faults.append(GpuFault(link.gpu, Severity.CRITICAL, text, Remedy.RESET))
    hint = "nvidia-smi nvlink -s; reset all GPUs of the node together, then look at the fabric manager and the board"
    return conclude("gpu.nvlink_down", faults, f"{sum(map(_active, told))} NVLinks active", hint)


def _active(link: GpuNvlink) -> int:
    return sum(link.active)


def _usual(links: list[GpuNvlink], model: str | None) -> int:
    """Active links of more than half of the GPUs of this model; 0 when they do not agree that far."""
    counts = [sum(link.active) for link in links if link.model == model]
    count, times = Counter(counts).most_common(1)[0]
    return count if times * 2 > len(counts) else 0


def judge_errors(evidence: Links, _: ErrorParameters) -> CheckResult:
    """One sample says little: old errors may be of the links' training."""
    told = [link for link in evidence.gpus if _errors(link) is not None or link.recoveries is not None]
    if not told:
        return nothing("gpu.nvlink_err", "NVLink errors")
    total = sum((_errors(link) or 0) + (link.recoveries or 0) for link in told)
    return CheckResult("gpu.nvlink_err", Severity.OK, f"{total} NVLink errors since the driver was loaded")


def judge_error_change(before: Links, now: Links, parameters: ErrorParameters) -> CheckResult:
    minutes = (now.taken - before.taken) / 60
    old = {link.gpu: link for link in before.gpus}
    pairs = [(old[link.gpu], link) for link in now.gpus if link.gpu in old]
    if minutes <= 0 or not pairs:
        return judge_errors(now, parameters)
    faults = [fault for was, link in pairs for fault in _rising(was, link, minutes, parameters)]
    hint = "nvidia-smi nvlink -e tells the link; reset the GPUs, then reseat them or replace the board"
    return conclude("gpu.nvlink_err", faults, judge_errors(now, parameters).message, hint)


def _rising(was: GpuNvlink, link: GpuNvlink, minutes: float, parameters: ErrorParameters) -> list[GpuFault]:
    errors = _rise(was, link, _errors)
    recoveries = _rise(was, link, lambda found: found.recoveries)
    if not errors and not recoveries:
        return []
    text = f"{recoveries} recoveries and {errors} other NVLink errors in {minutes * 60:.0f} s"
    if recoveries / minutes > parameters.recoveries or errors / minutes > parameters.errors:
        return [GpuFault(link.gpu, Severity.CRITICAL, text, Remedy.DRAIN)]
    return [GpuFault(link.gpu, Severity.WARN, text)]


def _rise(was: GpuNvlink, link: GpuNvlink, value: Callable[[GpuNvlink], int | None]) -> int:
    """Counters begin anew after a reset, and drop when a link goes: then nothing is known of the time between."""
    old, new = value(was), value(link)
    return 0 if old is None or new is None else max(0, new - old)


def _errors(link: GpuNvlink) -> int | None:
    known = [count for count in (link.crc, link.replays) if count is not None]
    return sum(known) if known else None


def judge_rate(evidence: Links, parameters: RateParameters) -> CheckResult:
    told = [(link.gpu, link.worst_ber) for link in evidence.gpus if link.worst_ber is not None]
    if not told:
        return nothing("gpu.nvlink_ber", "NVLink bit error rates")
    faults = [
        GpuFault(gpu, Severity.WARN, f"bit error rate {rate:.0e} on an NVLink, limit {parameters.limit:g}")
        for gpu, rate in told
        if rate > parameters.limit
    ]
    hint = "a worn or dirty connector: watch gpu.nvlink_err, and reseat the GPU at the next service"
    return conclude("gpu.nvlink_ber", faults, f"at most {max(rate for _, rate in told):.0e}", hint)


def judge_fabric(evidence: Links, _: NoParameters) -> CheckResult:
    """Without the fabric CUDA does not start on GPUs behind NVSwitches."""
    told = [link for link in evidence.gpus if link.fabric_state not in (None, NOT_SUPPORTED)]
    if not told:
        return nothing("gpu.fabric", "an NVLink fabric")
    faults = [fault for link in told for fault in _unready(link)]
    hint = "systemctl status nvidia-fabricmanager; its version must be the driver's"
    return conclude("gpu.fabric", faults, f"{len(told)} GPUs in the fabric", hint)


def _unready(link: GpuNvlink) -> list[GpuFault]:
    state, status = link.fabric_state or 0, link.fabric_status or 0
    if state != COMPLETED:
        text = f"fabric {STATES.get(state, f'in state {state}')}, expected completed"
        return [GpuFault(link.gpu, Severity.CRITICAL, text, Remedy.DRAIN)]
    if status:
        text = f"joining the fabric failed with NVML error {status}"
        return [GpuFault(link.gpu, Severity.CRITICAL, text, Remedy.DRAIN)]
    mask = link.fabric_health or 0
    signs = [name for shift, name in DEGRADED if (mask >> shift) & 0x3 == 1]
    return [GpuFault(link.gpu, Severity.WARN, f"fabric with {', '.join(signs)}")] if signs else []


DOWN = Check(
    name="gpu.nvlink_down",
    detects="an NVLink that is down",
    source="NVML",
    scope=Scope.NODE,
    parameters=DownParameters,
    gather=gather_links,
    judge=judge_down,
    evidence=Links,
)

ERRORS = Check(
    name="gpu.nvlink_err",
    detects="NVLinks that repeat packets or recover",
    source="NVML",
    scope=Scope.NODE,
    parameters=ErrorParameters,
    gather=gather_links,
    judge=judge_errors,
    judge_change=judge_error_change,
    evidence=Links,
    strikes=3,
)

RATE = Check(
    name="gpu.nvlink_ber",
    detects="NVLinks with many bit errors",
    source="NVML",
    scope=Scope.NODE,
    parameters=RateParameters,
    gather=gather_links,
    judge=judge_rate,
    evidence=Links,
)

FABRIC = Check(
    name="gpu.fabric",
    detects="GPUs that have not joined the NVLink fabric",
    source="NVML",
    scope=Scope.NODE,
    parameters=NoParameters,
    gather=gather_links,
    judge=judge_fabric,
    evidence=Links,
    # Joining takes a while after the driver was loaded.
    strikes=6,
)

CHECKS: tuple[AnyCheck, ...] = (DOWN, ERRORS, RATE, FABRIC)
