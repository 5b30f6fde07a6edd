"""cluster.yaml as a validated, frozen model. Times are in seconds, memory in MiB."""

from functools import cached_property
from typing import Literal

from pydantic import Field

from hpcli.domain.policy import Policy
from hpcli.errors import NotFound
from hpcli.spec.addresses import address_by_name
from hpcli.spec.care import Health, Recovery
from hpcli.spec.hostlist import expand
from hpcli.spec.machines import Controller, Group, Kind, Login, Partition, names_by_group, nodes_of
from hpcli.spec.nodes import NodeSpec, PartitionSpec
from hpcli.spec.options import AdoptedSection, DockerSection, HostsSection, Local
from hpcli.spec.section import Section
from hpcli.spec.site import Account, Accounting, Mount, Packages, SlurmSection, Topology, User, UserGroup
from hpcli.spec.texts import FilePath
from hpcli.spec.values import ClusterName, Scalar


class Spec(Section):
    """What a cluster.yaml asks for, with its defaults filled in.

    Files that it names are absolute paths when it was loaded from a file; a relative one counts from the folder
    of the file that says it.
    """

    name: ClusterName = Field(description="Name of the cluster.", examples=["demo"])
    provider: Literal["local", "docker", "hosts", "adopted"] = Field(
        default="local", description="Where the machines come from; adopted: from a Slurm that is there already."
    )
    controller: Controller = Field(default=Controller(), description="The machine of slurmctld.")
    login: Login = Field(default=Login(), description="Machines that people log in to.")
    compute: tuple[Group, ...] = Field(
        strict=False, description="Compute nodes, by group.", json_schema_extra={"minItems": 1}
    )
    compute_defaults: Kind = Field(default=Kind(), description="What each group is like that does not say otherwise.")
    partitions: tuple[Partition, ...] = Field(
        default=(),
        strict=False,
        description="Slurm partitions; one named main with all nodes if empty.",
    )
    accounting: Accounting = Field(default=Accounting(), description="Slurm's job accounting.")
    slurm: SlurmSection = Field(default=SlurmSection(), description="Which Slurm.")
    accounts: tuple[Account, ...] = Field(default=(), strict=False, description="Slurm accounts.")
    groups: tuple[UserGroup, ...] = Field(default=(), strict=False, description="Groups made on every machine.")
    users: tuple[User, ...] = Field(default=(), strict=False, description="Users made on every machine.")
    mounts: tuple[Mount, ...] = Field(default=(), strict=False, description="Shared folders, such as /home.")
    topology: Topology | None = Field(default=None, description="The network, for placement.")
    prolog: tuple[FilePath, ...] = Field(
        default=(), strict=False, description="Scripts run on a node before each job, after hpcli's gate."
    )
    epilog: tuple[FilePath, ...] = Field(default=(), strict=False, description="Scripts run on a node after each job.")
    pam_slurm_adopt: bool = Field(default=False, description="Let people log in to nodes where they have jobs only.")
    slurm_conf: dict[str, Scalar] = Field(
        default={}, description="Any other parameter of slurm.conf.", examples=[{"MessageTimeout": 30}]
    )
    packages: Packages = Field(default=Packages(), description="Where machines get their software.")
    local: Local = Field(default=Local(), description="Options of provider local.")
    docker: DockerSection = Field(default=DockerSection(), description="Options of provider docker.")
    hosts: HostsSection = Field(default=HostsSection(), description="Options of providers hosts and adopted.")
    adopted: AdoptedSection = Field(default=AdoptedSection(), description="Options of provider adopted.")
    health: Health = Field(default=Health(), description="Health checks.")
    recovery: Recovery = Field(default=Recovery(), description="What recovery may do, and how fast.")

    @cached_property
    def group_nodes(self) -> tuple[tuple[str, ...], ...]:
        """Node names of each compute group, in the order of the file."""
        return names_by_group(self.compute)

    @cached_property
    def nodes(self) -> tuple[NodeSpec, ...]:
        """Every compute node, in the order of the groups."""
        pairs = zip(self.compute, self.group_nodes, strict=True)
        return tuple(node for group, names in pairs for node in nodes_of(group, names))

    @cached_property
    def node_names(self) -> tuple[str, ...]:
        return tuple(name for names in self.group_nodes for name in names)

    @cached_property
    def login_names(self) -> tuple[str, ...]:
        return self.login.names()

    @cached_property
    def place_names(self) -> tuple[str, ...]:
        """Every machine: the controller, the login nodes, the compute nodes."""
        return (self.controller.name, *self.login_names, *self.node_names)

    def address_of(self, name: str) -> str:
        """Give a machine's address as `hosts.addresses` has it, or its name."""
        return self._addresses.get(name, name)

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
        return self.recovery.policy()

    @cached_property
    def by_name(self) -> dict[str, NodeSpec]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _addresses(self) -> dict[str, str]:
        return address_by_name(self.hosts.addresses)

    def _nodes_in(self, partition: Partition) -> tuple[str, ...]:
        if partition.nodes is not None:
            return expand(partition.nodes)
        if partition.groups is None:
            return self.node_names
        return tuple(node.name for node in self.nodes if node.group in partition.groups)
