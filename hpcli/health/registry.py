"""All checks, in the order in which they are shown."""

from hpcli.health import (
    accounts,
    adapters,
    bmc,
    board,
    cloud,
    cpu,
    disks,
    efa,
    files,
    gpu,
    gpu_all,
    infiniband,
    memory,
    mounts,
    network,
    node,
    peers,
    processes,
    roce,
    services,
    slurm,
    smart,
    storage,
    system,
)
from hpcli.health.check import AnyCheck

CHECKS: tuple[AnyCheck, ...] = (
    gpu.COUNT,
    *gpu_all.CHECKS,
    *cpu.CHECKS,
    system.TOTAL,
    system.FREE,
    *memory.CHECKS,
    storage.FREE,
    storage.READ_ONLY,
    *disks.CHECKS,
    *smart.CHECKS,
    *mounts.CHECKS,
    *files.CHECKS,
    *processes.CHECKS,
    *node.CHECKS,
    *services.CHECKS,
    *accounts.CHECKS,
    system.SYNC,
    slurm.MUNGE,
    slurm.SLURMD_ALIVE,
    *network.CHECKS,
    *peers.CHECKS,
    *infiniband.CHECKS,
    *adapters.CHECKS,
    *roce.CHECKS,
    *efa.CHECKS,
    *board.CHECKS,
    *bmc.CHECKS,
    *cloud.CHECKS,
)


def check_names() -> frozenset[str]:
    """Names that may stand under `health.checks` in cluster.yaml."""
    return frozenset(check.name for check in CHECKS)
