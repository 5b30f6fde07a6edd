"""What a machine is, in one round trip; and whether hpcli can work there."""

from dataclasses import dataclass

from hpcli.domain.blueprint import ADOPTED, Place, Role
from hpcli.errors import HpcliError
from hpcli.spec.model import Spec

SERIES = {"bookworm": "22.05", "trixie": "24.11", "forky": "26.05", "sid": "26.05"}
"""The Slurm of each Debian release's own packages."""

LEAST_DISK = 1024
"""MiB that packages and virtual environment need (about 700 measured), and some air."""

LEAST_DISK_ADOPTED = 300
"""MiB that hpcli and its virtual environment need (about 130 measured), and some air."""

LEAST_PYTHON = (3, 11)

MAX_SKEW = 60.0
"""Seconds by which a clock may be off: a munge credential lives for 300."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One machine as `lifecycle/facts` describes it. Sizes are in MiB; `slurm` is "" where none is installed."""

    os_id: str = ""
    os_version: str = ""
    codename: str = ""
    arch: str = ""
    hostname: str = ""
    systemd: bool = False
    python: str = ""
    slurm: str = ""
    disk_free_mib: int = 0
    memory_mib: int = 0
    cpus: int = 0
    uid: int = -1
    sudo: bool = False
    epoch: float = 0.0

    @property
    def series(self) -> str:
        """The Slurm series installed, else the one that the system's packages hold; "" for neither."""
        return ".".join(self.slurm.split(".")[:2]) if self.slurm else SERIES.get(self.codename, "")


def parse_facts(text: str) -> Facts:
    """Parse `key=value` lines. Raises `HpcliError` for what is no such list."""
    pairs = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    try:
        return Facts(
            os_id=pairs["os_id"],
            os_version=pairs["os_version"],
            codename=pairs["codename"],
            arch=pairs["arch"],
            hostname=pairs["hostname"],
            systemd=pairs["systemd"] == "yes",
            python=pairs["python"],
            slurm=pairs["slurm"],
            disk_free_mib=int(pairs["disk_free_mib"]),
            memory_mib=int(pairs["memory_mib"]),
            cpus=int(pairs["cpus"]),
            uid=int(pairs["uid"]),
            sudo=pairs["sudo"] == "yes",
            epoch=float(pairs["epoch"]),
        )
    except (KeyError, ValueError) as error:
        raise HpcliError("facts", f"found {text[-200:]!r}, expected key=value lines ({error!r})") from None


def complaint(place: Place, facts: Facts, spec: Spec, now: float, *, sizes: bool = True) -> str:
    """All reasons why this machine cannot be what the spec wants; "" when it can. Containers lie about `sizes`."""
    adopted = spec.provider == ADOPTED
    found = [_python_complaint(facts, spec) if adopted else _system_complaint(facts, spec)]
    least = LEAST_DISK_ADOPTED if adopted else LEAST_DISK
    if facts.uid != 0 and not facts.sudo:
        found.append("found no passwordless sudo, expected root or sudo -n")
    if facts.disk_free_mib < least:
        found.append(f"found {facts.disk_free_mib} MiB free below /opt, expected at least {least}")
    if abs(facts.epoch - now) > MAX_SKEW:
        found.append(
            f"found its clock {facts.epoch - now:+.0f} s off, expected at most {MAX_SKEW:.0f} s (munge refuses more)"
        )
    if sizes and not adopted and place.role is Role.COMPUTE:
        found += _size_complaints(place, facts, spec)
    return ", and ".join(filter(None, found))


def _system_complaint(facts: Facts, spec: Spec) -> str:
    wanted = spec.slurm.version
    if facts.os_id not in ("debian", "ubuntu"):
        return f"found {facts.os_id or 'an unknown system'} {facts.os_version}, expected Debian or Ubuntu"
    if not facts.series:
        return f"found {facts.os_id} {facts.codename} without Slurm, expected Debian 12, 13 or sid, or Slurm installed"
    if wanted and facts.series != wanted:
        return f"found Slurm {facts.series} ({facts.codename}), expected {wanted} as slurm.version says"
    return ""


def _python_complaint(facts: Facts, spec: Spec) -> str:
    """Any Linux will do: nothing of Slurm's is installed there."""
    numbers = tuple(int(part) for part in facts.python.split(".")[:2] if part.isdigit())
    if numbers >= LEAST_PYTHON:
        return ""
    least = ".".join(map(str, LEAST_PYTHON))
    found = f"Python {facts.python}" if facts.python else f"no Python at {spec.adopted.python}"
    return f"found {found}, expected {least} or newer: name one in adopted.python"


def _size_complaints(place: Place, facts: Facts, spec: Spec) -> list[str]:
    node, found = spec.node(place.name), []
    if facts.cpus < node.cpus:
        found.append(f"found {facts.cpus} CPUs, expected {node.cpus} as the spec says")
    if facts.memory_mib < node.memory:
        found.append(f"found {facts.memory_mib} MiB of memory, expected {node.memory} as the spec says")
    return found
