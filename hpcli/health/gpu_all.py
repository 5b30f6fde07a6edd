"""The checks of GPUs that NVML, sysfs and /proc can tell, in the order in which they are shown."""

from hpcli.health import gpu_heat, gpu_life, gpu_memory, gpu_nvlink, gpu_pcie, gpu_setup, gpu_use
from hpcli.health.check import AnyCheck

CHECKS: tuple[AnyCheck, ...] = (
    *gpu_life.CHECKS,
    *gpu_memory.CHECKS,
    *gpu_heat.CHECKS,
    *gpu_pcie.CHECKS,
    *gpu_nvlink.CHECKS,
    *gpu_setup.CHECKS,
    *gpu_use.CHECKS,
)
