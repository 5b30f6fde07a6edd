"""What each provider wants to know."""

from typing import Literal

from pydantic import Field

from hpcli.spec.section import Section
from hpcli.spec.texts import DockerMemory, FilePath, Folder, Host, ImageName, Line, LoginName
from hpcli.spec.values import Hostlist, Word


class Local(Section):
    first_port: int | None = Field(
        default=None, ge=1024, le=65535, description="First of the TCP ports; free ones if null."
    )
    agents: Literal["shared", "per-node"] = Field(
        default="shared", description="One agent process for all nodes, or one each."
    )


class HostsSection(Section):
    """Options of providers hosts and adopted: existing machines, reached over SSH."""

    user: LoginName | None = Field(default=None, description="SSH user, root or with sudo; ssh's own choice if null.")
    port: int | None = Field(default=None, ge=1, le=65535, description="SSH port; ssh's own choice if null.")
    identity: FilePath | None = Field(default=None, description="Private key file; ssh's own choice if null.")
    known_hosts: FilePath | None = Field(default=None, description="Another known_hosts file than the user's.")
    addresses: dict[Hostlist, str] = Field(
        default={},
        description="Address by name, both as hostlists; a name that is left out is its own address.",
        examples=[{"c[1-8]": "10.0.1.[11-18]"}],
    )
    spare_machines: tuple[Host, ...] = Field(
        default=(), strict=False, description="Addresses of machines that replace broken ones, in this order."
    )
    reboot_command: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Run on the controller when a node does not reboot by itself; {node} and {address} are filled in.",
        examples=[["ipmitool", "-H", "{node}-bmc", "chassis", "power", "cycle"]],
    )
    replace_command: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Run on the controller to get another machine for {node}; its last line is the new address.",
    )


class DockerSection(Section):
    image: ImageName | None = Field(
        default=None, description="An image with sshd and sudo; null builds one with everything preloaded."
    )
    memory: DockerMemory | None = Field(
        default=None, description="Memory limit of a container, as docker run --memory.", examples=["512m"]
    )
    subnet: str | None = Field(
        default=None, description="Subnet of the cluster's network; a free one if null.", examples=["172.30.5.0/24"]
    )


class AdoptedSection(Section):
    """Options of provider adopted: a Slurm that somebody else built, as `hpcli cluster adopt` found it."""

    slurm_conf: Folder = Field(default="/etc/slurm/slurm.conf", description="Its slurm.conf on the controller.")
    programs: Folder | None = Field(
        default=None, description="The folder of Slurm's programs, where they are not on everybody's PATH."
    )
    slurm_user: LoginName = Field(default="slurm", description="SlurmUser; hpcli's controller runs as it.")
    slurm_uid: int = Field(default=64030, ge=0, description="Its number, the same on every machine.")
    state: Folder = Field(default="/var/spool/slurmctld", description="StateSaveLocation, for the controller's lease.")
    munge_socket: Folder = Field(default="/run/munge/munge.socket.2", description="munged's socket.")
    slurmd_pid: Line = Field(
        default="/var/run/slurmd.pid", description="SlurmdPidFile; %n is the node's name, %h its host's."
    )
    prolog_flags: tuple[Word, ...] = Field(
        default=(), strict=False, description="PrologFlags as found: with Alloc or Contain a requeued job rests longer."
    )
    chain_prolog: tuple[Line, ...] = Field(
        default=(),
        strict=False,
        description="The site's own Prolog, run after hpcli's gate; patterns as in slurm.conf are allowed.",
        examples=[["/etc/slurm/prolog.d/*"]],
    )
    python: Line = Field(default="python3", description="A Python of at least 3.11 on the machines.")
