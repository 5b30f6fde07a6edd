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

NOT_ADOPTED: dict[Loc, str] = {
    (section,): f"none: {words}"
    for section, words in {
        "accounting": "accounting is the site's business",
        "users": "people are the site's business",
        "groups": "people are the site's business",
        "accounts": "accounts are the site's business",
        "mounts": "mounts are the site's business",
        "partitions": "the site's slurm.conf has them",
        "topology": "the site's slurm.conf has it",
        "slurm_conf": "hpcli changes no line of the site's slurm.conf",
        "prolog": "the site's own Prolog is chained by adopted.chain_prolog",
        "epilog": "the site's own Epilog stays as it is",
        "pam_slurm_adopt": "logins are the site's business",
    }.items()
} | {
    ("hosts", key): "none: machines of an adopted cluster reboot through Slurm's RebootProgram alone"
    for key in ("spare_machines", "reboot_command", "replace_command")
}
"""What hpcli leaves alone on a cluster that somebody else built; what a file of defaults says of it does not count."""

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


def _not_adopted(spec: Spec, _: Limits) -> Iterator[Finding]:
    if spec.provider != "adopted":
        return
    for loc, expected in NOT_ADOPTED.items():
        value: object = spec
        for part in loc:
            value = getattr(value, str(part))
        if value and getattr(value, "enabled", True):
            yield Finding(loc, _listed(loc, value), expected)


def _listed(loc: Loc, value: object) -> str:
    if isinstance(value, dict):
        return f"{len(value)} parameter{'s' if len(value) > 1 else ''}"
    return _shown(loc, value) if isinstance(value, tuple) else f"{str(loc[-1]).replace('_', ' ')} asked for"


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
    Rule(_not_adopted, ("provider", *sorted({str(loc[0]) for loc in NOT_ADOPTED} - {"hosts"}))),
    Rule(_nfs_in_containers, ("provider",)),
    Rule(_pam_in_containers, ("provider", "pam_slurm_adopt")),
    Rule(_subnet, PLACE_NAMES),
)
