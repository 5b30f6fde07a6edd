"""Checks of GPUs: how they and their node are set up."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.domain.gpus import GpuSetup
from hpcli.health.check import AnyCheck, Check, Context, Scope
from hpcli.health.gpu_readings import GpuFault, NoParameters, conclude, nothing, readings
from hpcli.ports import Host

LSPCI_TIMEOUT = 8.0
PEERMEM = ("nvidia_peermem", "nv_peer_mem")
IOMMU_GROUPS = "/sys/kernel/iommu_groups/*"


@dataclass(frozen=True, slots=True)
class VbiosParameters:
    """`expected`: version, "" compares the GPUs of a model with each other."""

    expected: str = ""


@dataclass(frozen=True, slots=True)
class PeermemParameters:
    """`required`: whether the site wants GPUDirect RDMA through nvidia_peermem."""

    required: bool = False


@dataclass(frozen=True, slots=True)
class AcsParameters:
    """`expected`: "off" where GPUs and adapters talk directly; "" is not checked."""

    expected: str = ""


@dataclass(frozen=True, slots=True)
class IommuParameters:
    """`expected`: "off", "pt" (pass-through) or "on"; "" is not checked."""

    expected: str = ""


@dataclass(frozen=True, slots=True)
class Setups:
    gpus: tuple[GpuSetup, ...]


@dataclass(frozen=True, slots=True)
class Modules:
    """`gpus`: whether the driver runs here at all."""

    gpus: bool
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Acs:
    """`bridges`: devices whose ACS control word could be read; `on`: those that redirect requests."""

    bridges: int
    on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Iommu:
    groups: int
    command_line: str


async def gather_setups(host: Host, _: VbiosParameters | NoParameters) -> Setups:
    return Setups(tuple(gpu.setup for gpu in (await readings(host)).gpus))


async def gather_modules(host: Host, _: PeermemParameters) -> Modules:
    lines = host.read("/proc/modules").splitlines()
    names = tuple(line.split()[0] for line in lines if line.split())
    return Modules("nvidia" in names, tuple(name for name in names if name in PEERMEM))


async def gather_acs(host: Host, _: AcsParameters) -> Acs:
    """Starts a program. Raises `NotFound` without lspci, ValueError when it is not allowed to look."""
    answer = await host.run(["lspci", "-vv"], timeout=LSPCI_TIMEOUT)
    if answer.code:
        raise ValueError(f"lspci: {answer.err.strip()[:200]}")
    return parse_acs(answer.out)


def parse_acs(text: str) -> Acs:
    """A device begins at the left edge with its address; ACSCtl is shown to root alone."""
    device, bridges, on = "", 0, []
    for line in text.splitlines():
        if line[:1].strip():
            device = line.split(" ", 1)[0]
        elif line.strip().startswith("ACSCtl:"):
            bridges += 1
            if "SrcValid+" in line or "ReqRedir+" in line:
                on.append(device)
    return Acs(bridges, tuple(on))


async def gather_iommu(host: Host, _: IommuParameters) -> Iommu:
    return Iommu(len(host.glob(IOMMU_GROUPS)), host.read("/proc/cmdline").strip())


def judge_vbios(evidence: Setups, parameters: VbiosParameters) -> CheckResult:
    told = [(gpu.gpu, gpu.model or "", gpu.vbios) for gpu in evidence.gpus if gpu.vbios]
    if not told:
        return nothing("gpu.vbios", "its VBIOS")
    hint = "flash the expected VBIOS on the drained node"
    if parameters.expected:
        wrong = [(gpu, vbios) for gpu, _, vbios in told if vbios != parameters.expected]
        faults = [_other(gpu, vbios, parameters.expected, Severity.CRITICAL, Remedy.DRAIN) for gpu, vbios in wrong]
        return conclude("gpu.vbios", faults, f"VBIOS {parameters.expected}", hint)
    usual = {model: _most([v for _, other, v in told if other == model]) for _, model, _ in told}
    faults = [
        _other(gpu, vbios, usual[model], Severity.WARN, Remedy.NONE)
        for gpu, model, vbios in told
        if vbios != usual[model]
    ]
    return conclude("gpu.vbios", faults, f"VBIOS {', '.join(sorted(set(usual.values())))}", hint)


def _most(versions: Iterable[str]) -> str:
    return Counter(versions).most_common(1)[0][0]


def _other(gpu: int, found: str, expected: str, severity: Severity, remedy: Remedy) -> GpuFault:
    return GpuFault(gpu, severity, f"VBIOS {found}, expected {expected}", remedy)


def judge_persistence(evidence: Setups, _: NoParameters) -> CheckResult:
    """Without it the driver lets go of an idle GPU: slow starts, and error counters that begin anew."""
    told = [gpu for gpu in evidence.gpus if gpu.persistence is not None]
    if not told:
        return nothing("gpu.persistence", "persistence mode")
    off = [GpuFault(gpu.gpu, Severity.WARN, "persistence mode off, expected on") for gpu in told if not gpu.persistence]
    hint = "systemctl enable --now nvidia-persistenced, or nvidia-smi -pm 1"
    return conclude("gpu.persistence", off, f"on for {len(told)} GPUs", hint)


def judge_peermem(evidence: Modules, _: PeermemParameters) -> CheckResult:
    """Without the module RDMA goes through host memory, at a fraction of the speed."""
    if not evidence.gpus:
        return CheckResult("gpu.peermem", Severity.OK, "nothing to check: no NVIDIA driver")
    if evidence.names:
        return CheckResult("gpu.peermem", Severity.OK, f"{evidence.names[0]} loaded")
    hint = "modprobe nvidia-peermem, and name it in /etc/modules-load.d"
    message = "found no nvidia_peermem among the modules, expected it"
    return CheckResult("gpu.peermem", Severity.CRITICAL, message, Remedy.DRAIN, hint=hint)


def judge_acs(evidence: Acs, parameters: AcsParameters) -> CheckResult:
    """With ACS on, traffic between a GPU and its adapter goes up to the root complex and back."""
    if parameters.expected != "off":
        message = f"gpu.acs.expected: found {parameters.expected!r}, expected off or nothing"
        return CheckResult("gpu.acs", Severity.UNKNOWN, message)
    if not evidence.bridges:
        return CheckResult("gpu.acs", Severity.UNKNOWN, "no ACS control word to be seen (lspci shows it to root alone)")
    if not evidence.on:
        return CheckResult("gpu.acs", Severity.OK, f"off on {evidence.bridges} devices")
    message = f"on for {len(evidence.on)} devices ({', '.join(evidence.on[:4])}), expected off"
    hint = "turn ACS off in the BIOS, or with setpci at boot"
    return CheckResult("gpu.acs", Severity.CRITICAL, message, Remedy.DRAIN, component=evidence.on[0], hint=hint)


def judge_iommu(evidence: Iommu, parameters: IommuParameters) -> CheckResult:
    words = evidence.command_line.split()
    through = "iommu=pt" in words or "iommu.passthrough=1" in words
    found = "off" if not evidence.groups else "pt" if through else "on"
    if found == parameters.expected:
        return CheckResult("gpu.iommu", Severity.OK, found)
    if parameters.expected not in ("off", "pt", "on"):
        message = f"gpu.iommu.expected: found {parameters.expected!r}, expected off, pt or on"
        return CheckResult("gpu.iommu", Severity.UNKNOWN, message)
    message = f"found IOMMU {found}, expected {parameters.expected}"
    hint = "set it in the BIOS and on the kernel's command line (iommu=pt), then reboot"
    return CheckResult("gpu.iommu", Severity.CRITICAL, message, Remedy.DRAIN, hint=hint)


VBIOS = Check(
    name="gpu.vbios",
    detects="GPUs with another VBIOS",
    source="NVML",
    scope=Scope.NODE,
    parameters=VbiosParameters,
    gather=gather_setups,
    judge=judge_vbios,
    evidence=Setups,
)

PERSISTENCE = Check(
    name="gpu.persistence",
    detects="persistence mode turned off",
    source="NVML",
    scope=Scope.NODE,
    parameters=NoParameters,
    gather=gather_setups,
    judge=judge_persistence,
    evidence=Setups,
)

MODULE = Check(
    name="gpu.peermem",
    detects="GPUDirect RDMA without its kernel module",
    source="/proc/modules",
    scope=Scope.MACHINE,
    parameters=PeermemParameters,
    gather=gather_modules,
    judge=judge_peermem,
    evidence=Modules,
    applies=lambda parameters: parameters.required,
)

ACS = Check(
    name="gpu.acs",
    detects="PCIe access control that slows GPUDirect down",
    source="lspci -vv",
    scope=Scope.MACHINE,
    parameters=AcsParameters,
    gather=gather_acs,
    judge=judge_acs,
    evidence=Acs,
    applies=lambda parameters: parameters.expected != "",
    contexts=frozenset({Context.ACCEPTANCE}),
)

IOMMU = Check(
    name="gpu.iommu",
    detects="an IOMMU that is not set as expected",
    source="/sys/kernel/iommu_groups, /proc/cmdline",
    scope=Scope.MACHINE,
    parameters=IommuParameters,
    gather=gather_iommu,
    judge=judge_iommu,
    evidence=Iommu,
    applies=lambda parameters: parameters.expected != "",
)

CHECKS: tuple[AnyCheck, ...] = (VBIOS, PERSISTENCE, MODULE, ACS, IOMMU)
