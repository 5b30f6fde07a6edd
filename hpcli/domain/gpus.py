"""What a node's GPUs say of themselves at one moment. None: this GPU, or its driver, does not tell."""

from dataclasses import dataclass, field
from enum import StrEnum


class Driver(StrEnum):
    """RUNNING is the only one with readings.

    MISSING: no driver, or none of its library. UNBOUND: nvidia-ml-py is not installed, so nobody can tell. FAILING: the
    driver answers with an error. SILENT: it does not answer. UNASKED: asking failed on our side. FOREIGN: the node
    stands on a machine whose GPUs, if any, are not its own.
    """

    RUNNING = "running"
    MISSING = "missing"
    UNBOUND = "unbound"
    FAILING = "failing"
    SILENT = "silent"
    UNASKED = "unasked"
    FOREIGN = "foreign"


class Loss(StrEnum):
    """Why a GPU cannot be used at all (NVML_ERROR_GPU_IS_LOST, _RESET_REQUIRED)."""

    NONE = ""
    LOST = "lost"
    RESET_REQUIRED = "reset_required"


@dataclass(frozen=True, slots=True)
class GpuLife:
    """`failed`: calls that ended in an error that does not mean "not supported", as "nvmlDeviceGetName: 999".

    `recovery_action`: NVML's number (nvmlDeviceGpuRecoveryAction_t). `inforom_ok` is None when it cannot be validated.
    """

    gpu: int
    pci: str | None = None
    uuid: str | None = None
    loss: Loss = Loss.NONE
    failed: tuple[str, ...] = ()
    inforom_ok: bool | None = None
    recovery_action: int | None = None


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """Error counts since the driver was loaded (`volatile`) and of the GPU's life (`aggregate`); rows and pages taken
    out of use.
    """

    gpu: int
    volatile_uncorrected: int | None = None
    volatile_corrected_dram: int | None = None
    volatile_corrected_sram: int | None = None
    aggregate_uncorrected_sram: int | None = None
    rows_corrected: int | None = None
    rows_uncorrected: int | None = None
    rows_pending: bool | None = None
    rows_failed: bool | None = None
    pages_single: int | None = None
    pages_double: int | None = None
    pages_pending: bool | None = None


@dataclass(frozen=True, slots=True)
class GpuHeat:
    """Degrees Celsius, MHz, W, percent. `margin`: degrees left to the slowdown; `reasons`: NVML's clocks event bits."""

    gpu: int
    celsius: int | None = None
    slowdown: int | None = None
    margin: int | None = None
    memory_celsius: int | None = None
    memory_max: int | None = None
    reasons: int | None = None
    sm_clock: int | None = None
    sm_clock_max: int | None = None
    utilization: int | None = None
    power: float | None = None
    power_limit: float | None = None


@dataclass(frozen=True, slots=True)
class GpuPcie:
    """The link now and the best that GPU and slot can do together; `replays` since the driver was loaded."""

    gpu: int
    generation: int | None = None
    generation_max: int | None = None
    width: int | None = None
    width_max: int | None = None
    replays: int | None = None
    utilization: int | None = None


@dataclass(frozen=True, slots=True)
class GpuNvlink:
    """`active`: one per link. `crc`, `replays`, `recoveries`: sums over the links. `worst_ber`: errors per bit.

    `fabric_state`, `fabric_status`, `fabric_health`: nvmlGpuFabricInfo_v2_t's numbers.
    """

    gpu: int
    model: str | None = None
    active: tuple[bool, ...] = ()
    crc: int | None = None
    replays: int | None = None
    recoveries: int | None = None
    worst_ber: float | None = None
    fabric_state: int | None = None
    fabric_status: int | None = None
    fabric_health: int | None = None


@dataclass(frozen=True, slots=True)
class GpuSetup:
    gpu: int
    model: str | None = None
    vbios: str | None = None
    persistence: bool | None = None


@dataclass(frozen=True, slots=True)
class GpuUse:
    """`memory_used`: MiB without the driver's own. `processes`: pids; None when they cannot be listed."""

    gpu: int
    memory_used: int | None = None
    processes: tuple[int, ...] | None = None
    mig: bool | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    life: GpuLife
    memory: GpuMemory
    heat: GpuHeat
    pcie: GpuPcie
    nvlink: GpuNvlink
    setup: GpuSetup
    use: GpuUse


@dataclass(frozen=True, slots=True)
class Gpus:
    """`why` the driver is not RUNNING. `waited`: seconds since the first question that found no answer, 0 when all are
    answered. `taken`: seconds of a clock that only goes forward.
    """

    driver: Driver
    why: str = ""
    waited: float = 0.0
    version: str = ""
    taken: float = 0.0
    gpus: tuple[Gpu, ...] = field(default=())
