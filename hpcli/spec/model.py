"""cluster.yaml as a validated, frozen model. Times are in seconds, memory in MiB."""

from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hpcli.domain.policy import Breaker, Budget, Policy
from hpcli.errors import NotFound
from hpcli.spec.hostlist import MAX_NODES, expand
from hpcli.spec.nodes import SPARE_WEIGHT, NodeSpec, PartitionSpec
from hpcli.spec.values import (
    CheckName,
    ClusterName,
    GpuType,
    Grace,
    Hostlist,
    Interval,
    MaxTime,
    Memory,
    NodePrefix,
    PartitionName,
    Scalar,
    Share,
    Timeout,
    Word,
)

DEFAULT_PREFIX = "c"
_POLICY = Policy()


class Section(BaseModel):
    """A mapping of the file: no unknown keys, no silent conversions."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Controller(Section):
    count: int = Field(default=1, description="Number of controllers; one per cluster.")


class Login(Section):
    count: int = Field(
        default=0, ge=0, le=MAX_NODES, description="Number of login nodes; provider local simulates none."
    )


class Gpus(Section):
    type: GpuType = Field(description="GPU type as Slurm's GRES type.", examples=["h100"])
    count: int = Field(ge=1, le=256, description="GPUs per node.", examples=[8])


class Group(Section):
    """Nodes of one kind. Exactly one of `nodes` and `count`."""

    name: Word = Field(description="Name of the group, for partitions.", examples=["gpu"])
    nodes: Hostlist | None = Field(default=None, description="Node names as a hostlist.", examples=["c[1-8]"])
    count: int | None = Field(
        default=None, ge=1, le=MAX_NODES, description="Number of nodes, named PREFIX1, PREFIX2, …."
    )
    prefix: NodePrefix | None = Field(
        default=None, description="Prefix of names made by count; c if absent.", examples=["gpu"]
    )
    cpus: int = Field(default=1, ge=1, le=65533, description="CPUs per node.")
    memory: Memory = Field(
        default=1024, description="Memory per node; a plain number is MiB.", examples=["4G", "4096M", 4096]
    )
    gpus: Gpus | None = Field(default=None, description="GPUs per node.")
    features: tuple[Word, ...] = Field(default=(), strict=False, description="Node features for sbatch --constraint.")
    spares: int = Field(
        default=0, ge=0, description="The last so many nodes are filled last, to take over from faulty ones."
    )
    weight: int = Field(default=1, ge=1, le=SPARE_WEIGHT - 1, description="Slurm's Weight: lower is filled first.")


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


class Accounting(Section):
    enabled: bool = Field(default=False, description="Run a private database and slurmdbd, so that sacct works.")


class Local(Section):
    first_port: int | None = Field(
        default=None, ge=1024, le=65535, description="First of the TCP ports; free ones if null."
    )
    agents: Literal["shared", "per-node"] = Field(
        default="shared", description="One agent process for all nodes, or one each."
    )


class Health(Section):
    interval: Interval = Field(default=10.0, description="Time between samples of each check.", examples=["10s"])
    checks: dict[CheckName, dict[Word, Scalar]] = Field(
        default={},
        description="Parameters by check; enabled: false turns one off.",
        examples=[{"disk.free": {"critical": 95}}],
    )
    kernel_log: dict[str, dict[Word, Scalar]] = Field(
        default={}, description="Site overrides by Xid number or pattern id.", examples=[{"79": {"remedy": "reboot"}}]
    )


class BudgetSection(Section):
    nodes: int = Field(
        default=_POLICY.budget.nodes, ge=0, le=MAX_NODES, description="Nodes that may be under repair at once."
    )
    share: Share = Field(
        default=_POLICY.budget.share, description="Likewise as a share of the fleet; the larger counts."
    )


class BreakerSection(Section):
    nodes: int = Field(
        default=_POLICY.breaker.nodes, ge=0, le=MAX_NODES, description="More faulty nodes than this open the breaker."
    )
    share: Share = Field(
        default=_POLICY.breaker.share, description="Likewise as a share of the fleet; the larger counts."
    )
    window: Timeout = Field(
        default=_POLICY.breaker.window, description="Time over which faulty nodes are counted.", examples=["10m"]
    )


class Recovery(Section):
    enabled: bool = Field(default=_POLICY.enabled, description="Act on faults; false only watches.")
    evict_grace: Grace = Field(
        default=_POLICY.evict_grace, description="From requeue to SIGKILL, and from there to down."
    )
    start_interval: Grace = Field(default=_POLICY.start_interval, description="Between the starts of two repairs.")
    reboot_interval: Grace = Field(
        default=_POLICY.reboot_interval, description="A node rebooted less than this ago is replaced instead."
    )
    replace_interval: Grace = Field(
        default=_POLICY.replace_interval, description="A node replaced less than this ago is parked instead."
    )
    reboot_timeout: Timeout = Field(default=_POLICY.reboot_timeout, description="Longest reboot.")
    replace_timeout: Timeout = Field(default=_POLICY.replace_timeout, description="Longest replacement.")
    acceptance_timeout: Timeout = Field(default=_POLICY.acceptance_timeout, description="Longest acceptance check.")
    min_schedulable: Share = Field(
        default=_POLICY.min_schedulable, description="Never drain below this share of nodes."
    )
    report_timeout: Timeout = Field(
        default=_POLICY.report_timeout, description="An agent silent for longer says nothing about its node."
    )
    budget: BudgetSection = Field(default=BudgetSection(), description="How many nodes may be under repair at once.")
    breaker: BreakerSection = Field(default=BreakerSection(), description="When recovery stops and asks a person.")


class Spec(Section):
    """What a cluster.yaml asks for."""

    name: ClusterName = Field(description="Name of the cluster.", examples=["demo"])
    provider: Literal["local"] = Field(default="local", description="Where the machines come from.")
    controller: Controller = Field(default=Controller(), description="The machine of slurmctld.")
    login: Login = Field(default=Login(), description="Machines that people log in to.")
    compute: tuple[Group, ...] = Field(
        strict=False, description="Compute nodes, by group.", json_schema_extra={"minItems": 1}
    )
    partitions: tuple[Partition, ...] = Field(
        default=(),
        strict=False,
        description="Slurm partitions; one named main with all nodes if empty.",
    )
    accounting: Accounting = Field(default=Accounting(), description="Slurm's job accounting.")
    local: Local = Field(default=Local(), description="Options of provider local.")
    health: Health = Field(default=Health(), description="Health checks.")
    recovery: Recovery = Field(default=Recovery(), description="What recovery may do, and how fast.")

    @cached_property
    def group_nodes(self) -> tuple[tuple[str, ...], ...]:
        """Node names of each compute group, in the order of the file."""
        return _names_by_group(self.compute)

    @cached_property
    def nodes(self) -> tuple[NodeSpec, ...]:
        """Every compute node, in the order of the groups."""
        pairs = zip(self.compute, self.group_nodes, strict=True)
        return tuple(node for group, names in pairs for node in _nodes_of(group, names))

    @cached_property
    def node_names(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.nodes)

    @cached_property
    def partition_specs(self) -> tuple[PartitionSpec, ...]:
        """Partitions with their nodes resolved; the first is the default when none says so."""
        wanted = self.partitions or (Partition(name="main"),)
        chosen = next((i for i, partition in enumerate(wanted) if partition.default), 0)
        return tuple(
            PartitionSpec(partition.name, self._nodes_in(partition), i == chosen, partition.max_time)
            for i, partition in enumerate(wanted)
        )

    def node(self, name: str) -> NodeSpec:
        """Give one node. Raises `NotFound`."""
        found = self.by_name.get(name)
        if found is None:
            raise NotFound(
                f"node {name}", f"found no such node in cluster {self.name}, expected one of its compute nodes"
            )
        return found

    def policy(self) -> Policy:
        """Give the recovery policy as the domain knows it."""
        fields = {key: getattr(self.recovery, key) for key in Recovery.model_fields}
        fields["budget"] = Budget(**self.recovery.budget.model_dump())
        fields["breaker"] = Breaker(**self.recovery.breaker.model_dump())
        return Policy(**fields)

    @cached_property
    def by_name(self) -> dict[str, NodeSpec]:
        return {node.name: node for node in self.nodes}

    def _nodes_in(self, partition: Partition) -> tuple[str, ...]:
        if partition.nodes is not None:
            return expand(partition.nodes)
        if partition.groups is None:
            return self.node_names
        return tuple(node.name for node in self.nodes if node.group in partition.groups)


def _names_by_group(groups: tuple[Group, ...]) -> tuple[tuple[str, ...], ...]:
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


def _nodes_of(group: Group, names: tuple[str, ...]) -> tuple[NodeSpec, ...]:
    gpu_type, gpu_count = (group.gpus.type, group.gpus.count) if group.gpus else ("", 0)
    first_spare = len(names) - group.spares
    return tuple(
        NodeSpec(
            name=name,
            group=group.name,
            cpus=group.cpus,
            memory=group.memory,
            gpu_type=gpu_type,
            gpu_count=gpu_count,
            features=group.features,
            weight=group.weight + (SPARE_WEIGHT if i >= first_spare else 0),
            spare=i >= first_spare,
        )
        for i, name in enumerate(names)
    )
