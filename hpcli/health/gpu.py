"""Checks of GPUs."""

import re
from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.health.check import Check, Scope
from hpcli.ports import Host

_DEVICE = re.compile(r"/dev/nvidia(\d+)")


@dataclass(frozen=True, slots=True)
class GpuCountParameters:
    """`expected`: GPUs of the node; 0 means that it has none and nothing is checked."""

    expected: int = 0


@dataclass(frozen=True, slots=True)
class GpuDevices:
    """Numbers of the GPUs that have a device file."""

    numbers: tuple[int, ...]


async def gather_devices(host: Host, _: GpuCountParameters) -> GpuDevices:
    found = (_DEVICE.fullmatch(path) for path in host.glob("/dev/nvidia[0-9]*"))
    return GpuDevices(tuple(sorted(int(match[1]) for match in found if match)))


def judge_count(evidence: GpuDevices, parameters: GpuCountParameters) -> CheckResult:
    """A GPU without a device file has fallen off the bus; only a boot brings it back, if anything does."""
    found, expected = len(set(evidence.numbers)), parameters.expected
    counts = f"found {found} device file{'' if found == 1 else 's'} /dev/nvidia*, expected {expected}"
    if found > expected:
        hint = "does the node's entry in cluster.yaml say how many GPUs it has?"
        return CheckResult("gpu.count", Severity.WARN, counts, hint=hint)
    if found == expected:
        return CheckResult("gpu.count", Severity.OK, f"{found} GPUs")
    missing = sorted(set(range(expected)) - set(evidence.numbers))
    numbers = ", ".join(map(str, missing))
    return CheckResult(
        "gpu.count",
        Severity.CRITICAL,
        f"GPU {numbers} missing: {counts}",
        Remedy.REBOOT,
        component=",".join(f"gpu{number}" for number in missing),
        hint="look for an Xid in the kernel log; if a reboot does not bring it back, replace the node",
    )


COUNT = Check(
    name="gpu.count",
    detects="a GPU whose device file is missing",
    source="/dev/nvidia*",
    scope=Scope.NODE,
    parameters=GpuCountParameters,
    gather=gather_devices,
    judge=judge_count,
    evidence=GpuDevices,
    applies=lambda parameters: parameters.expected > 0,
    strikes=1,
)
