"""The processes of one job on one node, found by what slurmstepd puts into their environment."""

import os
import signal
from collections.abc import Iterable

from hpcli.transport import proc

SRUN_GRACE = 1.0


def processes_of(job_id: str, node: str, slurm_conf: str) -> set[int]:
    """Tasks, batch script and all their children; never slurmstepd, which must report the end.

    `slurm_conf` tells the jobs of one cluster from those of another on the same machine; "" is any.
    """
    return proc.descendants(_tasks(job_id, node, slurm_conf)) - {os.getpid()}


def _tasks(job_id: str, node: str, slurm_conf: str) -> Iterable[int]:
    for process in proc.all_processes():
        environment = proc.environment(process.pid)
        ours = not slurm_conf or environment.get("SLURM_CONF") == slurm_conf
        here = environment.get("SLURMD_NODENAME") == node
        if ours and here and environment.get("SLURM_JOB_ID") == job_id:
            yield process.pid


def kill_job(job_id: str, node: str, slurm_conf: str) -> int:
    """SIGKILL them all and say how many there were.

    srun comes last and gets a moment to end by itself: a slurmstepd that can no longer tell its srun
    how the ranks ended tries on for two seconds, and the job stays COMPLETING so much longer.
    """
    found = processes_of(job_id, node, slurm_conf)
    launchers = {pid for pid in found if proc.name(pid) == "srun"}
    proc.send(found - launchers, signal.SIGKILL)
    proc.send(proc.wait_gone(launchers, SRUN_GRACE), signal.SIGKILL)
    return len(found)
