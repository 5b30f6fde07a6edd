"""Slurm's configuration judged by what it means for nodes and daemons: timeouts, reboots, fan-out, plugins."""

from collections.abc import Iterator

from hpcli.domain.diagnosis import Configuration, Finding, note, ok, wrong
from hpcli.domain.diagnosis_jobs import Cluster

OLDEST = (22, 5)
SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 60, 300
"""slurm.conf(5): 300 s is SlurmdTimeout's default; pings come every third of it or so."""

UNKILLABLE = 60


def judge_nodes(cluster: Cluster) -> Iterator[Finding]:
    conf = cluster.configuration
    yield from _controllers(conf)
    yield _same_file(conf)
    yield _release(conf)
    yield _auth(conf)
    yield _slurmd_timeout(conf)
    yield _unkillable(conf)
    yield _reboot(cluster)
    yield _health_check(conf)
    yield _fan_out(cluster)
    yield _select(conf)
    yield _accounting(conf)
    yield ok("MULTIPLE_SLURMD", "yes" if conf.yes("MULTIPLE_SLURMD") else "no: one slurmd per machine")


def _controllers(conf: Configuration) -> Iterator[Finding]:
    for rank, host, state in conf.controllers:
        if state != "UP":
            cost = "no other slurmctld takes over when the first one ends" if rank != "primary" else "a backup serves"
            yield note(f"slurmctld {rank}", f"{host} is {state}", cost, f"start slurmctld on {host}")


def _same_file(conf: Configuration) -> Finding:
    found = conf.text("HASH_VAL")
    if not found.lower().startswith("different"):
        return ok("slurm.conf", f"{conf.text('SLURM_CONF')}: as slurmctld has it")
    cost = "this machine's slurm.conf is not the one that slurmctld has read: what works here may fail elsewhere"
    fix = "copy the controller's slurm.conf here, or scontrol reconfigure if this one is newer"
    return note("slurm.conf", f"{conf.text('SLURM_CONF')}: {found}", cost, fix)


def _release(conf: Configuration) -> Finding:
    told = conf.text("SLURM_VERSION") or "not told"
    if conf.version >= OLDEST:
        return ok("release", told)
    return wrong("release", told, "hpcli speaks with Slurm 22.05 and later", "upgrade Slurm by at most two releases")


def _auth(conf: Configuration) -> Finding:
    found = conf.text("AuthType")
    if found == "auth/munge":
        return ok("AuthType", found)
    return note("AuthType", found or "none", "hpcli's agents sign with munge all the same", "keep munged running")


def _slurmd_timeout(conf: Configuration) -> Finding:
    seconds = conf.number("SlurmdTimeout")
    if seconds == 0:
        cost = "Slurm never notices that a machine is dead, and its jobs never end"
        return wrong("SlurmdTimeout", "0", cost, "SlurmdTimeout=120")
    if seconds is not None and seconds < SHORTEST_TIMEOUT:
        cost = f"a slurmd that is busy for {seconds} s loses its node and the node's jobs"
        return note("SlurmdTimeout", f"{seconds} s", cost, "SlurmdTimeout=120")
    if seconds is not None and seconds > LONGEST_TIMEOUT:
        cost = f"jobs on a dead machine go on elsewhere after {seconds} s at the earliest"
        return note("SlurmdTimeout", f"{seconds} s", cost, "SlurmdTimeout=120")
    return ok("SlurmdTimeout", conf.text("SlurmdTimeout") or "not told")


def _unkillable(conf: Configuration) -> Finding:
    seconds = conf.number("UnkillableStepTimeout")
    if seconds is None or seconds >= UNKILLABLE:
        return ok("UnkillableStepTimeout", conf.text("UnkillableStepTimeout") or "not told")
    cost = f"a process that writes to a slow disk for {seconds} s after SIGKILL drains its node (Kill task failed)"
    return note("UnkillableStepTimeout", f"{seconds} s", cost, "UnkillableStepTimeout=180")


def _reboot(cluster: Cluster) -> Finding:
    program = cluster.configuration.text("RebootProgram")
    if program or cluster.one_machine:
        return ok("RebootProgram", program or "not needed: all nodes are on one machine")
    cost = "scontrol reboot does nothing, so a node is rebooted only where hpcli reaches it by itself"
    return note("RebootProgram", "missing", cost, "RebootProgram=/usr/sbin/reboot in slurm.conf")


def _health_check(conf: Configuration) -> Finding:
    program = conf.text("HealthCheckProgram")
    if not program:
        return ok("HealthCheckProgram", "none; hpcli's agents check")
    cost = "Slurm ignores its exit code, so it keeps no job off a node; where it drains one, hpcli takes that for yours"
    return note("HealthCheckProgram", program, cost, "let the Prolog be the gate, and hpcli's checks do the work")


def _fan_out(cluster: Cluster) -> Finding:
    width = cluster.configuration.number("TreeWidth")
    if width is None or cluster.nodes <= max(width, 1) ** 3:
        return ok("TreeWidth", f"{cluster.configuration.text('TreeWidth') or 'not told'} for {cluster.nodes} nodes")
    wanted = round(cluster.nodes ** (1 / 3)) + 1
    cost = f"a message to all {cluster.nodes} nodes takes more than three hops, each with its own timeout"
    return note("TreeWidth", str(width), cost, f"TreeWidth={wanted} or more: the cube root of the number of nodes")


def _select(conf: Configuration) -> Finding:
    found = conf.text("SelectType")
    if found != "select/linear":
        return ok("SelectType", found or "not told")
    cost = "a job gets whole nodes only, and the --gpus options do not work"
    return note("SelectType", found, cost, "SelectType=select/cons_tres; restart all daemons with no job running")


def _accounting(conf: Configuration) -> Finding:
    found = conf.text("AccountingStorageType")
    if found and found != "accounting_storage/none":
        return ok("AccountingStorageType", found)
    cost = "no sacct, and Slurm knows no operators: only root and SlurmUser may pause recovery or reset the breaker"
    return note(
        "AccountingStorageType", "none", cost, "run slurmdbd; AccountingStorageType=accounting_storage/slurmdbd"
    )
