"""A spec and a site to slurm.conf, gres.conf, cgroup.conf, slurmdbd.conf and topology.conf or topology.yaml.

Differences between Slurm versions are decided in this package; see slurm.conf(5) and gres.conf(5).
"""

from collections.abc import Iterator

from hpcli.errors import HpcliError
from hpcli.render import safe
from hpcli.render.accounting import accounting_parameters, own_socket, render_slurmdbd
from hpcli.render.cgroup import cgroup_lines, holding_comment, holding_parameters
from hpcli.render.engine import render
from hpcli.render.nodes import gres_lines, node_lines
from hpcli.render.parameters import Section, parameters, with_site
from hpcli.render.sequence import fold_sorted
from hpcli.render.site import SlurmSite
from hpcli.render.topology import topology_files, topology_plugin
from hpcli.spec.model import Spec
from hpcli.spec.nodes import PartitionSpec

OLDEST = (22, 5)


def render_slurm(spec: Spec, site: SlurmSite) -> dict[str, str]:
    """Render every configuration file, by its name. Raises `HpcliError` for a value that Slurm could not read.

    slurmdbd.conf may hold a password.
    """
    _check(spec, site)
    common = {"cluster": spec.name}
    files = {
        "slurm.conf": render("slurm/slurm.conf.j2", {**common, "sections": _slurm_conf(spec, site)}),
        "gres.conf": render("slurm/gres.conf.j2", {**common, "lines": tuple(gres_lines(spec, site))}),
        "cgroup.conf": render("slurm/cgroup.conf.j2", {**common, "lines": cgroup_lines(spec, site)}),
        **topology_files(spec, site.version),
    }
    if spec.accounting.enabled:
        files["slurmdbd.conf"] = render_slurmdbd(spec, site)
    return files


def _check(spec: Spec, site: SlurmSite) -> None:
    if site.version < OLDEST:
        found = ".".join(str(part) for part in site.version)
        raise HpcliError("Slurm", f"found version {found}, expected 22.5 or later")
    missing = [name for name in spec.node_names if name not in site.nodes]
    if missing:
        raise HpcliError(
            f"cluster {spec.name}", f"found no address for {fold_sorted(missing)}, expected one for each node"
        )


def _slurm_conf(spec: Spec, site: SlurmSite) -> tuple[str, ...]:
    ours = (
        Section(parameters(_identity(spec, site))),
        Section(parameters(_credentials(site)), _credentials_comment(site)),
        Section(parameters(holding_parameters(spec, site)), holding_comment(site)),
        Section(parameters(_files(site))),
        Section(parameters(_service(site)), "1, not 2: a node that somebody set down must not come back by itself."),
        Section(parameters(_scheduling(spec, site))),
    )
    settings = (section.text for section in with_site(ours, spec.slurm_conf))
    partitions = (_partition_line(partition) for partition in spec.partition_specs)
    return (*settings, "\n".join(node_lines(spec, site)), "\n".join(partitions))


def _identity(spec: Spec, site: SlurmSite) -> Iterator[tuple[str, str]]:
    hostname = safe.host("controller host name", site.controller.hostname)
    address = safe.address("controller address", site.controller.address)
    yield "ClusterName", safe.word("cluster name", spec.name)
    yield "SlurmctldHost", f"{hostname}({address})"
    yield "SlurmctldPort", safe.port("controller port", site.controller.port)
    yield "SlurmUser", safe.word("user", site.user)
    yield "SlurmdUser", safe.word("slurmd user", site.slurmd_user or site.user)


def _credentials(site: SlurmSite) -> Iterator[tuple[str, str]]:
    socket = safe.path("munge socket", site.munge_socket)
    yield "AuthType", "auth/munge"
    if own_socket(site):
        yield "AuthInfo", f"socket={socket}"
    yield "CredType", "cred/munge"
    if site.shared_machine:
        yield "CommunicationParameters", "NoInAddrAny,NoCtldInAddrAny"


def _credentials_comment(site: SlurmSite) -> str:
    return "Credentials through the cluster's own munged." if site.shared_machine else "Credentials through munge."


def _files(site: SlurmSite) -> Iterator[tuple[str, str]]:
    per_node = safe.path_per_node if site.shared_machine else safe.path_of_node
    yield "StateSaveLocation", safe.path("state folder", site.state)
    yield "SlurmdSpoolDir", per_node("spool folder", site.spool)
    yield "SlurmctldPidFile", safe.path("slurmctld pid file", site.slurmctld_pid)
    yield "SlurmdPidFile", per_node("slurmd pid file", site.slurmd_pid)
    yield "SlurmctldLogFile", safe.path("slurmctld log", site.slurmctld_log)
    yield "SlurmdLogFile", per_node("slurmd log", site.slurmd_log)


def _service(site: SlurmSite) -> Iterator[tuple[str, str]]:
    yield "ReturnToService", "1"
    if site.shared_machine:
        yield "SlurmdTimeout", "60"
    yield "MailProg", "/bin/true"


def _scheduling(spec: Spec, site: SlurmSite) -> Iterator[tuple[str, str]]:
    yield "SelectType", "select/cons_tres"
    yield "SelectTypeParameters", "CR_Core"
    yield "SchedulerParameters", "batch_sched_delay=0,nohold_on_prolog_fail"
    if any(node.gpu_count for node in spec.nodes):
        yield "GresTypes", "gpu"
    yield from topology_plugin(spec, site.version)
    yield from _programs(site)
    yield from accounting_parameters(spec, site)


def _programs(site: SlurmSite) -> Iterator[tuple[str, str]]:
    # Without PrologFlags=Alloc where nothing needs it: slurmd drops what it knows of a requeued job's old credential
    # at most every two seconds (_clear_expired_job_states in slurm_cred.c), and with Alloc, which Contain implies,
    # a job that starts again sooner may wait 20 s for a Prolog that has run already, after which Slurm drains the
    # healthy node.
    if site.prolog_contain:
        yield "PrologFlags", "Contain"
    programs = (
        ("Prolog", site.prolog),
        ("Epilog", site.epilog),
        ("TaskProlog", site.task_prolog),
        ("RebootProgram", site.reboot_program),
    )
    for name, program in programs:
        if program:
            yield name, safe.path(name, program)


def _partition_line(partition: PartitionSpec) -> str:
    name = safe.word("partition", partition.name)
    default = "YES" if partition.default else "NO"
    nodes = fold_sorted(partition.nodes)
    return f"PartitionName={name} Nodes={nodes} Default={default} MaxTime={partition.max_time} State=UP"
