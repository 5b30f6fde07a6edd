"""What all checks of GPUs share: the readings of a node, and one result from several GPUs' faults."""

from collections.abc import Sequence
from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.domain.gpus import Driver, Gpus
from hpcli.errors import Unreachable
from hpcli.ports import Host

SHOWN = 4
"""GPUs named in one message; a node has up to 16."""

ABSENT = frozenset({Driver.MISSING, Driver.UNBOUND, Driver.FOREIGN})
"""Nothing to read here. On a node that should have GPUs that is gpu.driver's matter."""

_SEVERITIES = (Severity.OK, Severity.UNKNOWN, Severity.WARN, Severity.CRITICAL)
_REMEDIES = tuple(Remedy)


@dataclass(frozen=True, slots=True)
class NoParameters:
    """There is nothing to set."""


@dataclass(frozen=True, slots=True)
class GpuFault:
    """What is wrong with one GPU. `remedy` counts only when it is CRITICAL."""

    gpu: int
    severity: Severity
    text: str
    remedy: Remedy = Remedy.NONE


async def readings(host: Host) -> Gpus:
    """The GPUs that the driver lists; none where there is no driver. Raises `Unreachable` when it cannot be asked."""
    found = await host.nvml()
    if found.driver is not Driver.RUNNING and found.driver not in ABSENT:
        raise Unreachable("nvml", found.why)
    return found


def conclude(check: str, faults: Sequence[GpuFault], healthy: str, hint: str) -> CheckResult:
    """The worst severity decides, the GPUs that have it are named, and the strongest of their remedies counts."""
    if not faults:
        return CheckResult(check, Severity.OK, healthy)
    severity = max((fault.severity for fault in faults), key=_SEVERITIES.index)
    worst = [fault for fault in faults if fault.severity is severity]
    remedy = max((fault.remedy for fault in worst), key=_REMEDIES.index)
    texts = [f"{name_of(fault.gpu)}: {fault.text}" for fault in worst[:SHOWN]]
    more = [f"and {len(worst) - SHOWN} more GPUs"] if len(worst) > SHOWN else []
    return CheckResult(
        check,
        severity,
        "; ".join(texts + more),
        remedy,
        component=",".join(name_of(fault.gpu) for fault in worst),
        hint=hint,
    )


def name_of(gpu: int) -> str:
    """As nvidia-smi numbers them."""
    return f"gpu{gpu}"


def nothing(check: str, what: str) -> CheckResult:
    """The result where no GPU tells what the check looks at."""
    return CheckResult(check, Severity.OK, f"nothing to check: no GPU here reports {what}")
