"""A local cluster as a blueprint: every node a place, and one place, this machine, that holds all files."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from hpcli.domain.blueprint import Blueprint, Place, Role
from hpcli.providers.local.config import config_files
from hpcli.providers.local.free_ports import next_free
from hpcli.providers.local.layout import Layout, clusters_home
from hpcli.providers.local.loopback import LOOPBACK, Loopback, short_host_name
from hpcli.providers.local.record import Record, ports_of_others
from hpcli.spec.model import Spec

Value = TypeVar("Value")

HERE = "localhost"
"""The place that stands for this machine, and for the controller."""


def blueprint_of(layout: Layout, spec: Spec, spec_text: str, record: Record) -> Blueprint:
    """What a spec makes of this machine, with the ports and addresses of a record of just its nodes."""
    host = short_host_name()
    nodes = tuple(
        Place(node, Role.COMPUTE, f"{LOOPBACK}:{port}", hostname=host)
        for node, port in zip(record.nodes, record.ports.slurmd, strict=True)
    )
    return Blueprint(
        cluster=spec.name,
        provider="local",
        slurm_version=record.slurm_version,
        spec_text=spec_text,
        places=(Place(HERE, Role.CONTROLLER, record.address, hostname=host), *nodes),
        files={HERE: config_files(layout, spec, record)},
    )


def wanted_record(layout: Layout, spec: Spec, old: Record, version: str, loopback: Loopback) -> Record:
    """The record of a standing cluster as a spec wants it; nodes that stay keep their ports, new ones get free ones.

    Raises `HpcliError` when there are none.
    """
    known = dict(zip(old.nodes, old.ports.slurmd, strict=True))
    new = [name for name in spec.node_names if name not in known]
    taken = ports_of_others(clusters_home(), layout.record) | old.ports.all
    added = dict(zip(new, next_free(len(new), taken, max(old.ports.all)), strict=True)) if new else {}
    return replace(
        old,
        nodes=spec.node_names,
        gpus=tuple(node.gpu_count for node in spec.nodes),
        ports=replace(old.ports, slurmd=tuple({**known, **added}[name] for name in spec.node_names)),
        slurm_version=version,
        accounting=spec.accounting.enabled,
        agent_per_node=spec.local.agents == "per-node",
        address=loopback.address,
        wrapper=loopback.wrapper,
    )


def at_places(record: Record, blueprint: Blueprint) -> Record:
    """The same record with the ports that a blueprint was made with: who else came since does not matter."""
    ports = {place.name: int(place.address.rpartition(":")[2]) for place in blueprint.places if ":" in place.address}
    return replace(record, ports=replace(record.ports, slurmd=tuple(ports[name] for name in record.nodes)))


def both(new: Record, old: Record) -> Record:
    """A record that knows the nodes of both: while a cluster is being changed, all of them exist."""
    gone = [i for i, name in enumerate(old.nodes) if name not in new.nodes]
    return replace(
        new,
        nodes=(*new.nodes, *_pick(old.nodes, gone)),
        gpus=(*new.gpus, *_pick(old.gpus, gone)),
        ports=replace(new.ports, slurmd=(*new.ports.slurmd, *_pick(old.ports.slurmd, gone))),
        accounting=new.accounting or old.accounting,
    )


def _pick(values: Sequence[Value], positions: Sequence[int]) -> tuple[Value, ...]:
    return tuple(values[i] for i in positions)
