"""A Slurm cluster in memory, true to what the real one does to nodes and jobs when machines fail.

Nothing moves by itself: each call first brings the world to the clock's time. Job and node transitions follow
recorded behaviour of Slurm 22.05 to 26.05.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import floor

from hpcli.errors import NotFound, SlurmRefused
from hpcli.ports import Clock, Machine
from hpcli.sim.life import JobLife, Timing
from hpcli.sim.model import FOREVER, SimJob, SimNode

HELD_BY_SLURM = frozenset({"launch_failed_requeued_held", "JobHoldMaxRequeue"})


class World:
    """Nodes, jobs, and the little of slurmctld that moves them."""

    def __init__(self, nodes: Iterable[SimNode], clock: Clock, timing: Timing | None = None) -> None:
        self.clock = clock
        self.timing = timing or Timing()
        self.nodes = {node.name: node for node in nodes}
        self.jobs: dict[str, SimJob] = {}
        self._now = clock.now()
        self._last_id = 0
        for node in self.nodes.values():
            node.boot_time = node.boot_time or self._now

    # Jobs

    def submit(self, job: SimJob, tasks: Sequence[int] = ()) -> str:
        """Queue a job, or one per array task; ids, labels and times are set here. Returns the id.

        The last task of an array carries the array's own number, as in Slurm.
        """
        self.settle()
        number = self._new_id()
        ids = [*(self._new_id() for _ in tasks[1:]), number]
        labels = zip(ids, [f"{number}_{task}" for task in tasks] or [number], strict=True)
        for job_id, label in labels:
            self.jobs[job_id] = replace(
                job, id=job_id, label=label, ranks={}, submit_time=self._now, eligible_time=self._now
            )
        self.settle()
        return number

    def requeue(self, job_id: str) -> None:
        """As `scontrol requeue`: a pending job stays as it is, an ended one waits again. Raises `SlurmRefused`."""
        for job in self.find(job_id):
            if job.state == "PENDING" or job.after == "PENDING":
                continue
            if not job.requeue:
                raise SlurmRefused(f"job {job_id}", "Requested operation is presently disabled")
            self._life.requeue(job)
        self.settle()

    def cancel(self, job_id: str) -> None:
        """End a job; one that has ended stays as it is."""
        for job in self.find(job_id):
            self._life.cancel(job)
        self.settle()

    def release(self, job_id: str) -> None:
        """Make a pending job eligible in the next second and lift Slurm's own hold; no effect on a COMPLETING one."""
        for job in self.find(job_id):
            if job.state == "PENDING":
                job.eligible_time = floor(self._now) + 1
                job.held = "" if job.held in HELD_BY_SLURM else job.held
        self.settle()

    def find(self, job_id: str) -> list[SimJob]:
        """Jobs by label, or by an array's id. Raises `NotFound`, also for a task's own number, as Slurm does."""
        self.settle()
        found = [job for job in self.jobs.values() if job.answers_to(job_id)]
        if not found:
            raise NotFound(f"job {job_id}", "Invalid job id specified", "see: hpcli queue --all")
        return found

    def jobs_on(self, name: str) -> list[SimJob]:
        return [job for job in self.jobs.values() if name in job.ranks]

    # Nodes, as slurmctld is told

    def drain(self, names: Iterable[str], reason: str) -> None:
        for node in self._named(names):
            node.drain, node.reason = True, reason

    def fail(self, names: Iterable[str], reason: str) -> None:
        for node in self._named(names):
            node.fail, node.reason = True, reason or node.reason

    def undrain(self, names: Iterable[str]) -> None:
        for node in self._named(names):
            node.drain = False

    def resume(self, names: Iterable[str]) -> None:
        """Clear DRAIN, FAIL and DOWN. A machine that does not answer goes DOWN again after SlurmdTimeout."""
        for node in self._named(names):
            node.down = node.drain = node.fail = False
            node.reason = ""
            node.silent_since = FOREVER if node.answers else self._now
            node.responding = node.answers
        self.settle()

    def down(self, names: Iterable[str], reason: str) -> None:
        """Requeue or end the jobs of these nodes at once; what is left of them elsewhere is cleaned up."""
        for node in self._named(names):
            node.reason = reason or node.reason
            self._set_down(node)
        self.settle()

    # Machines

    def freeze(self, name: str) -> None:
        """SIGSTOP slurmd and stepd: job processes there can no longer be ended through Slurm."""
        (node,) = self._named([name])
        node.frozen = True
        self._fall_silent(node)

    def power_off(self, name: str) -> None:
        (node,) = self._named([name])
        node.powered = False
        node.up_at = FOREVER
        self._fall_silent(node)

    def reboot(self, name: str, seconds: float, *, ordered: bool = False) -> None:
        """Switch off now, and on again after `seconds` with a new boot id; see `machine`. `ordered`: by Slurm."""
        self.power_off(name)
        self.nodes[name].up_at = self._now + seconds
        self.nodes[name].expected = ordered

    def replace(self, name: str, seconds: float) -> None:
        """As `reboot`, with another machine behind the name."""
        self.reboot(name, seconds)
        self.nodes[name].instance += 1

    def machine(self, name: str) -> Machine:
        """The node's machine; its boot id is "" while it is off. Raises `NotFound`."""
        (node,) = self._named([name])
        return Machine(name, node.boot_id, node.instance_id)

    def kill_job_processes(self, job_id: str, name: str) -> None:
        """SIGKILL the ranks of the job with Slurm's number `job_id` on one node.

        While slurmd there is frozen, Slurm does not learn of it.
        """
        (node,) = self._named([name])
        job = self.jobs.get(job_id)
        if job and name in job.ranks and node.answers:
            self._life.kill_ranks(job, name)
        self.settle()

    # Time

    def settle(self) -> None:
        """Bring the world to the clock's time, event by event."""
        target = self.clock.now()
        while True:
            self._happen()
            due = min((at for at in self._moments() if at > self._now), default=FOREVER)
            if due > target:
                break
            self._now = due
        self._now = max(self._now, target)

    @property
    def _life(self) -> JobLife:
        return JobLife(self._now, self.timing, lambda name: self.nodes[name].answers)

    def _moments(self) -> Iterable[float]:
        for node in self.nodes.values():
            yield node.up_at
            yield node.silent_since + self.timing.slurmd_timeout
        for job in self.jobs.values():
            yield job.ends_at
            if job.state == "COMPLETING":
                yield from job.ranks.values()
            if job.state == "PENDING":
                yield job.eligible_time

    def _happen(self) -> None:
        for node in self.nodes.values():
            if node.up_at <= self._now:
                self._boot(node)
            if node.silent_since + self.timing.slurmd_timeout <= self._now:
                self._lose(node)
        for job in self.jobs.values():
            self._life.finish(job)
            self._life.clean_up(job)
        self._schedule()

    def _boot(self, node: SimNode) -> None:
        """A newer boot time puts the node DOWN, whatever it was before; only `resume` clears that.

        Not one that Slurm itself has ordered: such a node is as it was before.
        """
        node.powered, node.frozen, node.responding = True, False, True
        node.up_at = node.silent_since = FOREVER
        node.boot += 1
        node.boot_time = self._now
        if node.expected:
            node.expected = False
            return
        node.reason = node.reason or "Node unexpectedly rebooted"
        self._set_down(node)

    def _lose(self, node: SimNode) -> None:
        node.silent_since = FOREVER
        node.responding = False
        node.reason = node.reason or "Not responding"
        self._set_down(node)

    def _set_down(self, node: SimNode) -> None:
        node.down = True
        for job in self.jobs_on(node.name):
            self._life.lose_node(job, node.name)

    def _schedule(self) -> None:
        for job in self.jobs.values():
            if job.state == "PENDING" and not job.held and job.eligible_time <= self._now:
                self._place(job)

    def _place(self, job: SimJob) -> None:
        free = sorted((node for node in self.nodes.values() if self._fits(job, node)), key=lambda node: node.weight)
        if len(free) < job.node_count:
            return
        job.nodes = tuple(node.name for node in free[: job.node_count])
        job.batch_host = job.nodes[0]
        job.ranks = dict.fromkeys(job.nodes, FOREVER)
        job.state, job.start_time = "RUNNING", self._now

    def _fits(self, job: SimJob, node: SimNode) -> bool:
        if not node.schedulable or job.partition not in node.partitions or (job.wish and node.name not in job.wish):
            return False
        there = self.jobs_on(node.name)
        cpus = sum(other.cpus for other in there)
        gpus = sum(other.gpus for other in there)
        return node.cpus - cpus >= job.cpus and node.gpus - gpus >= job.gpus

    def _fall_silent(self, node: SimNode) -> None:
        node.silent_since = min(node.silent_since, self._now)

    def _named(self, names: Iterable[str]) -> list[SimNode]:
        self.settle()
        wanted = list(names)
        missing = [name for name in wanted if name not in self.nodes]
        if missing:
            raise NotFound(f"node {','.join(missing)}", "Invalid node name specified", "see: hpcli nodes")
        return [self.nodes[name] for name in wanted]

    def _new_id(self) -> str:
        self._last_id += 1
        return str(self._last_id)
