"""A Slurm node as hpcli sees it."""

from dataclasses import dataclass

BUSY = frozenset({"ALLOCATED", "MIXED", "COMPLETING"})
OUT = frozenset(
    {
        "DOWN",
        "DRAIN",
        "FAIL",
        "NOT_RESPONDING",
        "POWERED_DOWN",
        "POWERING_DOWN",
        "REBOOT_ISSUED",
        "FUTURE",
        "INVALID_REG",
    }
)


@dataclass(frozen=True, slots=True)
class Node:
    """One node. Times are seconds since the epoch, 0.0 when Slurm has none; memory is in MiB."""

    name: str
    states: frozenset[str]
    reason: str = ""
    partitions: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    cpus: int = 0
    cpus_alloc: int = 0
    memory: int = 0
    memory_alloc: int = 0
    gpus: int = 0
    gpus_alloc: int = 0
    weight: int = 1
    addr: str = ""
    boot_time: float = 0.0
    slurmd_start_time: float = 0.0

    @property
    def drain(self) -> bool:
        return "DRAIN" in self.states

    @property
    def down(self) -> bool:
        return "DOWN" in self.states

    @property
    def drained(self) -> bool:
        """DRAIN and no job left on it: DRAIN alone may still be running one."""
        return self.drain and not self.states & BUSY

    @property
    def schedulable(self) -> bool:
        return not self.states & OUT
