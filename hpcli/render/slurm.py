"""A spec and a site to slurm.conf, gres.conf, cgroup.conf and slurmdbd.conf.

Differences between Slurm versions are decided here; see slurm.conf(5), gres.conf(5) and cgroup.conf(5).
"""

from collections.abc import Iterator

from hpcli.errors import HpcliError
from hpcli.render import safe
from hpcli.render.engine import render
from hpcli.render.site import AccountingSite, SlurmSite
from hpcli.spec.hostlist import fold
from hpcli.spec.model import Spec
from hpcli.spec.nodes import NodeSpec, PartitionSpec

OLDEST = (22, 5)
CGROUP_DISABLED_SINCE = (23, 11)
SWITCH_NONE_UNTIL = (24, 11)


def render_slurm(spec: Spec, site: SlurmSite) -> dict[str, str]:
    """Render every configuration file, by its name. Raises `HpcliError` for a value that Slurm could not read."""
    if site.version < OLDEST:
        found = ".".join(str(part) for part in site.version)
        raise HpcliError("Slurm", f"found version {found}, expected 22.5 or later")
    missing = [name for name in spec.node_names if name not in site.nodes]
    if missing:
        raise HpcliError(f"cluster {spec.name}", f"found no address for {fold(missing)}, expected one for each node")
    files = {
        "slurm.conf": render("slurm/slurm.conf.j2", _slurm_values(spec, site)),
        "gres.conf": render("slurm/gres.conf.j2", {"cluster": spec.name, "lines": tuple(_gres_lines(spec, site))}),
        "cgroup.conf": render("slurm/cgroup.conf.j2", {"cluster": spec.name, "lines": _cgroup_lines(site.version)}),
    }
    if spec.accounting.enabled:
        files["slurmdbd.conf"] = render("slurm/slurmdbd.conf.j2", _slurmdbd_values(spec, site))
    return files


def _slurm_values(spec: Spec, site: SlurmSite) -> dict[str, object]:
    return {
        "cluster": spec.name,
        "controller": safe.host("controller host name", site.controller.hostname),
        "controller_address": safe.address("controller address", site.controller.address),
        "controller_port": safe.port("controller port", site.controller.port),
        "user": safe.word("user", site.user),
        "munge_socket": safe.path("munge socket", site.munge_socket),
        "state": safe.path("state folder", site.state),
        "spool": safe.path_per_node("spool folder", site.spool),
        "slurmctld_log": safe.path("slurmctld log", site.slurmctld_log),
        "slurmctld_pid": safe.path("slurmctld pid file", site.slurmctld_pid),
        "slurmd_log": safe.path_per_node("slurmd log", site.slurmd_log),
        "slurmd_pid": safe.path_per_node("slurmd pid file", site.slurmd_pid),
        "version_lines": _version_lines(site.version),
        "gres_lines": ("GresTypes=gpu",) if any(node.gpu_count for node in spec.nodes) else (),
        "prolog_lines": _prolog_lines(site),
        "accounting_lines": _accounting_lines(spec, site),
        "node_lines": tuple(_node_line(node, site) for node in spec.nodes),
        "partition_lines": tuple(_partition_line(partition) for partition in spec.partition_specs),
    }


def _version_lines(version: tuple[int, int]) -> tuple[str, ...]:
    return ("SwitchType=switch/none",) if version <= SWITCH_NONE_UNTIL else ()


def _prolog_lines(site: SlurmSite) -> tuple[str, ...]:
    # Without PrologFlags=Alloc: slurmd drops what it knows of a requeued job's old credential at most every
    # two seconds (_clear_expired_job_states in slurm_cred.c), and with Alloc a job that starts again sooner may
    # wait 20 s for a Prolog that has run already, after which Slurm drains the healthy node.
    gate = (f"Prolog={safe.path('prolog', site.prolog)}",) if site.prolog else ()
    task = (f"TaskProlog={safe.path('task prolog', site.task_prolog)}",) if site.task_prolog else ()
    return (*gate, *task)


def _accounting_lines(spec: Spec, site: SlurmSite) -> tuple[str, ...]:
    if not spec.accounting.enabled:
        return ()
    return (
        "AccountingStorageType=accounting_storage/slurmdbd",
        f"AccountingStorageHost={safe.address('controller address', site.controller.address)}",
        f"AccountingStoragePort={safe.port('slurmdbd port', _accounting(site).port)}",
        f"AccountingStoragePass={safe.path('munge socket', site.munge_socket)}",
    )


def _accounting(site: SlurmSite) -> AccountingSite:
    if site.accounting is None:
        raise HpcliError(
            "accounting", "found it enabled, expected a provider that has it", "set accounting.enabled: false"
        )
    return site.accounting


def _node_line(node: NodeSpec, site: SlurmSite) -> str:
    place = site.nodes[node.name]
    gpus = f" Gres=gpu:{node.gpu_type}:{node.gpu_count}" if node.gpu_count else ""
    features = f" Feature={','.join(node.features)}" if node.features else ""
    return (
        f"NodeName={node.name} NodeHostname={safe.host('node host name', place.hostname)}"
        f" NodeAddr={safe.address('node address', place.address)} Port={safe.port('slurmd port', place.port)}"
        f" CPUs={node.cpus} RealMemory={node.memory}{gpus}{features} Weight={node.weight}"
    )


def _partition_line(partition: PartitionSpec) -> str:
    default = "YES" if partition.default else "NO"
    nodes = fold(partition.nodes)
    return f"PartitionName={partition.name} Nodes={nodes} Default={default} MaxTime={partition.max_time} State=UP"


def _gres_lines(spec: Spec, site: SlurmSite) -> Iterator[str]:
    for node in spec.nodes:
        if not node.gpu_count:
            continue
        devices = safe.path("device folder", site.nodes[node.name].devices)
        files = f"{devices}/nvidia{'0' if node.gpu_count == 1 else f'[0-{node.gpu_count - 1}]'}"
        yield f"NodeName={node.name} Name=gpu Type={node.gpu_type} File={files}"


def _cgroup_lines(version: tuple[int, int]) -> tuple[str, ...]:
    if version >= CGROUP_DISABLED_SINCE:
        return ("CgroupPlugin=disabled",)
    constraints = ("ConstrainCores", "ConstrainDevices", "ConstrainRAMSpace", "ConstrainSwapSpace")
    return ("CgroupPlugin=cgroup/v1", *(f"{name}=no" for name in constraints))


def _slurmdbd_values(spec: Spec, site: SlurmSite) -> dict[str, object]:
    accounting = _accounting(site)
    return {
        "cluster": spec.name,
        "munge_socket": safe.path("munge socket", site.munge_socket),
        "address": safe.address("controller address", site.controller.address),
        "port": safe.port("slurmdbd port", accounting.port),
        "user": safe.word("user", site.user),
        "storage_user": safe.word("database user", accounting.user),
        "database": safe.word("database", accounting.database),
        "log": safe.path("slurmdbd log", accounting.log),
        "pid": safe.path("slurmdbd pid file", accounting.pid),
    }
