"""Checks of GPUs: PCI Express."""

from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.domain.gpus import GpuPcie
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.health.gpu_readings import GpuFault, conclude, nothing, readings
from hpcli.ports import Host


@dataclass(frozen=True, slots=True)
class PcieParameters:
    """`busy`: percent of utilization from which on the generation counts; an idle GPU slows its link down (ours)."""

    busy: int = 10


@dataclass(frozen=True, slots=True)
class ReplayParameters:
    """`rate`: replays a minute (health.md, ours)."""

    rate: float = 8.0


@dataclass(frozen=True, slots=True)
class Slots:
    """`taken`: seconds of a clock that only goes forward."""

    taken: float
    gpus: tuple[GpuPcie, ...]


async def gather_slots(host: Host, _: PcieParameters | ReplayParameters) -> Slots:
    found = await readings(host)
    return Slots(found.taken, tuple(gpu.pcie for gpu in found.gpus))


def judge_pcie(evidence: Slots, parameters: PcieParameters) -> CheckResult:
    """A link that trained down slows every copy; a boot trains it anew, else card or slot is to be looked at."""
    told = [pcie for pcie in evidence.gpus if pcie.width and pcie.width_max]
    if not told:
        return nothing("gpu.pcie", "its PCIe link")
    faults = [fault for pcie in told for fault in _narrow(pcie, parameters)]
    hint = "lspci -vv -s ADDRESS (LnkSta); reboot the drained node, then reseat the card"
    return conclude("gpu.pcie", faults, f"{len(told)} links at full width", hint)


def _narrow(pcie: GpuPcie, parameters: PcieParameters) -> list[GpuFault]:
    width, most = pcie.width or 0, pcie.width_max or 0
    if width < most:
        return [GpuFault(pcie.gpu, Severity.CRITICAL, f"PCIe link x{width}, expected x{most}", Remedy.DRAIN)]
    generation, best = pcie.generation or 0, pcie.generation_max or 0
    if 0 < generation < best and (pcie.utilization or 0) >= parameters.busy:
        text = f"PCIe link of generation {generation} while busy, expected {best}"
        return [GpuFault(pcie.gpu, Severity.CRITICAL, text, Remedy.DRAIN)]
    return []


def judge_replays(evidence: Slots, _: ReplayParameters) -> CheckResult:
    """One sample says little: old replays may be of the link's training."""
    told = [pcie.replays for pcie in evidence.gpus if pcie.replays is not None]
    if not told:
        return nothing("gpu.pcie_replay", "PCIe replays")
    return CheckResult("gpu.pcie_replay", Severity.OK, f"{sum(told)} replays since the driver was loaded")


def judge_replay_change(before: Slots, now: Slots, parameters: ReplayParameters) -> CheckResult:
    """Replays are repeated packets: the link works, but not well."""
    minutes = (now.taken - before.taken) / 60
    old = {pcie.gpu: pcie.replays for pcie in before.gpus if pcie.replays is not None}
    if minutes <= 0 or not old:
        return judge_replays(now, parameters)
    faults = []
    for pcie in now.gpus:
        rate = ((pcie.replays or 0) - old.get(pcie.gpu, pcie.replays or 0)) / minutes
        if rate > parameters.rate:
            text = f"{rate:.0f} PCIe replays a minute, limit {parameters.rate:g}"
            faults.append(GpuFault(pcie.gpu, Severity.WARN, text))
    healthy = judge_replays(now, parameters).message
    return conclude("gpu.pcie_replay", faults, healthy, "reseat the card; look for AER lines in the kernel log")


PCIE = Check(
    name="gpu.pcie",
    detects="a GPU whose PCIe link is narrow or slow",
    source="NVML",
    scope=Scope.NODE,
    parameters=PcieParameters,
    gather=gather_slots,
    judge=judge_pcie,
    evidence=Slots,
)

REPLAY = Check(
    name="gpu.pcie_replay",
    detects="a PCIe link that repeats packets",
    source="NVML",
    scope=Scope.NODE,
    parameters=ReplayParameters,
    gather=gather_slots,
    judge=judge_replays,
    judge_change=judge_replay_change,
    evidence=Slots,
)

CHECKS: tuple[AnyCheck, ...] = (PCIE, REPLAY)
