"""The files of one real machine beside Slurm's own: what its lifecycle scripts read, services, units, settings."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hpcli.domain.blueprint import ConfigFile, Place, Role
from hpcli.render import safe
from hpcli.spec.model import Spec

NODE_CONF = "/etc/hpcli/node.conf"
LIFECYCLE = "/opt/hpcli/lifecycle"
HPCLI = "/usr/local/bin/hpcli"
VERDICTS = "/run/hpcli"
CONTROLLER_PORT = 6825
JOURNAL = "/var/lib/hpcli/controller/journal.sqlite"
CONTAIN_REST = 3.0
"""Seconds from requeue to release. With PrologFlags=Alloc or Contain slurmd forgets a requeued job's old credential at
most every two seconds (_clear_expired_job_states, slurmd 22.05): a job that is back sooner may wait 20 s, and cost its
node."""

USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEEPER_SOCKET = "/run/hpcli/keeper/socket"


@dataclass(frozen=True, slots=True)
class Seat:
    """One machine as it will be. `bound`: its engine makes mounts and resolves names."""

    place: Place
    admin: str
    bound: bool = False
    keeper: bool = False
    simulated_gpus: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A daemon in a machine's start order; `kept` is started again when it ends."""

    name: str
    user: str
    argv: tuple[str, ...]
    kept: bool = False


def machine_files(spec: Spec, seat: Seat, series: str, everyone: Sequence[Place]) -> tuple[ConfigFile, ...]:
    """Render what the lifecycle scripts read on this machine."""
    files = [
        ConfigFile(NODE_CONF, _node_conf(spec, seat, series)),
        ConfigFile("/etc/hpcli/groups.tsv", _table((group.name, str(group.gid)) for group in spec.groups)),
        ConfigFile("/etc/hpcli/users.tsv", _table(_user_rows(spec))),
        ConfigFile("/etc/hpcli/mounts.tsv", _table(_mount_rows(spec, seat))),
        ConfigFile("/etc/hpcli/hosts", "" if seat.bound else _hosts(everyone)),
    ]
    if seat.place.role is Role.CONTROLLER and spec.accounting.enabled:
        files.append(ConfigFile("/etc/hpcli/accounts.tsv", _table(_account_rows(spec))))
    return (*files, *_service_files(services(spec, seat), seat))


def services(spec: Spec, seat: Seat) -> tuple[Service, ...]:
    """What runs on a machine, in the order of their start."""
    address = safe.address("address", seat.place.address)
    munge = Service("munge", "munge", ("/usr/sbin/munged", "--foreground", f"--origin={address}"))
    if seat.place.role is Role.LOGIN:
        return (munge,)
    if seat.place.role is Role.COMPUTE:
        agent = (HPCLI, "agent", "--config", "/etc/hpcli/agent.json")
        slurmd = Service("slurmd", "root", ("/usr/sbin/slurmd", "-D"))
        # The agent first: it must speak even where slurmd does not start, as while a GPU is missing.
        return (munge, Service("hpcli-agent", "root", agent, kept=True), slurmd)
    controller = (HPCLI, "controller", "--config", "/etc/hpcli/controller.json")
    keeper = Service("hpcli-keeper", "root", (HPCLI, "keeper", "--config", "/etc/hpcli/keeper.json"), kept=True)
    return (
        munge,
        *_accounting_services(spec),
        Service("slurmctld", "slurm", ("/usr/sbin/slurmctld", "-D")),
        *((keeper,) if seat.keeper else ()),
        Service("hpcli-controller", "slurm", controller, kept=True),
    )


def _accounting_services(spec: Spec) -> tuple[Service, ...]:
    if not spec.accounting.enabled:
        return ()
    slurmdbd = Service("slurmdbd", "slurm", ("/usr/sbin/slurmdbd", "-D"))
    if spec.accounting.database:
        return (slurmdbd,)
    return (Service("mariadb", "mysql", ("/usr/sbin/mariadbd",)), slurmdbd)


def _node_conf(spec: Spec, seat: Seat, series: str) -> str:
    accounting = "external" if spec.accounting.database else "embedded"
    values = {
        "HPCLI_CLUSTER": spec.name,
        "HPCLI_NODE": seat.place.name,
        "HPCLI_ROLE": seat.place.role.value,
        "HPCLI_SLURM": series,
        "HPCLI_ACCOUNTING": accounting if spec.accounting.enabled else "none",
        "HPCLI_CONTROLLER": spec.controller.name,
        "HPCLI_MIRROR": spec.packages.mirror or "",
        "HPCLI_PIP_INDEX": spec.packages.pip_index or "",
        "HPCLI_PAM_ADOPT": "yes" if spec.pam_slurm_adopt else "no",
        "HPCLI_ADMIN": seat.admin,
        "HPCLI_SIMULATED_GPUS": str(seat.simulated_gpus),
    }
    return "".join(f"{key}={value}\n" for key, value in values.items())


def _table(rows: Iterable[Sequence[str]]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)


def _user_rows(spec: Spec) -> Iterable[Sequence[str]]:
    for user in spec.users:
        keys = base64.b64encode("".join(f"{key}\n" for key in user.keys).encode()).decode()
        yield user.name, str(user.uid), user.group or "", ",".join(user.groups), keys


def _mount_rows(spec: Spec, seat: Seat) -> Iterable[Sequence[str]]:
    for mount in spec.mounts:
        if mount.nfs is not None:
            yield mount.path, "nfs", mount.nfs, mount.options
        elif mount.bind is not None and not seat.bound:
            yield mount.path, "bind", mount.bind, mount.options


def _account_rows(spec: Spec) -> Iterable[Sequence[str]]:
    for account in spec.accounts:
        yield "account", account.name, account.parent or "", account.description
    for user in spec.users:
        yield "user", user.name, user.account or "", user.admin


def _hosts(everyone: Sequence[Place]) -> str:
    """Names that are their own address are somebody else's to resolve."""
    known = (place for place in everyone if place.role is not Role.SPARE and place.address != place.name)
    return "".join(f"{place.address} {place.name}\n" for place in known)


def _service_files(wanted: Sequence[Service], seat: Seat) -> tuple[ConfigFile, ...]:
    if not seat.place.systemd:
        rows = ((one.name, one.user, "yes" if one.kept else "no", " ".join(one.argv)) for one in wanted)
        return (ConfigFile("/etc/hpcli/services.tsv", _table(rows)),)
    units = (
        ConfigFile(f"/etc/systemd/system/{one.name}.service", _unit(one))
        for one in wanted
        if one.name.startswith("hpcli-")
    )
    munge = next(one for one in wanted if one.name == "munge")
    options = " ".join(word for word in munge.argv[1:] if word != "--foreground")
    names = _table([one.name] for one in wanted)
    return (
        *units,
        ConfigFile("/etc/default/munge", f'OPTIONS="{options}"\n'),
        ConfigFile("/etc/hpcli/services.tsv", names),
        *_drop_ins(wanted),
    )


_HARDENING = {
    "hpcli-agent": ("NoNewPrivileges=yes", "ProtectSystem=full", "ProtectHome=yes", "PrivateTmp=yes"),
    "hpcli-keeper": ("NoNewPrivileges=yes", "ProtectSystem=full", "ReadWritePaths=/etc/hpcli", "PrivateTmp=yes"),
    "hpcli-controller": (
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "ReadWritePaths=/var/lib/hpcli/controller /var/lib/slurm",
    ),
}
_WORDS = {
    "hpcli-agent": "hpcli agent: watches this node and reports",
    "hpcli-controller": "hpcli controller: decides about repairs",
    "hpcli-keeper": "hpcli keeper: reboots and replaces machines",
}


def _unit(service: Service) -> str:
    lines = (
        "[Unit]",
        f"Description={_WORDS[service.name]}",
        "After=network-online.target munge.service slurmctld.service slurmd.service",
        "Wants=network-online.target",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        f"ExecStart={' '.join(service.argv)}",
        f"User={service.user}",
        "Restart=always",
        "RestartSec=2",
        *(("RuntimeDirectory=hpcli/keeper", "RuntimeDirectoryPreserve=yes") if "keeper" in service.name else ()),
        *_HARDENING[service.name],
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    )
    return "\n".join(lines) + "\n"


_AFTER: Mapping[str, str] = {
    "munge": "",
    "mariadb": "",
    "slurmdbd": "munge.service mariadb.service",
    "slurmctld": "munge.service slurmdbd.service",
    "slurmd": "munge.service remote-fs.target",
}
"""What the packages' units do not say of their order: slurmd needs what jobs stand on, slurmctld its accounting."""


_ALSO = {"slurmd": ("Type=simple", "ExecStart=", "ExecStart=/usr/sbin/slurmd -D $SLURMD_OPTIONS")}
"""Debian 13's unit runs slurmd with --systemd: without a pid file, which health checks read, and under a new pid after
each reconfigure. With -D it writes one and stays what it is."""


def _drop_ins(wanted: Sequence[Service]) -> tuple[ConfigFile, ...]:
    """Whoever ends by a fault is started again, for ever. Jobs outlive slurmd's (KillMode is the package's)."""
    return tuple(
        ConfigFile(f"/etc/systemd/system/{one.name}.service.d/hpcli.conf", _drop_in(one.name))
        for one in wanted
        if one.name in _AFTER
    )


def _drop_in(name: str) -> str:
    order = (f"After={_AFTER[name]}",) if _AFTER[name] else ()
    service = ("[Service]", "Restart=on-failure", "RestartSec=5", *_ALSO.get(name, ()))
    return "\n".join(("[Unit]", *order, "StartLimitIntervalSec=0", "", *service)) + "\n"
