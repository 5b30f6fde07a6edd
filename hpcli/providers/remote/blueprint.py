"""A spec and its machines to the blueprint of a cluster: every file on every machine."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpcli.domain.blueprint import Blueprint, ConfigFile, Place, Role
from hpcli.domain.settings import Address, AgentNode, AgentSettings, ClientSettings, ControllerSettings, settings_text
from hpcli.errors import HpcliError
from hpcli.providers.remote.bootstrap import script_text
from hpcli.providers.remote.ground import ClusterKey
from hpcli.providers.remote.keeper_files import SLURM_UID, keeper_files
from hpcli.render.machine import (
    CONTAIN_REST,
    CONTROLLER_PORT,
    JOURNAL,
    KEEPER_SOCKET,
    LIFECYCLE,
    VERDICTS,
    Seat,
    machine_files,
)
from hpcli.render.site import AccountingSite, Endpoint, NodeSite, SlurmSite
from hpcli.render.slurm import render_slurm
from hpcli.spec.hostlist import fold
from hpcli.spec.model import Spec

SLURMCTLD_PORT, SLURMD_PORT, SLURMDBD_PORT = 6817, 6818, 6819
RELEASE = "/etc/hpcli/release"
STATE = "/var/lib/slurm/slurmctld"
SPOOL = "/var/lib/slurm/slurmd"
LEASE = f"{STATE}/hpcli-controller.lease"
SLURM_CONF = "/etc/slurm/slurm.conf"
MUNGE_SOCKET = "/run/munge/munge.socket.2"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What goes into 0600 files and nowhere else."""

    munge_key: str
    database_password: str = ""


@dataclass(frozen=True, slots=True)
class Fragments:
    """A site's own prolog and epilog scripts, as (name, text) in their order."""

    prolog: tuple[tuple[str, str], ...] = ()
    epilog: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Ingredients:
    """All that a blueprint is made from beside the spec."""

    provider: str
    admin: str
    bound: bool
    can_replace: bool
    port: int
    secrets: Secrets
    release: str = ""
    key: ClusterKey | None = None
    fragments: Fragments = Fragments()


def make_blueprint(spec: Spec, spec_text: str, places: Sequence[Place], series: str, given: Ingredients) -> Blueprint:
    """`series` is the machines' Slurm, as 24.11. Raises `HpcliError` for a value that Slurm could not read."""
    slurm = render_slurm(spec, _site(spec, places, series, given))
    return Blueprint(
        cluster=spec.name,
        provider=given.provider,
        slurm_version=series,
        spec_text=spec_text,
        places=tuple(places),
        files={place.name: _files_of(spec, place, series, places, slurm, given) for place in places},
    )


def common_series(series: Mapping[str, str]) -> str:
    """The one Slurm series of all machines, given by name. Raises `HpcliError` when they differ."""
    by_series: dict[str, list[str]] = {}
    for name, one in series.items():
        by_series.setdefault(one, []).append(name)
    if len(by_series) != 1:
        seen = "; ".join(f"{one or 'none'} on {fold(names)}" for one, names in sorted(by_series.items()))
        raise HpcliError("Slurm", f"found {seen}, expected one series on all machines", "install one system on all")
    return next(iter(by_series))


def _site(spec: Spec, places: Sequence[Place], series: str, given: Ingredients) -> SlurmSite:
    controller = next(place for place in places if place.role is Role.CONTROLLER)
    year, month = series.split(".")
    nodes = {
        place.name: NodeSite(place.hostname, place.address, SLURMD_PORT, "/dev")
        for place in places
        if place.role is Role.COMPUTE
    }
    return SlurmSite(
        version=(int(year), int(month)),
        user="slurm",
        slurmd_user="root",
        controller=Endpoint(controller.hostname, controller.address, SLURMCTLD_PORT),
        nodes=nodes,
        munge_socket=MUNGE_SOCKET,
        state=STATE,
        spool=SPOOL,
        slurmctld_log="/var/log/slurm/slurmctld.log",
        slurmctld_pid="/run/slurm/slurmctld.pid",
        slurmd_log="/var/log/slurm/slurmd.log",
        slurmd_pid="/run/slurm/slurmd.pid",
        prolog="/etc/slurm/prolog",
        epilog="/etc/slurm/epilog",
        reboot_program=f"{LIFECYCLE}/reboot",
        shared_machine=False,
        cgroup=controller.systemd,
        overrides=given.bound,
        prolog_contain=spec.pam_slurm_adopt,
        accounting=_accounting(spec, given.secrets),
    )


def _accounting(spec: Spec, secrets: Secrets) -> AccountingSite:
    return AccountingSite(
        port=SLURMDBD_PORT,
        user=spec.accounting.database.user if spec.accounting.database else "slurm",
        database=spec.accounting.database.name if spec.accounting.database else "slurm_acct_db",
        log="/var/log/slurm/slurmdbd.log",
        pid="/run/slurm/slurmdbd.pid",
        storage_host=spec.accounting.database.host if spec.accounting.database else "",
        storage_port=spec.accounting.database.port if spec.accounting.database else 0,
        password=secrets.database_password,
    )


def _files_of(
    spec: Spec,
    place: Place,
    series: str,
    places: Sequence[Place],
    slurm: Mapping[str, str],
    given: Ingredients,
) -> tuple[ConfigFile, ...]:
    if place.role is Role.SPARE:
        return ()
    compute = place.role is Role.COMPUTE
    gpus = spec.node(place.name).gpu_count if compute else 0
    seat = Seat(
        place=place,
        admin=given.admin,
        bound=given.bound,
        keeper=given.key is not None,
        simulated_gpus=gpus if gpus and _simulated(spec, place.name, given) else 0,
    )
    files = [*machine_files(spec, seat, series, places), _munge_key(given.secrets), _client(spec, places)]
    # Another hpcli is a change like others: its settings and its code must not part ways.
    files.append(ConfigFile(RELEASE, f"{given.release}\n"))
    files += [ConfigFile(f"/etc/slurm/{name}", text) for name, text in slurm.items() if name != "slurmdbd.conf"]
    if compute:
        files += [_agent(spec, place, places, given.release), *_gate(given.fragments)]
    if place.role is Role.CONTROLLER:
        files += [_controller(spec, place, given), *_slurmdbd(slurm)]
        files += keeper_files(spec, places, given.admin, given.port, given.key) if given.key else []
    return tuple(sorted(files, key=lambda file: file.path))


def _simulated(spec: Spec, node: str, given: Ingredients) -> bool:
    group = next(group for group in spec.compute if group.name == spec.node(node).group)
    return bool(group.gpus and (group.gpus.simulated or given.bound))


def _munge_key(secrets: Secrets) -> ConfigFile:
    return ConfigFile("/etc/munge/munge.key", secrets.munge_key, 0o600, "munge", "munge", secret=True)


def _slurmdbd(slurm: Mapping[str, str]) -> list[ConfigFile]:
    if "slurmdbd.conf" not in slurm:
        return []
    # slurmdbd refuses a file that others may read, and it may hold the database's password.
    return [ConfigFile("/etc/slurm/slurmdbd.conf", slurm["slurmdbd.conf"], 0o600, "slurm", "slurm", secret=True)]


def _address(places: Sequence[Place]) -> Address:
    controller = next(place for place in places if place.role is Role.CONTROLLER)
    return Address(controller.address, CONTROLLER_PORT)


def _client(spec: Spec, places: Sequence[Place]) -> ConfigFile:
    settings = ClientSettings(spec.name, _address(places), MUNGE_SOCKET, SLURM_CONF)
    return ConfigFile("/etc/hpcli/client.json", settings_text(settings))


def _controller(spec: Spec, place: Place, given: Ingredients) -> ConfigFile:
    settings = ControllerSettings(
        cluster=spec.name,
        provider=given.provider,
        listen=Address(place.address, CONTROLLER_PORT),
        munge_socket=MUNGE_SOCKET,
        slurm_conf=SLURM_CONF,
        journal=JOURNAL,
        lease=LEASE,
        agent_uid=0,
        machines=True,
        keeper=KEEPER_SOCKET,
        can_replace=given.can_replace,
        requeue_rest=CONTAIN_REST if spec.pam_slurm_adopt else 1.0,
        policy=spec.policy(),
    )
    return ConfigFile("/etc/hpcli/controller.json", settings_text(settings), 0o640, "root", "slurm")


def _agent(spec: Spec, place: Place, places: Sequence[Place], release: str) -> ConfigFile:
    node = spec.node(place.name)
    own: dict[str, dict[str, object]] = {
        "gpu.count": {"expected": node.gpu_count},
        "slurmd.alive": {"pid_file": "/run/slurm/slurmd.pid"},
    }
    names = own.keys() | spec.health.checks.keys()
    checks = {name: {**own.get(name, {}), **spec.health.checks.get(name, {})} for name in sorted(names)}
    settings = AgentSettings(
        cluster=spec.name,
        controller=_address(places),
        munge_socket=MUNGE_SOCKET,
        slurm_conf="",
        controller_uid=SLURM_UID,
        interval=spec.health.interval,
        nodes=(AgentNode(place.name, "", f"{VERDICTS}/{place.name}/verdict", checks),),
        kernel_log=spec.health.kernel_log,
        gate=not spec.policy().observes,
        release=release,
    )
    return ConfigFile("/etc/hpcli/agent.json", settings_text(settings), 0o600)


def _gate(fragments: Fragments) -> list[ConfigFile]:
    has = {"prolog": bool(fragments.prolog), "epilog": bool(fragments.epilog)}
    settings = f"verdict_dir={VERDICTS}\n" + ("fragments=/etc/slurm/prolog.d\n" if has["prolog"] else "")
    files = [
        ConfigFile("/etc/slurm/prolog", script_text("slurm/prolog"), 0o755),
        ConfigFile("/etc/slurm/epilog", script_text("slurm/epilog"), 0o755),
        ConfigFile("/etc/slurm/prolog.conf", settings),
    ]
    for kind in ("prolog", "epilog"):
        for number, (name, text) in enumerate(getattr(fragments, kind), 1):
            plain = re.sub(r"[^A-Za-z0-9_.-]", "-", name)
            files.append(ConfigFile(f"/etc/slurm/{kind}.d/{number:02d}-{plain}", text, 0o755))
    return files
