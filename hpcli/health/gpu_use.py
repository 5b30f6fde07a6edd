"""Checks of GPUs: who uses them."""

import re
from dataclasses import dataclass, replace

from hpcli.domain.check import Blame, CheckResult, Remedy, Severity
from hpcli.domain.gpus import GpuUse
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.health.gpu_readings import GpuFault, conclude, nothing, readings
from hpcli.ports import Host

MAX_ANCESTORS = 32
MAX_PROCESSES = 64
"""Looked at in one round; a node has a few per GPU."""

_JOB_CGROUP = re.compile(r"/(?:slurm|slurmstepd\.scope|[^/\s]+_slurmstepd\.scope)/(?:\S*/)?job_\d+")


@dataclass(frozen=True, slots=True)
class StrayParameters:
    """`allow`: names of processes that may use a GPU outside a job, as /proc/PID/comm has them, with commas."""

    allow: str = "nvidia-cuda-mps,nvidia-persiste,nvidia-smi,nv-hostengine,nvvs,dcgmi,dcgm-exporter,Xorg"


@dataclass(frozen=True, slots=True)
class MemoryUsedParameters:
    """`limit`: MiB of an idle GPU (gcm: 15)."""

    limit: int = 15


@dataclass(frozen=True, slots=True)
class Outsider:
    """A process on a GPU that belongs to no job."""

    gpu: int
    pid: int
    name: str


@dataclass(frozen=True, slots=True)
class Users:
    """`listed`: GPUs whose processes the driver lists."""

    listed: int
    outsiders: tuple[Outsider, ...]


@dataclass(frozen=True, slots=True)
class Uses:
    gpus: tuple[GpuUse, ...]


async def gather_users(host: Host, _: StrayParameters) -> Users:
    told = [gpu.use for gpu in (await readings(host)).gpus if gpu.use.processes is not None]
    pairs = [(use.gpu, pid) for use in told for pid in use.processes or ()]
    found = (_outsider(host, gpu, pid) for gpu, pid in pairs[:MAX_PROCESSES])
    return Users(len(told), tuple(one for one in found if one))


def _outsider(host: Host, gpu: int, pid: int) -> Outsider | None:
    """None for a process of a job, and for one that has ended or may not be looked at."""
    try:
        name = host.read(f"/proc/{pid}/comm").strip()
        if _in_job(host, pid):
            return None
    except (OSError, ValueError, IndexError):
        return None
    return Outsider(gpu, pid, name)


def _in_job(host: Host, pid: int) -> bool:
    """By its cgroup, its environment, or an ancestor: which of them there is depends on the cluster's ProctrackType."""
    if _JOB_CGROUP.search(host.read(f"/proc/{pid}/cgroup")):
        return True
    if "\0SLURM_JOB_ID=" in "\0" + host.read(f"/proc/{pid}/environ"):
        return True
    for _ in range(MAX_ANCESTORS):
        # proc(5): the name stands in parentheses and may hold anything, then come state and parent.
        name, _, rest = host.read(f"/proc/{pid}/stat").partition("(")[2].rpartition(")")
        if name == "slurmstepd":
            return True
        pid = int(rest.split()[1])
        if pid <= 1:
            return False
    return False


async def gather_uses(host: Host, _: MemoryUsedParameters) -> Uses:
    return Uses(tuple(gpu.use for gpu in (await readings(host)).gpus))


def judge_stray(evidence: Users, parameters: StrayParameters) -> CheckResult:
    """Such a process takes memory and time from the job that the GPU is given to next."""
    if not evidence.listed:
        return nothing("gpu.stray_procs", "its processes")
    allowed = {name.strip() for name in parameters.allow.split(",")}
    strays = [one for one in evidence.outsiders if one.name not in allowed]
    faults = [
        GpuFault(one.gpu, Severity.CRITICAL, f"process {one.pid} ({one.name}) belongs to no job", Remedy.DRAIN)
        for one in strays
    ]
    hint = "end it, if it is a job's remainder; one that may be there belongs into gpu.stray_procs.allow"
    result = conclude("gpu.stray_procs", faults, f"no stray process on {evidence.listed} GPUs", hint)
    return replace(result, blame=Blame.USER) if strays else result


def judge_memory(evidence: Uses, parameters: MemoryUsedParameters) -> CheckResult:
    """Memory that nobody holds does not come back by itself. A GPU cut into instances (MIG) keeps some for each."""
    idle = [use for use in evidence.gpus if use.processes == () and use.memory_used is not None and not use.mig]
    if not idle:
        return nothing("gpu.mem_used", "memory while idle")
    faults = [
        GpuFault(use.gpu, Severity.CRITICAL, f"{use.memory_used} MiB used by no process", Remedy.DRAIN)
        for use in idle
        if (use.memory_used or 0) > parameters.limit
    ]
    hint = "a process in state Z or D may hold it: fuser -v /dev/nvidia*; else reset the GPU"
    return conclude("gpu.mem_used", faults, f"{len(idle)} idle GPUs are empty", hint)


STRAY = Check(
    name="gpu.stray_procs",
    detects="a process on a GPU that belongs to no job",
    source="NVML, /proc/PID",
    scope=Scope.NODE,
    parameters=StrayParameters,
    gather=gather_users,
    judge=judge_stray,
    evidence=Users,
    strikes=3,
)

MEMORY_USED = Check(
    name="gpu.mem_used",
    detects="memory of an idle GPU that is not given back",
    source="NVML",
    scope=Scope.NODE,
    parameters=MemoryUsedParameters,
    gather=gather_uses,
    judge=judge_memory,
    evidence=Uses,
    strikes=3,
)

CHECKS: tuple[AnyCheck, ...] = (STRAY, MEMORY_USED)
