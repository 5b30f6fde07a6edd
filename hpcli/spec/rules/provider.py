"""Rules about what each provider can do."""

from collections.abc import Iterator
from ipaddress import IPv4Network

from hpcli.spec.model import Spec
from hpcli.spec.problems import Finding, Loc, show
from hpcli.spec.rules.rule import PLACE_NAMES, Limits, Rule, declared

NOT_LOCAL: dict[Loc, str] = {
    ("login", "nodes"): "none: provider local simulates no login nodes, this machine is one",
    ("login", "count"): "0: provider local simulates no login nodes, this machine is one",
    ("users",): "none: provider local runs as you, and makes no users",
    ("groups",): "none: provider local runs as you, and makes no groups",
    ("accounts",): "none: provider local runs as you, under Slurm's own account root",
    ("mounts",): "none: jobs of provider local see this machine's own folders",
    ("pam_slurm_adopt",): "false: provider local changes nothing about logins",
    ("accounting", "database"): "none: provider local runs a private database",
}
"""What provider local cannot do; from a file of defaults it is left out without a word."""

FIRST_ADDRESS = 10
"""The controller's place in a Docker network; the others follow."""


def _not_local(spec: Spec, _: Limits) -> Iterator[Finding]:
    if spec.provider != "local":
        return
    for loc, expected in NOT_LOCAL.items():
        value: object = spec
        for part in loc:
            value = getattr(value, str(part))
        if value:
            yield Finding(loc, _shown(loc, value), expected)


def _shown(loc: Loc, value: object) -> str:
    if isinstance(value, tuple):
        word = str(loc[-1])
        return f"{len(value)} {word if len(value) > 1 else word.removesuffix('s')}"
    return "a database" if loc[-1] == "database" else show(value)


def _nfs_in_containers(spec: Spec, _: Limits) -> Iterator[Finding]:
    for i, mount in enumerate(spec.mounts):
        if spec.provider == "docker" and mount.nfs is not None:
            expected = "bind, a folder of the Docker host: containers of provider docker may not mount"
            yield Finding(("mounts", i, "nfs"), show(mount.nfs), expected)


def _pam_in_containers(spec: Spec, _: Limits) -> Iterator[Finding]:
    if spec.provider == "docker" and spec.pam_slurm_adopt:
        expected = "false: it adopts into a job's cgroup, and jobs in containers have none"
        yield Finding(("pam_slurm_adopt",), "true", expected)


def _subnet(spec: Spec, _: Limits) -> Iterator[Finding]:
    text = spec.docker.subnet
    if text is None:
        return
    try:
        network = IPv4Network(text)
    except ValueError:
        yield Finding(("docker", "subnet"), show(text), "an IPv4 network such as 172.30.5.0/24")
        return
    wanted = FIRST_ADDRESS + 1 + len(spec.login_names) + declared(spec)
    if not network.is_private:
        yield Finding(("docker", "subnet"), show(text), "a private network such as 172.30.5.0/24")
    elif network.num_addresses - 1 < wanted:
        yield Finding(("docker", "subnet"), f"{network.num_addresses} addresses", f"at least {wanted + 1}")


RULES = (
    Rule(_not_local, ("provider", "login", "users", "groups", "accounts", "mounts", "accounting", "pam_slurm_adopt")),
    Rule(_nfs_in_containers, ("provider",)),
    Rule(_pam_in_containers, ("provider", "pam_slurm_adopt")),
    Rule(_subnet, PLACE_NAMES),
)
