"""Nodes and partitions as a spec declares them, free of pydantic."""

from dataclasses import dataclass

SPARE_WEIGHT = 1_000_000
"""Added to a spare's Weight, above any weight a group may have: Slurm fills low weights first (slurm.conf(5))."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One compute node. Memory is in MiB; `gpu_type` is empty and `gpu_count` 0 without GPUs.

    `weight` is what Slurm gets: the group's, raised by `SPARE_WEIGHT` for a spare. `sockets` per node and `threads`
    per core are 0 where Slurm chooses.
    """

    name: str
    group: str
    cpus: int
    memory: int
    gpu_type: str = ""
    gpu_count: int = 0
    features: tuple[str, ...] = ()
    weight: int = 1
    spare: bool = False
    sockets: int = 0
    threads: int = 0
    gpus_simulated: bool = False


@dataclass(frozen=True, slots=True)
class PartitionSpec:
    """One partition. `max_time` is written as Slurm writes it; `nodes` keeps the order of the spec."""

    name: str
    nodes: tuple[str, ...]
    default: bool
    max_time: str
