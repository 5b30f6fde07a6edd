"""What a changed parameter, node or file of Slurm's costs, by Slurm's version.

From slurm.conf(5) and scontrol(1) of 22.05, 24.11 and 26.05. Until 23.11 `scontrol reconfigure` makes daemons read
slurm.conf again, and plugins and tables made at the start stay; since then it replaces the daemons by new processes,
so that all but listening ports, authentication and identity changes with it, nodes included.
"""

from dataclasses import dataclass

from hpcli.domain.change import Disruption

Version = tuple[int, int]

RENEWED_BY_RECONFIGURE = (23, 11)


@dataclass(frozen=True, slots=True)
class Cost:
    disruption: Disruption
    why: str = ""


_RECONFIGURE = Cost(Disruption.RECONFIGURE)
_AT_START = Cost(Disruption.RESTART, "Slurm reads it only at the start of its daemons; running jobs live on")

_EMPTY = {
    "authtype": "every credential of a running step would be refused",
    "switchtype": "Slurm may lose the records of running jobs",
    "selecttype": "Slurm loses all job records: each plugin writes its own form",
    "jobacctgathertype": "running steps would go on speaking the old form to the new daemons",
    "slurmdspooldir": "slurmd would not find the sockets of running steps",
}
"""Parameters that may change only while no job runs."""

_STATE = {
    "statesavelocation": "Slurm begins anew there: running and pending jobs are lost",
    "clustername": "a cluster cannot be renamed: its state and its accounting belong to the name",
}

_ALWAYS_AT_START = frozenset(
    {
        "authinfo",
        "authalttypes",
        "authaltparameters",
        "communicationparameters",
        "slurmctldport",
        "slurmdport",
        "slurmuser",
        "slurmduser",
        "slurmctldpidfile",
        "slurmdpidfile",
        "slurmctldaddr",
    }
)
"""Listening, authentication and identity: never changed by reconfigure, in any version (scontrol(1))."""

_OLD_AT_START = frozenset(
    {
        "slurmctldhost",
        "maxjobcount",
        "maxnodecount",
        "plugindir",
        "grestypes",
        "selecttypeparameters",
        "prologflags",
        "taskpluginparam",
        "plugstackconfig",
        "launchparameters",
        "slurmctldparameters",
        "slurmdparameters",
        "federationparameters",
        "mpidefault",
        "mpiparams",
        "topologyparam",
    }
)
"""Until 23.11, beside what slurm.conf(5) names: what only a plugin's or daemon's start looks at."""

_SIZE = frozenset(
    {
        "cpus",
        "boards",
        "sockets",
        "socketsperboard",
        "corespersocket",
        "threadspercore",
        "realmemory",
        "gres",
        "tmpdisk",
        "memspeclimit",
        "corespeccount",
        "cpuspeclist",
    }
)
_PLACE = frozenset({"nodehostname", "nodeaddr", "port", "bcastaddr"})


def of_parameter(name: str, version: Version) -> Cost:
    """What a changed parameter of slurm.conf costs. `name` in any case."""
    key = name.lower()
    if key in _STATE:
        return Cost(Disruption.REBUILD, _STATE[key])
    if key in _EMPTY:
        return Cost(Disruption.DRAIN, _EMPTY[key])
    if key in _ALWAYS_AT_START:
        return _AT_START
    if version >= RENEWED_BY_RECONFIGURE:
        return _RECONFIGURE
    plugin = key.endswith(("type", "plugin", "plugins")) or key.startswith("accountingstorage")
    return _AT_START if plugin or key in _OLD_AT_START else _RECONFIGURE


def of_new_nodes(version: Version) -> Cost:
    if version >= RENEWED_BY_RECONFIGURE:
        return _RECONFIGURE
    release = f"{version[0]}.{version[1]:02d}"
    why = f"Slurm {release} learns of new nodes only by a restart of all daemons; running jobs live on"
    return Cost(Disruption.RESTART, why)


def of_gone_nodes() -> Cost:
    return Cost(Disruption.DRAIN, "jobs on them finish first, then Slurm forgets them")


def of_node_value(key: str) -> Cost:
    """What a changed value of a node that stays costs."""
    if key.lower() in _SIZE:
        return Cost(Disruption.DRAIN, "Slurm cannot count a node anew while jobs hold parts of it")
    if key.lower() in _PLACE:
        return Cost(Disruption.DRAIN, "Slurm would look for the node's running jobs in another place")
    return _RECONFIGURE


def of_partition(before: bool, after: bool) -> Cost:
    if before and not after:
        why = "Slurm cancels the jobs of a partition that goes: running ones finish first, pending ones are cancelled"
        return Cost(Disruption.DRAIN, why)
    return _RECONFIGURE


def of_gres() -> Cost:
    return Cost(Disruption.DRAIN, "Slurm cannot count a node's devices anew while jobs hold them")


def of_cgroup(version: Version) -> Cost:
    return _RECONFIGURE if version >= RENEWED_BY_RECONFIGURE else _AT_START


def of_version() -> Cost:
    why = "another Slurm: its state is copied first; running jobs live on over a step of at most two releases"
    return Cost(Disruption.RESTART, why)
