"""hpcli's files on one machine of a cluster that somebody else built. None of them is Slurm's or munge's."""

from collections.abc import Sequence

from hpcli.domain.blueprint import ConfigFile, Place, Role
from hpcli.domain.settings import Address, AgentNode, AgentSettings, ClientSettings, ControllerSettings, settings_text
from hpcli.render.machine import CONTAIN_REST, CONTROLLER_PORT, HPCLI, JOURNAL, NODE_CONF, USUAL_PATH, VERDICTS
from hpcli.spec.model import Spec

ETC = "/etc/hpcli"
PROLOG = f"{ETC}/prolog"
LEASE = "hpcli-controller.lease"
REST = 1.0

_WORDS = {
    "hpcli-agent": "hpcli agent: watches this node and reports",
    "hpcli-controller": "hpcli controller: decides about repairs",
}


def adopted_files(spec: Spec, place: Place, prolog: str, release: str) -> tuple[ConfigFile, ...]:
    """Render every file of this machine, sorted by path; `prolog` is the gate's text."""
    files = [
        ConfigFile(NODE_CONF, _node_conf(spec, place)),
        ConfigFile(f"{ETC}/client.json", settings_text(_client(spec))),
        ConfigFile(f"{ETC}/release", f"{release}\n"),
    ]
    if place.role is Role.COMPUTE:
        files += [
            ConfigFile(f"{ETC}/agent.json", settings_text(_agent(spec, place, release)), 0o600),
            ConfigFile(PROLOG, prolog, 0o755),
            ConfigFile(f"{ETC}/prolog.conf", _prolog_conf(spec)),
        ]
    if place.role is Role.CONTROLLER:
        # SlurmUser reads it, and nothing in it is secret.
        files.append(ConfigFile(f"{ETC}/controller.json", settings_text(_controller(spec))))
    return tuple(sorted((*files, *_services(spec, place)), key=lambda file: file.path))


def _node_conf(spec: Spec, place: Place) -> str:
    values = {
        "HPCLI_ADOPTED": "yes",
        "HPCLI_CLUSTER": spec.name,
        "HPCLI_NODE": place.name,
        "HPCLI_ROLE": place.role.value,
        "HPCLI_PIP_INDEX": spec.packages.pip_index or "",
        "HPCLI_PYTHON": spec.adopted.python,
        "HPCLI_SLURM_USER": spec.adopted.slurm_user,
    }
    return "".join(f"{key}={value}\n" for key, value in values.items())


def _address(spec: Spec) -> Address:
    return Address(spec.address_of(spec.controller.name), CONTROLLER_PORT)


def _client(spec: Spec) -> ClientSettings:
    return ClientSettings(spec.name, _address(spec), spec.adopted.munge_socket, "")


def _controller(spec: Spec) -> ControllerSettings:
    flags = {flag.lower() for flag in spec.adopted.prolog_flags}
    return ControllerSettings(
        cluster=spec.name,
        provider=spec.provider,
        # Its own name may well be a loopback one there, and every report is signed.
        listen=Address("", CONTROLLER_PORT),
        munge_socket=spec.adopted.munge_socket,
        slurm_conf=spec.adopted.slurm_conf,
        journal=JOURNAL,
        lease=f"{spec.adopted.state}/{LEASE}",
        agent_uid=0,
        machines=True,
        can_replace=False,
        requeue_rest=CONTAIN_REST if flags & {"alloc", "contain"} else REST,
        policy=spec.policy(),
    )


def _agent(spec: Spec, place: Place, release: str) -> AgentSettings:
    pid_file = spec.adopted.slurmd_pid.replace("%n", place.name).replace("%h", place.hostname or place.name)
    own: dict[str, dict[str, object]] = {
        "gpu.count": {"expected": spec.node(place.name).gpu_count},
        "slurmd.alive": {"pid_file": pid_file},
    }
    names = own.keys() | spec.health.checks.keys()
    checks = {name: {**own.get(name, {}), **spec.health.checks.get(name, {})} for name in sorted(names)}
    return AgentSettings(
        cluster=spec.name,
        controller=_address(spec),
        munge_socket=spec.adopted.munge_socket,
        slurm_conf="",
        controller_uid=spec.adopted.slurm_uid,
        interval=spec.health.interval,
        nodes=(AgentNode(place.name, "", f"{VERDICTS}/{place.name}/verdict", checks),),
        kernel_log=spec.health.kernel_log,
        gate=not spec.policy().observes,
        release=release,
    )


def _prolog_conf(spec: Spec) -> str:
    chained = (f"then={pattern}\n" for pattern in spec.adopted.chain_prolog)
    return f"verdict_dir={VERDICTS}\n{''.join(chained)}"


def _services(spec: Spec, place: Place) -> tuple[ConfigFile, ...]:
    rows = {
        Role.COMPUTE: ("hpcli-agent", "root", "agent"),
        Role.CONTROLLER: ("hpcli-controller", spec.adopted.slurm_user, "controller"),
    }
    if place.role not in rows:
        return (ConfigFile(f"{ETC}/services.tsv", ""),)
    name, user, verb = rows[place.role]
    argv = (*_on_path(spec), HPCLI, verb, "--config", f"{ETC}/{verb}.json")
    row = ConfigFile(f"{ETC}/services.tsv", "\t".join((name, user, "yes", " ".join(argv))) + "\n")
    unit = ConfigFile(f"/etc/systemd/system/{name}.service", _unit(spec, name, user, argv))
    return (row, unit) if place.systemd else (row,)


def _on_path(spec: Spec) -> Sequence[str]:
    """Slurm's programs may lie where no daemon would look for them."""
    return ("/usr/bin/env", f"PATH={spec.adopted.programs}:{USUAL_PATH}") if spec.adopted.programs else ()


def _unit(spec: Spec, name: str, user: str, argv: Sequence[str]) -> str:
    hardening = {
        "hpcli-agent": ("ProtectSystem=full",),
        "hpcli-controller": ("ProtectSystem=strict", f"ReadWritePaths=/var/lib/hpcli/controller {spec.adopted.state}"),
    }
    lines = (
        "[Unit]",
        f"Description={_WORDS[name]}",
        "After=network-online.target remote-fs.target munge.service slurmctld.service slurmd.service",
        "Wants=network-online.target",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        f"ExecStart={' '.join(argv)}",
        f"User={user}",
        "Restart=always",
        "RestartSec=2",
        "NoNewPrivileges=yes",
        "ProtectHome=read-only",
        "PrivateTmp=yes",
        *hardening[name],
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    )
    return "\n".join(lines) + "\n"
