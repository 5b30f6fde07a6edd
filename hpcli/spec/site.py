"""What a cluster gets beyond its nodes: Slurm's series, accounting, people, shared folders, topology, packages."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from hpcli.spec.section import Section
from hpcli.spec.texts import (
    AccountName,
    DatabaseWord,
    FilePath,
    Folder,
    Host,
    Line,
    LoginName,
    MountOptions,
    NfsSource,
    PublicKey,
    Url,
)
from hpcli.spec.values import Hostlist, Word


def _as_text(value: object) -> object:
    """Take 24.11 without quotes, which YAML reads as a number, for what it was meant to be."""
    return f"{value:.2f}" if isinstance(value, float) else value


SERIES = ("22.05", "24.11", "26.05")
Series = Annotated[
    Literal["22.05", "24.11", "26.05"],
    BeforeValidator(_as_text),
    WithJsonSchema({"enum": [*SERIES, *map(float, SERIES)]}),
]


class SlurmSection(Section):
    version: Series | None = Field(
        default=None, description="The Slurm series wanted; null takes what the machines' system has."
    )


class Database(Section):
    """An external MariaDB or MySQL."""

    host: Host = Field(description="Its host name or address.", examples=["db.example.org"])
    port: int = Field(default=3306, ge=1, le=65535, description="Its port.")
    name: DatabaseWord = Field(default="slurm_acct_db", description="The schema.")
    user: DatabaseWord = Field(default="slurm", description="The database user.")
    password_file: FilePath = Field(description="A file on this machine that holds the password, mode 0600.")


class Accounting(Section):
    enabled: bool = Field(default=False, description="Run slurmdbd, so that sacct works.")
    database: Database | None = Field(
        default=None, description="An external database; null runs a private MariaDB beside slurmdbd."
    )


class Account(Section):
    name: AccountName = Field(description="Name of the account.")
    parent: AccountName | None = Field(default=None, description="The account above it; root if null.")
    description: Line = Field(default="", description="What it is for.")


class UserGroup(Section):
    name: LoginName = Field(description="Name of the group.")
    gid: int = Field(ge=1000, le=60000, description="Its number, the same on every machine.")


class User(Section):
    name: LoginName = Field(description="Login name.")
    uid: int = Field(ge=1000, le=60000, description="Its number, the same on every machine.")
    group: LoginName | None = Field(
        default=None, description="Primary group; one with the user's own name and number if null."
    )
    groups: tuple[LoginName, ...] = Field(default=(), strict=False, description="Further groups.")
    account: AccountName | None = Field(default=None, description="Default Slurm account; none in Slurm if null.")
    admin: Literal["none", "operator", "administrator"] = Field(default="none", description="Slurm's AdminLevel.")
    keys: tuple[PublicKey, ...] = Field(default=(), strict=False, description="Public SSH keys that may log in.")


class Mount(Section):
    """A shared folder. Exactly one of `nfs` and `bind`."""

    path: Folder = Field(description="Where it appears on every machine.", examples=["/home"])
    nfs: NfsSource | None = Field(
        default=None, description="An NFS export, server:/path.", examples=["10.0.0.5:/export/home"]
    )
    bind: Folder | None = Field(
        default=None, description="A folder of the machine, with provider docker one of the Docker host."
    )
    options: MountOptions = Field(
        default="", description="Mount options, comma-separated.", examples=["nfsvers=4.2,hard"]
    )


class Switch(Section):
    """A switch of a tree. Exactly one of `nodes` and `switches`."""

    name: Word = Field(description="Name of the switch.")
    nodes: Hostlist | None = Field(default=None, description="A leaf's nodes as a hostlist.")
    switches: Hostlist | None = Field(default=None, description="The switches below it as a hostlist.")


class Block(Section):
    name: Word = Field(description="Name of the block.")
    nodes: Hostlist = Field(description="Its nodes as a hostlist.")


class Topology(Section):
    plugin: Literal["tree", "block"] = Field(description="tree takes switches, block takes blocks (Slurm 24.05 on).")
    switches: tuple[Switch, ...] = Field(default=(), strict=False, description="The tree, leaves and above.")
    blocks: tuple[Block, ...] = Field(default=(), strict=False, description="Base blocks.")
    block_sizes: tuple[int, ...] = Field(
        default=(),
        strict=False,
        description="Sizes of blocks that jobs may ask for, in nodes; the base block first.",
        examples=[[4, 8, 16]],
    )


class Packages(Section):
    folder: FilePath | None = Field(
        default=None, description="A folder on this machine with debs/ and wheels/, for machines without a network."
    )
    mirror: Url | None = Field(default=None, description="A Debian mirror, instead of the machines' own.")
    pip_index: Url | None = Field(default=None, description="A package index for pip, instead of the machines' own.")
