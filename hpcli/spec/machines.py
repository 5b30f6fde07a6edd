"""Which machines a cluster has: controller, login nodes, compute groups, and the partitions over them."""

from pydantic import Field

from hpcli.spec.hostlist import MAX_NODES, expand
from hpcli.spec.nodes import SPARE_WEIGHT, NodeSpec
from hpcli.spec.section import Section
from hpcli.spec.texts import HostName
from hpcli.spec.values import GpuType, Hostlist, MaxTime, Memory, NodePrefix, PartitionName, Word

DEFAULT_PREFIX = "c"


class Controller(Section):
    count: int = Field(default=1, description="Number of controllers; one per cluster.")
    name: HostName = Field(default="controller", description="Name of its machine; provider local uses this machine's.")


class Login(Section):
    """At most one of `nodes` and `count`."""

    count: int = Field(
        default=0, ge=0, le=1000, description="Login nodes, named login1, login2, …; provider local has none."
    )
    nodes: Hostlist | None = Field(
        default=None, description="Login nodes as a hostlist, instead of count.", examples=["login[1-2]"]
    )

    def names(self) -> tuple[str, ...]:
        if self.nodes is not None:
            return expand(self.nodes)
        return tuple(f"login{number}" for number in range(1, self.count + 1))


class Gpus(Section):
    type: GpuType = Field(description="GPU type as Slurm's GRES type.", examples=["h100"])
    count: int = Field(ge=1, le=256, description="GPUs per node.", examples=[8])
    simulated: bool = Field(
        default=False,
        description="Device files stand for the GPUs, for tests on docker and hosts; provider local always does this.",
    )


class Naming(Section):
    """Names of a group's nodes. Exactly one of `nodes` and `count`."""

    name: Word = Field(description="Name of the group, for partitions.", examples=["gpu"])
    nodes: Hostlist | None = Field(default=None, description="Node names as a hostlist.", examples=["c[1-8]"])
    count: int | None = Field(
        default=None, ge=1, le=MAX_NODES, description="Number of nodes, named PREFIX1, PREFIX2, …."
    )
    prefix: NodePrefix | None = Field(
        default=None, description="Prefix of names made by count; c if absent.", examples=["gpu"]
    )


class Kind(Section):
    """What a node is like; `compute_defaults` says it for every group that does not."""

    cpus: int = Field(default=1, ge=1, le=65533, description="CPUs per node.")
    sockets: int | None = Field(
        default=None, ge=1, le=64, description="Sockets per node, a divisor of cpus; Slurm's choice if null."
    )
    threads: int | None = Field(
        default=None, ge=1, le=8, description="Threads per core, a divisor of cpus; Slurm's choice if null."
    )
    memory: Memory = Field(
        default=1024, description="Memory per node; a plain number is MiB.", examples=["4G", "4096M", 4096]
    )
    gpus: Gpus | None = Field(default=None, description="GPUs per node.")
    features: tuple[Word, ...] = Field(default=(), strict=False, description="Node features for sbatch --constraint.")
    spares: int = Field(
        default=0, ge=0, description="The last so many nodes are filled last, to take over from faulty ones."
    )
    weight: int = Field(default=1, ge=1, le=SPARE_WEIGHT - 1, description="Slurm's Weight: lower is filled first.")


class Group(Kind, Naming):
    """Nodes of one kind."""


class Partition(Section):
    """At most one of `nodes` and `groups`; without either, all compute nodes."""

    name: PartitionName = Field(description="Name of the partition.", examples=["main"])
    nodes: Hostlist | None = Field(default=None, description="Its nodes as a hostlist.", examples=["c[1-8]"])
    groups: tuple[Word, ...] | None = Field(
        default=None, strict=False, description="Its nodes as names of compute groups."
    )
    default: bool = Field(
        default=False, description="Jobs go here if they name no partition; else the first does this."
    )
    max_time: MaxTime = Field(default="UNLIMITED", description="Longest job, in Slurm's form.", examples=["1-00:00:00"])


def names_by_group(groups: tuple[Group, ...]) -> tuple[tuple[str, ...], ...]:
    """Name the nodes of each group; counted names go on from group to group with the same prefix."""
    used: dict[str, int] = {}
    names = []
    for group in groups:
        if group.nodes is not None:
            names.append(expand(group.nodes))
            continue
        prefix, count = group.prefix or DEFAULT_PREFIX, group.count or 0
        first = used.get(prefix, 0) + 1
        used[prefix] = first + count - 1
        names.append(tuple(f"{prefix}{number}" for number in range(first, first + count)))
    return tuple(names)


def nodes_of(group: Group, names: tuple[str, ...]) -> tuple[NodeSpec, ...]:
    """Give the nodes of a group; the last `spares` of them are spare."""
    gpus = group.gpus
    first_spare = len(names) - group.spares
    return tuple(
        NodeSpec(
            name=name,
            group=group.name,
            cpus=group.cpus,
            memory=group.memory,
            gpu_type=gpus.type if gpus else "",
            gpu_count=gpus.count if gpus else 0,
            features=group.features,
            weight=group.weight + (SPARE_WEIGHT if i >= first_spare else 0),
            spare=i >= first_spare,
            sockets=group.sockets or 0,
            threads=group.threads or 0,
            gpus_simulated=bool(gpus and gpus.simulated),
        )
        for i, name in enumerate(names)
    )
