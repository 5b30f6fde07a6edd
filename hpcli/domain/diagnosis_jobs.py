"""Slurm's configuration judged by what it means for jobs that lose a node: requeue, wait, hold, preemption.

Figures: slurm.conf(5) of 22.05, 24.11 and 26.05, and measurements on those releases.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hpcli.domain.diagnosis import Configuration, Finding, Partition, note, ok, wrong

CRED_EXPIRE = 120
KILL_WAIT = 30
MAX_REQUEUE = 5
CONTAINING = frozenset({"contain", "runinjob"})


@dataclass(frozen=True, slots=True)
class Cluster:
    """All that the configuration is judged by. `one_machine`: several nodes share one."""

    configuration: Configuration
    partitions: tuple[Partition, ...] = ()
    nodes: int = 0
    one_machine: bool = False


def judge_jobs(cluster: Cluster) -> Iterator[Finding]:
    conf = cluster.configuration
    yield _return_to_service(conf)
    yield _cred_expire(conf)
    yield _kill_wait(conf)
    yield _requeue(conf)
    yield _max_requeue(conf)
    yield _prolog_flags(conf)
    yield _hold(conf)
    yield _preemption(conf, cluster.partitions)


def _return_to_service(conf: Configuration) -> Finding:
    found = conf.text("ReturnToService") or "0"
    if found != "2":
        return ok("ReturnToService", found)
    cost = "a node that was set down comes back by itself as soon as slurmd registers, mended or not, and takes jobs"
    return wrong("ReturnToService", found, cost, "ReturnToService=1 in slurm.conf, then scontrol reconfigure")


def _cred_expire(conf: Configuration) -> Finding:
    told = conf.option("AuthInfo", "cred_expire")
    seconds = int(told) if told.isdigit() else CRED_EXPIRE
    if seconds <= KILL_WAIT:
        return ok("cred_expire", f"{seconds} s")
    cost = f"a job that Slurm requeues by itself waits {seconds + 1} s; hpcli releases those that it takes off a node"
    others = ",".join(part for part in conf.text("AuthInfo").split(",") if part and "cred_expire" not in part)
    value = f"{others},cred_expire=30" if others else "cred_expire=30"
    return note("cred_expire", f"{seconds} s", cost, f"AuthInfo={value} in slurm.conf, then restart all daemons")


def _kill_wait(conf: Configuration) -> Finding:
    seconds = conf.number("KillWait")
    if seconds is None or seconds <= KILL_WAIT:
        return ok("KillWait", conf.text("KillWait") or "not told")
    cost = f"ranks that ignore SIGTERM hold their nodes for {seconds} s after a cancel or a time limit"
    return note("KillWait", f"{seconds} s", f"{cost}; hpcli ends those of jobs that it moves", "KillWait=30")


def _requeue(conf: Configuration) -> Finding:
    if conf.text("JobRequeue") != "0":
        return ok("JobRequeue", conf.text("JobRequeue") or "1")
    cost = "a job that loses a node ends instead of running again, unless it was submitted with --requeue"
    return note("JobRequeue", "0", cost, "JobRequeue=1 in slurm.conf, or --requeue for each job")


def _max_requeue(conf: Configuration) -> Finding:
    found = conf.number("MaxBatchRequeue")
    if found is None:
        return ok("MaxBatchRequeue", f"{MAX_REQUEUE}, fixed before Slurm 23.02")
    if found >= MAX_REQUEUE:
        return ok("MaxBatchRequeue", str(found))
    cost = f"a job whose launch failed {found} times is held (JobHoldMaxRequeue) until somebody releases it"
    return note("MaxBatchRequeue", str(found), cost, f"MaxBatchRequeue={MAX_REQUEUE} or more in slurm.conf")


def _prolog_flags(conf: Configuration) -> Finding:
    flags, told = frozenset(conf.words("PrologFlags")), conf.text("PrologFlags") or "none"
    if flags & CONTAINING:
        cost = "a requeued job that is back within 2 s may wait 20 s and cost its node a drain"
        fix = "let hpcli rest 3 s before it releases a job: requeue_rest in controller.json (pam_slurm_adopt sets it)"
        return note("PrologFlags", told, cost, fix)
    if "alloc" in flags and conf.version < (24, 11):
        cost = "a requeued job that starts again at once may wait 20 s for a Prolog that has run already"
        return note("PrologFlags", told, cost, "leave Alloc out: the gate then runs when a job's first process starts")
    return ok("PrologFlags", told)


def _hold(conf: Configuration) -> Finding:
    if "nohold_on_prolog_fail" in conf.words("SchedulerParameters") or not conf.text("Prolog"):
        return ok("nohold_on_prolog_fail", "set" if conf.text("Prolog") else "not needed: there is no Prolog")
    before = conf.text("SchedulerParameters")
    value = f"{before},nohold_on_prolog_fail" if before else "nohold_on_prolog_fail"
    cost = "a job that meets a failing Prolog is held (launch_failed_requeued_held) until somebody releases it"
    return wrong("nohold_on_prolog_fail", "missing", cost, f"SchedulerParameters={value}, then scontrol reconfigure")


def _preemption(conf: Configuration, partitions: tuple[Partition, ...]) -> Finding:
    mode = conf.text("PreemptMode") or "OFF"
    if not conf.text("PreemptType") or conf.text("PreemptType") == "preempt/none":
        return ok("preemption", "off")
    if "CANCEL" in mode:
        return note("preemption", mode, "a preempted job is lost", "PreemptMode=REQUEUE")
    if "SUSPEND" in mode:
        cost = "a preempted job stays in memory and on its GPUs, and hpcli cannot move it"
        return note("preemption", mode, cost, "PreemptMode=REQUEUE")
    top = max((one.tier for one in partitions), default=0)
    without = [one.name for one in partitions if one.tier < top and not one.grace and one.preempt_mode != "OFF"]
    if without:
        cost = "preempted jobs get no time to save: SIGTERM, and SIGKILL after KillWait"
        return note("preemption", f"{mode}, GraceTime=0 in {','.join(without)}", cost, "GraceTime=300 there")
    return ok("preemption", mode)
