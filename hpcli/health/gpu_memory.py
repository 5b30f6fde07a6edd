"""Checks of GPUs: errors of their memory, and what was taken out of use for them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.domain.gpus import GpuMemory
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.health.gpu_readings import GpuFault, NoParameters, conclude, nothing, readings
from hpcli.ports import Host


@dataclass(frozen=True, slots=True)
class UncorrectedParameters:
    """`limit`: uncorrected errors since the driver was loaded that are still fine (gcm, Azure's NHC: none)."""

    limit: int = 0


@dataclass(frozen=True, slots=True)
class SramParameters:
    """Uncorrected SRAM errors in the GPU's life: above `warn` (Azure's NHC: 0), above `critical` (sichek: 4)."""

    warn: int = 0
    critical: int = 4


@dataclass(frozen=True, slots=True)
class CorrectedParameters:
    """Corrected errors since the driver was loaded that are worth a word (Azure's NHC)."""

    dram: int = 20_000_000
    sram: int = 10_000


@dataclass(frozen=True, slots=True)
class RowCountParameters:
    """`limit`: rows remapped for uncorrectable errors (Azure's NHC, sichek: 512, what an HBM bank group has)."""

    limit: int = 512


@dataclass(frozen=True, slots=True)
class PageParameters:
    """Retired pages: above `warn` (gcm: 10), from `critical` on (Azure's NHC: 62 of the 64 that fit)."""

    warn: int = 10
    critical: int = 62


@dataclass(frozen=True, slots=True)
class Memories:
    gpus: tuple[GpuMemory, ...]


AnyParameters = (
    UncorrectedParameters | SramParameters | CorrectedParameters | RowCountParameters | PageParameters | NoParameters
)


async def gather_memories(host: Host, _: AnyParameters) -> Memories:
    return Memories(tuple(gpu.memory for gpu in (await readings(host)).gpus))


def _told(evidence: Memories, value: Callable[[GpuMemory], int | None]) -> list[tuple[int, int]]:
    """GPU and value, of those that tell it."""
    pairs = ((memory.gpu, value(memory)) for memory in evidence.gpus)
    return [(gpu, found) for gpu, found in pairs if found is not None]


def _critical(gpus: Iterable[int], text: str, remedy: Remedy) -> list[GpuFault]:
    return [GpuFault(gpu, Severity.CRITICAL, text, remedy) for gpu in gpus]


def judge_uncorrected(evidence: Memories, parameters: UncorrectedParameters) -> CheckResult:
    """Data was lost: what runs there cannot be trusted, and a reset is needed before the next job."""
    told = _told(evidence, lambda memory: memory.volatile_uncorrected)
    if not told:
        return nothing("gpu.ecc_ue_vol", "ECC errors")
    faults = [
        GpuFault(gpu, Severity.CRITICAL, f"{count} uncorrected memory errors since the driver was loaded", Remedy.RESET)
        for gpu, count in told
        if count > parameters.limit
    ]
    hint = "nvidia-smi -q -d ECC,ROW_REMAPPER; reset the GPU, and test it before it returns"
    return conclude("gpu.ecc_ue_vol", faults, f"no uncorrected errors on {len(told)} GPUs", hint)


def judge_sram(evidence: Memories, parameters: SramParameters) -> CheckResult:
    """SRAM has no spare rows: what fails there twice fails again."""
    told = _told(evidence, lambda memory: memory.aggregate_uncorrected_sram)
    if not told:
        return nothing("gpu.ecc_sram_ue_agg", "SRAM errors")
    faults = []
    for gpu, count in told:
        text = f"{count} uncorrected SRAM errors in its life, limit {parameters.critical}"
        if count > parameters.critical:
            faults.append(GpuFault(gpu, Severity.CRITICAL, text, Remedy.REPLACE))
        elif count > parameters.warn:
            faults.append(GpuFault(gpu, Severity.WARN, text))
    hint = "nvidia-smi -q -d ECC; the GPU is to be replaced once it is over the limit"
    return conclude("gpu.ecc_sram_ue_agg", faults, f"no uncorrected SRAM errors on {len(told)} GPUs", hint)


def judge_corrected(evidence: Memories, parameters: CorrectedParameters) -> CheckResult:
    """Corrected errors cost nothing; many of them foretell others."""
    dram = _told(evidence, lambda memory: memory.volatile_corrected_dram)
    sram = _told(evidence, lambda memory: memory.volatile_corrected_sram)
    if not dram and not sram:
        return nothing("gpu.ecc_ce", "corrected errors")
    limits = ((dram, "DRAM", parameters.dram), (sram, "SRAM", parameters.sram))
    faults = [
        GpuFault(gpu, Severity.WARN, f"{count} corrected {kind} errors, limit {limit}")
        for told, kind, limit in limits
        for gpu, count in told
        if count > limit
    ]
    hint = "nvidia-smi -q -d ECC; watch the GPU for uncorrected errors"
    return conclude("gpu.ecc_ce", faults, f"{sum(count for _, count in dram + sram)} corrected errors", hint)


def judge_pending(evidence: Memories, _: NoParameters) -> CheckResult:
    """The bad row is fenced off and takes its spare at the next reset: jobs may finish first."""
    told = _told(evidence, lambda memory: memory.rows_pending)
    if not told:
        return nothing("gpu.remap_pending", "remapped rows")
    waiting = [gpu for gpu, pending in told if pending]
    faults = _critical(waiting, "a row waits for a reset to be remapped", Remedy.DRAIN)
    hint = "when the node is drained: nvidia-smi --gpu-reset -i GPU, or reboot it"
    return conclude("gpu.remap_pending", faults, f"no row waits on {len(told)} GPUs", hint)


def judge_failed(evidence: Memories, _: NoParameters) -> CheckResult:
    """No spare row is left where one is needed."""
    told = _told(evidence, lambda memory: memory.rows_failed)
    if not told:
        return nothing("gpu.remap_failed", "remapped rows")
    faults = _critical([gpu for gpu, failed in told if failed], "a row could not be remapped", Remedy.REPLACE)
    hint = "nvidia-smi -q -d ROW_REMAPPER; the GPU is to be replaced"
    return conclude("gpu.remap_failed", faults, f"no remapping failed on {len(told)} GPUs", hint)


def judge_rows(evidence: Memories, parameters: RowCountParameters) -> CheckResult:
    told = _told(evidence, lambda memory: memory.rows_uncorrected)
    if not told:
        return nothing("gpu.remap_count", "remapped rows")
    faults = [
        GpuFault(gpu, Severity.CRITICAL, f"{count} rows remapped, limit {parameters.limit}", Remedy.REPLACE)
        for gpu, count in told
        if count > parameters.limit
    ]
    hint = "nvidia-smi -q -d ROW_REMAPPER; the GPU is to be replaced"
    most = max(count for _, count in told)
    return conclude("gpu.remap_count", faults, f"at most {most} rows remapped on {len(told)} GPUs", hint)


def judge_pages(evidence: Memories, parameters: PageParameters) -> CheckResult:
    """GPUs before Ampere retire whole pages, of which they can list 64."""
    faults, told = [], 0
    for memory in evidence.gpus:
        if memory.pages_single is None and memory.pages_double is None:
            continue
        told += 1
        count = (memory.pages_single or 0) + (memory.pages_double or 0)
        text = f"{count} pages retired, limit {parameters.critical}"
        if count >= parameters.critical:
            faults.append(GpuFault(memory.gpu, Severity.CRITICAL, text, Remedy.DRAIN))
        elif memory.pages_pending:
            faults.append(GpuFault(memory.gpu, Severity.WARN, "a page waits for a reset to be retired"))
        elif count > parameters.warn:
            faults.append(GpuFault(memory.gpu, Severity.WARN, text))
    if not told:
        return nothing("gpu.retired_pages", "retired pages")
    hint = "nvidia-smi -q -d PAGE_RETIREMENT; reset the GPU when idle, replace it at the limit"
    return conclude("gpu.retired_pages", faults, f"few pages retired on {told} GPUs", hint)


UNCORRECTED = Check(
    name="gpu.ecc_ue_vol",
    detects="uncorrected memory errors since the driver was loaded",
    source="NVML",
    scope=Scope.NODE,
    parameters=UncorrectedParameters,
    gather=gather_memories,
    judge=judge_uncorrected,
    evidence=Memories,
    strikes=1,
)

SRAM = Check(
    name="gpu.ecc_sram_ue_agg",
    detects="uncorrected SRAM errors in a GPU's life",
    source="NVML",
    scope=Scope.NODE,
    parameters=SramParameters,
    gather=gather_memories,
    judge=judge_sram,
    evidence=Memories,
)

CORRECTED = Check(
    name="gpu.ecc_ce",
    detects="many corrected memory errors",
    source="NVML",
    scope=Scope.NODE,
    parameters=CorrectedParameters,
    gather=gather_memories,
    judge=judge_corrected,
    evidence=Memories,
)

PENDING = Check(
    name="gpu.remap_pending",
    detects="a memory row that waits for a reset",
    source="NVML",
    scope=Scope.NODE,
    parameters=NoParameters,
    gather=gather_memories,
    judge=judge_pending,
    evidence=Memories,
)

FAILED = Check(
    name="gpu.remap_failed",
    detects="a GPU out of spare memory rows",
    source="NVML",
    scope=Scope.NODE,
    parameters=NoParameters,
    gather=gather_memories,
    judge=judge_failed,
    evidence=Memories,
    strikes=1,
)

ROWS = Check(
    name="gpu.remap_count",
    detects="many remapped memory rows",
    source="NVML",
    scope=Scope.NODE,
    parameters=RowCountParameters,
    gather=gather_memories,
    judge=judge_rows,
    evidence=Memories,
)

PAGES = Check(
    name="gpu.retired_pages",
    detects="many retired memory pages, before Ampere",
    source="NVML",
    scope=Scope.NODE,
    parameters=PageParameters,
    gather=gather_memories,
    judge=judge_pages,
    evidence=Memories,
)

CHECKS: tuple[AnyCheck, ...] = (UNCORRECTED, SRAM, CORRECTED, PENDING, FAILED, ROWS, PAGES)
