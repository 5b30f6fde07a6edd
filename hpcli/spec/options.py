"""What each provider wants to know."""

from typing import Literal

from pydantic import Field

from hpcli.spec.section import Section
from hpcli.spec.texts import DockerMemory, FilePath, Host, ImageName, LoginName
from hpcli.spec.values import Hostlist


class Local(Section):
    first_port: int | None = Field(
        default=None, ge=1024, le=65535, description="First of the TCP ports; free ones if null."
    )
    agents: Literal["shared", "per-node"] = Field(
        default="shared", description="One agent process for all nodes, or one each."
    )


class HostsSection(Section):
    """Options of provider hosts: existing machines, reached over SSH."""

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
