"""What becomes of a job when it ends, is cancelled, is requeued or loses a node."""

from collections.abc import Callable
from dataclasses import dataclass

from hpcli.sim.model import SimJob

Answers = Callable[[str], bool]
"""Says whether a node's slurmd answers, by name."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that things take. A requeued job waits `cred_expire` + 1 (slurm.conf(5), AuthInfo)."""

    complete: float = 0.5
    kill_wait: float = 30.0
    cred_expire: float = 120.0
    slurmd_timeout: float = 300.0


@dataclass(frozen=True, slots=True)
class JobLife:
    """The transitions of jobs at the moment `now` (seconds since the epoch)."""

    now: float
    timing: Timing
    answers: Answers

    def requeue(self, job: SimJob) -> None:
        """Count a restart and leave the nodes; the job waits its time out afterwards."""
        job.restarts += 1
        self.vacate(job, "PENDING")

    def cancel(self, job: SimJob) -> None:
        """End the job; one that has ended stays as it is."""
        if job.ranks:
            self.vacate(job, "CANCELLED")
        elif job.state == "PENDING":
            job.state = "CANCELLED"

    def lose_node(self, job: SimJob, name: str) -> None:
        """Do as slurmctld does when it sets a node DOWN under a job."""
        del job.ranks[name]
        if job.state == "COMPLETING":
            self.clean_up(job)
        elif job.no_kill and job.batch_host != name:
            job.nodes = tuple(node for node in job.nodes if node != name)
        elif job.requeue:
            self.requeue(job)
        else:
            self.vacate(job, "NODE_FAIL")

    def kill_ranks(self, job: SimJob, name: str) -> None:
        """End the job's processes on one node. A batch job whose rank dies fails as a whole."""
        if job.state == "RUNNING":
            self.vacate(job, "FAILED")
        job.ranks[name] = self.now
        self.clean_up(job)

    def vacate(self, job: SimJob, after: str) -> None:
        """Signal the ranks and wait for their end; then the job is in state `after`."""
        patience = self.timing.kill_wait if job.ignores_term else self.timing.complete
        if job.state != "COMPLETING":
            job.ranks = dict.fromkeys(job.ranks, self.now + patience)
        job.state, job.after = "COMPLETING", after
        job.eligible_time = self.now + self.timing.cred_expire + 1
        self.clean_up(job)

    def clean_up(self, job: SimJob) -> None:
        """Take the job off nodes where its processes have ended and slurmd can say so."""
        if job.state != "COMPLETING":
            return
        job.ranks = {name: at for name, at in job.ranks.items() if at > self.now or not self.answers(name)}
        if job.ranks:
            return
        job.state, job.after = job.after, ""
        if job.state == "PENDING":
            job.nodes, job.batch_host = (), ""

    def finish(self, job: SimJob) -> None:
        """End a job whose work is done, once all its nodes can say so."""
        if job.ends_at <= self.now and all(self.answers(name) for name in job.ranks):
            job.ranks = {}
            job.state = "FAILED" if job.exit_code else "COMPLETED"
