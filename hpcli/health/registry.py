"""All checks, in the order in which they are shown."""

from hpcli.health import gpu, slurm, storage, system
from hpcli.health.check import AnyCheck

CHECKS: tuple[AnyCheck, ...] = (
    gpu.COUNT,
    storage.FREE,
    storage.READ_ONLY,
    system.TOTAL,
    system.FREE,
    system.SYNC,
    slurm.MUNGE,
    slurm.SLURMD_ALIVE,
)


def check_names() -> frozenset[str]:
    """Names that may stand under `health.checks` in cluster.yaml."""
    return frozenset(check.name for check in CHECKS)
