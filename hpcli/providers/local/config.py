"""Writing a local cluster's configuration: Slurm's files, the gate, and the daemons' settings."""

import getpass
import grp
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from hpcli.domain.blueprint import ConfigFile
from hpcli.domain.settings import Address, AgentNode, AgentSettings, ControllerSettings, settings_text
from hpcli.ports import Transport
from hpcli.providers.local.accounting import DATABASE
from hpcli.providers.local.free_ports import Reservation, reserve
from hpcli.providers.local.layout import Layout
from hpcli.providers.local.loopback import LOOPBACK, Loopback, find_loopback, hosts_file, short_host_name
from hpcli.providers.local.programs import find_programs, slurm_version
from hpcli.providers.local.record import Ports, Record
from hpcli.render.site import AccountingSite, Endpoint, NodeSite, SlurmSite
from hpcli.render.slurm import render_slurm
from hpcli.spec.model import Spec
from hpcli.spec.nodes import NodeSpec

PROLOG = Path(__file__).resolve().parents[2] / "lifecycle-scripts" / "slurm" / "prolog"


def make_record(spec: Spec, ports: Ports, version: str, loopback: Loopback) -> Record:
    return Record(
        name=spec.name,
        nodes=spec.node_names,
        gpus=tuple(node.gpu_count for node in spec.nodes),
        ports=ports,
        slurm_version=version,
        accounting=spec.accounting.enabled,
        agent_per_node=spec.local.agents == "per-node",
        address=loopback.address,
        wrapper=loopback.wrapper,
        created=time.time(),
    )


async def preview(spec: Spec, transport: Transport) -> Mapping[str, str]:
    """Slurm's files as they would be written now, by name; nothing is touched."""
    version = await slurm_version(transport, find_programs(spec.accounting.enabled)["slurmctld"])
    reservation = reserve(len(spec.nodes) + 3, frozenset(), spec.local.first_port)
    reservation.release()
    record = make_record(spec, ports_of(reservation), version, find_loopback())
    return render_slurm(spec, _site(Layout.of(spec.name), record))


def ports_of(reservation: Reservation) -> Ports:
    slurmctld, controller, slurmdbd, *slurmd = reservation.ports
    return Ports(slurmctld, controller, slurmdbd, tuple(slurmd))


def write_config(layout: Layout, spec: Spec, record: Record) -> None:
    """Write everything under etc/, secrets in 0600 files. Safe to repeat: the key is made once."""
    if not layout.munge_key.exists():
        layout.munge_key.touch(mode=0o600)
        layout.munge_key.write_bytes(secrets.token_bytes(1024))
    for file in config_files(layout, spec, record):
        path = Path(file.path)
        path.touch(mode=0o600)
        path.write_text(file.text)
        path.chmod(file.mode)


def config_files(layout: Layout, spec: Spec, record: Record) -> tuple[ConfigFile, ...]:
    """Every file under etc/, ours alone; the same text for the same spec and record."""
    owner, group = own_names()
    texts: dict[str, str] = {
        **render_slurm(spec, _site(layout, record)),
        "hosts": hosts_file(),
        "prolog.conf": f"verdict_dir={layout.home / 'nodes'}\n",
        "machines.tsv": "".join(f"{node}\t{gpus}\n" for node, gpus in zip(record.nodes, record.gpus, strict=True)),
        "controller.json": settings_text(_controller(layout, spec, record)),
        "agent.json": settings_text(_agent(layout, spec, record)),
    }
    scripts = {"prolog": PROLOG.read_text(), "task-prolog": _task_prolog(layout, record)}
    return (
        *(ConfigFile(str(layout.etc / name), text, 0o600, owner, group) for name, text in texts.items()),
        *(ConfigFile(str(layout.etc / name), text, 0o700, owner, group) for name, text in scripts.items()),
    )


def own_names() -> tuple[str, str]:
    """Names of the user and the group that own what we write, numbers where they have none."""
    try:
        return getpass.getuser(), grp.getgrgid(os.getgid()).gr_name
    except KeyError:
        return getpass.getuser(), str(os.getgid())


def _site(layout: Layout, record: Record) -> SlurmSite:
    host = short_host_name()
    user = getpass.getuser()
    year, month, *_ = record.slurm_version.split(".")
    places = {
        node: NodeSite(host, LOOPBACK, port, str(layout.node(node) / "dev"))
        for node, port in zip(record.nodes, record.ports.slurmd, strict=True)
    }
    return SlurmSite(
        version=(int(year), int(month)),
        user=user,
        controller=Endpoint(host, record.address, record.ports.slurmctld),
        nodes=places,
        munge_socket=str(layout.munge_socket),
        state=str(layout.state),
        spool=str(layout.spool / "%n"),
        slurmctld_log=str(layout.log / "slurmctld.log"),
        slurmctld_pid=str(layout.runtime / "slurmctld.pid"),
        slurmd_log=str(layout.log / "slurmd-%n.log"),
        slurmd_pid=str(layout.runtime / "slurmd-%n.pid"),
        prolog=str(layout.etc / "prolog"),
        task_prolog=str(layout.etc / "task-prolog") if record.wrapper else "",
        accounting=AccountingSite(
            port=record.ports.slurmdbd,
            user=user,
            database=DATABASE,
            log=str(layout.log / "slurmdbd.log"),
            pid=str(layout.runtime / "slurmdbd.pid"),
        ),
    )


def _task_prolog(layout: Layout, record: Record) -> str:
    """A job's own srun listens by the machine's name too, so it must believe the same hosts file."""
    variables = Loopback(record.address, record.wrapper).environment(layout.hosts)
    return "#!/bin/sh\n" + "".join(f"echo 'export {name}={value}'\n" for name, value in variables.items())


def _controller(layout: Layout, spec: Spec, record: Record) -> ControllerSettings:
    return ControllerSettings(
        cluster=spec.name,
        provider=spec.provider,
        listen=Address(LOOPBACK, record.ports.controller),
        munge_socket=str(layout.munge_socket),
        slurm_conf=str(layout.slurm_conf),
        journal=str(layout.journal),
        lease=str(layout.state / "hpcli-controller.lease"),
        agent_uid=os.getuid(),
        policy=spec.policy(),
    )


def _agent(layout: Layout, spec: Spec, record: Record) -> AgentSettings:
    return AgentSettings(
        cluster=spec.name,
        controller=Address(LOOPBACK, record.ports.controller),
        munge_socket=str(layout.munge_socket),
        slurm_conf=str(layout.slurm_conf),
        controller_uid=os.getuid(),
        interval=spec.health.interval,
        nodes=tuple(_agent_node(layout, spec, node) for node in spec.nodes),
        kernel_log=spec.health.kernel_log,
        gate=not spec.policy().observes,
    )


def _agent_node(layout: Layout, spec: Spec, node: NodeSpec) -> AgentNode:
    folder = layout.node(node.name)
    own: dict[str, dict[str, object]] = {
        "gpu.count": {"expected": node.gpu_count},
        "munge": {"socket": str(layout.munge_socket)},
        "slurmd.alive": {"pid_file": str(layout.runtime / f"slurmd-{node.name}.pid")},
        "disk.free": {"path": str(layout.home)},
        "disk.read_only": {"path": str(layout.home)},
    }
    names = sorted(own.keys() | spec.health.checks.keys())
    checks = {name: {**own.get(name, {}), **spec.health.checks.get(name, {})} for name in names}
    return AgentNode(node.name, str(folder), str(folder / "verdict"), checks)
