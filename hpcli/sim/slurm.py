"""The simulated world behind the SlurmGateway port. It passes the contract test that the real one passes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

from hpcli.domain.job import Job, JobFiles
from hpcli.domain.node import Node
from hpcli.errors import NotFound, SlurmRefused, Unreachable
from hpcli.sim.model import SimJob, seen_job, seen_node
from hpcli.sim.sbatch import parse_submission
from hpcli.sim.world import World
from hpcli.spec.hostlist import expand

_NEEDS_REASON = frozenset({"drain", "down", "fail"})


class SimGateway:
    """Slurm as a World shows it. `calls` counts what would be round trips; `deaf` makes slurmctld unreachable.

    `reboot_seconds` is how long a reboot by its RebootProgram takes, 0.0 for none.
    """

    def __init__(self, world: World, user: str = "user") -> None:
        self.world = world
        self.user = user
        self.deaf = False
        self.reboot_seconds = 0.0
        self.calls: list[str] = []
        self.messages: list[tuple[str, str]] = []
        self.admin_levels: dict[str, str] = {}

    async def nodes(self, hostlist: str = "") -> tuple[Node, ...]:
        self._call("nodes")
        self.world.settle()
        names = _names(hostlist) if hostlist else tuple(self.world.nodes)
        missing = [name for name in names if name not in self.world.nodes]
        if missing:
            raise NotFound(f"node {hostlist}", f"Node {missing[0]} not found", "see: hpcli nodes")
        return tuple(seen_node(self.world.nodes[name], self.world.jobs_on(name)) for name in names)

    async def jobs(self) -> tuple[Job, ...]:
        self._call("jobs")
        self.world.settle()
        return tuple(seen_job(job, self.world.clock.now()) for job in self.world.jobs.values())

    async def job_files(self, job_id: str) -> tuple[JobFiles, ...]:
        self._call("job_files")
        now = self.world.clock.now()
        return tuple(_files(job, seen_job(job, now)) for job in self.world.find(job_id))

    async def partitions(self) -> tuple[str, ...]:
        self._call("partitions")
        return tuple(dict.fromkeys(name for node in self.world.nodes.values() for name in node.partitions))

    async def version(self) -> tuple[int, int]:
        """The release whose behaviour the world follows."""
        return 22, 5

    async def admin_level(self, user: str) -> str:
        self._call("admin_level")
        return self.admin_levels.get(user, "")

    async def submit(
        self,
        args: Sequence[str],
        *,
        script: str = "",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,  # noqa: ARG002 - simulated jobs run no program
    ) -> str:
        self._call("submit")
        job, tasks = parse_submission(args, script, self.user, cwd or "/tmp")
        if job.partition not in {name for node in self.world.nodes.values() for name in node.partitions}:
            raise SlurmRefused("sbatch", f"invalid partition specified: {job.partition}")
        return self.world.submit(job, tasks)

    async def cancel(self, job_ids: Sequence[str]) -> None:
        self._call("cancel")
        _each(job_ids, self.world.cancel)

    async def requeue(self, job_ids: Sequence[str]) -> None:
        self._call("requeue")
        _each(job_ids, self.world.requeue)

    async def release(self, job_ids: Sequence[str]) -> None:
        self._call("release")
        _each(job_ids, self.world.release)

    async def notify(self, job_id: str, message: str) -> None:
        self._call("notify")
        self.world.find(job_id)
        self.messages.append((job_id, message))

    async def update_nodes(self, hostlist: str, state: str, reason: str = "") -> None:
        self._call("update_nodes")
        if state.lower() in _NEEDS_REASON and not reason:
            raise SlurmRefused(f"node {hostlist}", "You must specify a reason when DOWNING or DRAINING a node")
        names = _names(hostlist)
        self._set([name for name in names if name in self.world.nodes], hostlist, state.lower(), reason)
        if not self.world.nodes.keys() >= set(names):
            raise NotFound(f"node {hostlist}", "Invalid node name specified", "see: hpcli nodes")

    async def reboot(self, hostlist: str) -> None:
        self._call("reboot")
        if not self.reboot_seconds:
            raise SlurmRefused(f"node {hostlist}", "Requested operation is presently disabled")
        for name in _names(hostlist):
            self.world.reboot(name, self.reboot_seconds, ordered=True)

    def _set(self, names: Sequence[str], hostlist: str, state: str, reason: str) -> None:
        if state == "drain":
            self.world.drain(names, reason)
        elif state == "down":
            self.world.down(names, reason)
        elif state == "fail":
            self.world.fail(names, reason)
        elif state == "resume":
            self.world.resume(names)
        elif state == "undrain":
            self.world.undrain(names)
        else:
            raise SlurmRefused(f"node {hostlist}", f"Invalid input: state={state}")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.deaf:
            raise Unreachable("Slurm", "Unable to contact slurm controller (connect failure)")


def _names(hostlist: str) -> tuple[str, ...]:
    try:
        return expand(hostlist)
    except ValueError as error:
        raise NotFound(f"node {hostlist}", f"Invalid node name specified; expected {error}") from None


def _each(job_ids: Sequence[str], act: Callable[[str], None]) -> None:
    """Act on every job, then complain of the first that was refused, as Slurm's own tools do."""
    refused: list[NotFound | SlurmRefused] = []
    for job_id in job_ids:
        try:
            act(job_id)
        except (NotFound, SlurmRefused) as error:
            refused.append(error)
    if refused:
        raise next((error for error in refused if isinstance(error, SlurmRefused)), refused[0])


def _files(job: SimJob, seen: Job) -> JobFiles:
    def path(pattern: str) -> str:
        return str(PurePosixPath(job.work_dir) / pattern.replace("%j", job.id))

    return JobFiles(seen, path(job.stdout), path(job.stderr), job.work_dir)
