"""Rules about shared folders."""

from collections.abc import Iterator

from hpcli.spec.model import Spec
from hpcli.spec.problems import Finding, show
from hpcli.spec.rules.rule import Limits, Rule, doubles

SYSTEM = frozenset({"/", "/bin", "/lib", "/lib64", "/opt", "/root", "/sbin", "/usr", "/var", "/var/lib", "/var/log"})
"""Folders that a mount would hide."""

SYSTEM_TREES = (
    "/boot",
    "/dev",
    "/etc",
    "/opt/hpcli",
    "/proc",
    "/run",
    "/sys",
    "/usr/bin",
    "/usr/lib",
    "/usr/sbin",
    "/var/lib/hpcli",
    "/var/lib/mysql",
    "/var/lib/slurm",
    "/var/log/hpcli",
    "/var/log/slurm",
)
"""As well, with everything below."""


def _source(spec: Spec, _: Limits) -> Iterator[Finding]:
    for i, mount in enumerate(spec.mounts):
        if mount.nfs is None and mount.bind is None:
            yield Finding(("mounts", i), "neither nfs nor bind", "one of them")
        if mount.nfs is not None and mount.bind is not None:
            yield Finding(("mounts", i, "bind"), "both nfs and bind", "one of them")


def _paths(spec: Spec, _: Limits) -> Iterator[Finding]:
    paths = [mount.path for mount in spec.mounts]
    yield from doubles(("mounts",), "path", "mount at", paths)
    for i, path in enumerate(paths):
        if path in SYSTEM or any(f"{path}/".startswith(f"{tree}/") for tree in SYSTEM_TREES):
            yield Finding(("mounts", i, "path"), show(path), "another path: the system's own files are there")
        later = [other for other in paths[i + 1 :] if path.startswith(f"{other}/")]
        if later:
            expected = f"{later[0]} before it, which would hide it"
            yield Finding(("mounts", i, "path"), f"{path} before {later[0]}", expected)


RULES = (
    Rule(_source, ("mounts.nfs", "mounts.bind")),
    Rule(_paths, ("mounts.path",)),
)
