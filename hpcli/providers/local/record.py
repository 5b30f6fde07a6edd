"""What a local cluster was built with: written at `up`, read by everything after it."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from hpcli.errors import HpcliError


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports on 127.0.0.1; `slurmd` has one per node, in the order of the nodes."""

    slurmctld: int
    controller: int
    slurmdbd: int
    slurmd: tuple[int, ...]

    @property
    def all(self) -> frozenset[int]:
        return frozenset((self.slurmctld, self.controller, self.slurmdbd, *self.slurmd))


@dataclass(frozen=True, slots=True)
class Record:
    """A local cluster as built. `gpus` counts each node's GPUs, in the order of the nodes."""

    name: str
    nodes: tuple[str, ...]
    gpus: tuple[int, ...]
    ports: Ports
    slurm_version: str
    accounting: bool
    agent_per_node: bool
    address: str
    wrapper: str
    created: float
    complete: bool = False


def write_record(path: Path, record: Record) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(record)) + "\n")
    fresh.replace(path)


def read_record(path: Path) -> Record:
    """Raises `HpcliError` when the file is damaged."""
    try:
        raw = dict(json.loads(path.read_text()))
        ports = dict(raw.pop("ports"))
        slurmd = tuple(ports.pop("slurmd"))
        nodes, gpus = tuple(raw.pop("nodes")), tuple(raw.pop("gpus"))
        return Record(nodes=nodes, gpus=gpus, ports=Ports(slurmd=slurmd, **ports), **raw)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HpcliError(
            str(path), f"damaged cluster record: {error!r}", "remove what is left: hpcli cluster down NAME --yes"
        ) from None


def ports_of_others(clusters: Path, own: Path) -> frozenset[int]:
    """Ports of the other clusters, which may be down at this moment; a damaged one of them is not our affair."""
    found: set[int] = set()
    for file in clusters.glob("*/cluster.json"):
        if file != own:
            with suppress(HpcliError):
                found |= read_record(file).ports.all
    return frozenset(found)
