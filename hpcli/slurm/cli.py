"""Slurm through its command-line tools. A query costs the same number of calls however large the cluster."""

import asyncio
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from hpcli.domain.job import Job, JobFiles
from hpcli.domain.node import Node
from hpcli.errors import NotFound, SlurmRefused, UsageFault
from hpcli.ports import Completed, Transport
from hpcli.slurm.environment import query_environment, scrub_argv
from hpcli.slurm.parse import parse_nodes
from hpcli.slurm.queue import FACTS_FORMAT, parse_jobs, queue_format
from hpcli.slurm.refusal import error_of_jobs, refusal, refused_jobs, spoken
from hpcli.slurm.show_job import parse_job_files

HELD_BY_SLURM = frozenset({"launch_failed_requeued_held", "JobHoldMaxRequeue"})
"""Holds that Slurm puts by itself. JobHeldAdmin and JobHeldUser are people's, and theirs to lift."""

_JOB_ID = re.compile(r"\d+(?:_(?:\d+|\[[\d,%:-]+\]))?(?:\+\d+)?")
_REQUEUED = ("Job is pending execution", "No error")
_BEGUN = ("no longer pending execution", "No error")
_OVER = ("already completing or completed",)
_TICK = 0.02
"""Seconds by which slurmctld's own clock reading may lag."""
_FOREVER = float("inf")
_ALREADY_SO = "Invalid node state"
_BLANK = " "
_REASON_KEPT_SINCE = (23, 2)
_REASON_CLEARED_SINCE = (25, 5)
"""Seen on 24.11, and not on 22.05 and 26.05; between them a blank reason does no harm."""


def _nonce() -> str:
    return secrets.token_hex(8)


class CliGateway:
    """A SlurmGateway over sbatch, squeue, scontrol, scancel, sinfo and sacctmgr of Slurm 22.05 and later.

    `env` carries SLURM_CONF; `ambient` names the variables that the programs would inherit. `requeue_rest` is how
    many seconds after its requeue a job may be released at the earliest.
    """

    def __init__(
        self,
        transport: Transport,
        env: Mapping[str, str],
        *,
        ambient: Iterable[str] | None = None,
        nonce: Callable[[], str] = _nonce,
        timeout: float = 60.0,
        requeue_rest: float = 1.0,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._transport = transport
        self._env = dict(env)
        self._scrub = scrub_argv(os.environ if ambient is None else ambient)
        self._nonce = nonce
        self._timeout = timeout
        self._requeue_rest = requeue_rest
        self._version: tuple[int, int] | None = None
        self._now = now
        self._sleep = sleep

    async def nodes(self, hostlist: str = "") -> tuple[Node, ...]:
        """Raises `NotFound` when one of the nodes does not exist."""
        argv = ["scontrol", "-a", "show", "node", "-d", "-o", *([_argument(hostlist)] if hostlist else [])]
        completed = await self._query(argv)
        if completed.code and not _no_nodes_at_all(completed):
            raise refusal(f"node {hostlist}", completed)
        return parse_nodes(completed.out)

    async def jobs(self) -> tuple[Job, ...]:
        """Jobs that slurmctld still holds, ended ones for MinJobAge included, array tasks one by one."""
        return await self._jobs((), "queue")

    async def job_files(self, job_id: str) -> tuple[JobFiles, ...]:
        """The job, or each task of an array, with its output files. Raises `NotFound`."""
        _check_ids([job_id])
        shown, jobs = await asyncio.gather(
            self._query(["scontrol", "-a", "show", "job", job_id]), self._jobs(("-j", job_id), f"job {job_id}")
        )
        if shown.code:
            raise refusal(f"job {job_id}", shown)
        return parse_job_files(shown.out, jobs)

    async def partitions(self) -> tuple[str, ...]:
        completed = await self._asked("partitions", ["sinfo", "-a", "-h", "-o", "%R"])
        return tuple(dict.fromkeys(completed.out.split()))

    async def version(self) -> tuple[int, int]:
        """Year and month of the Slurm release, as (22, 5)."""
        completed = await self._asked("Slurm", ["scontrol", "--version"])
        found = re.search(r"(\d+)\.(\d+)", completed.out)
        if not found:
            raise SlurmRefused("Slurm", f"found version {completed.out.strip()!r}, expected one such as 22.05.8")
        return int(found[1]), int(found[2])

    async def admin_level(self, user: str) -> str:
        """Slurm's level of a user: None, Operator or Administrator; "" without accounting or for a stranger."""
        completed = await self._query(["sacctmgr", "-n", "-P", "show", "user", f"name={user}", "format=adminlevel"])
        if completed.code and "accounting_storage" not in completed.err:
            raise refusal(f"user {user}", completed)
        return "" if completed.code else completed.out.strip()

    async def submit(
        self,
        args: Sequence[str],
        *,
        script: str = "",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Pass `args` to sbatch and return the job id; `script` text goes in on standard input.

        With --wait it returns when the job has ended, however it ended.
        """
        waits = not {"-W", "--wait"}.isdisjoint(args)
        argv = (*self._scrub, "sbatch", "--parsable", *args)
        timeout = _FOREVER if waits else self._timeout
        completed = await self._transport.run(
            argv, stdin=script, env={**self._env, **(env or {})}, cwd=cwd, timeout=timeout
        )
        job_id = _submitted(completed.out)
        if job_id and (waits or not completed.code):
            return job_id
        if completed.code:
            raise refusal("sbatch", completed)
        raise SlurmRefused("sbatch", f"found {completed.out.strip()!r}, expected a job id on its last line")

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """End jobs; one that is over already counts as ended. Raises `NotFound`, the others being cancelled."""
        await self._on_jobs(job_ids, ["scancel", "-v", *job_ids], _OVER)

    async def requeue(self, job_ids: Sequence[str]) -> None:
        """Put jobs back into the queue; one that waits there already is done. Raises `NotFound`, `SlurmRefused`."""
        await self._on_jobs(job_ids, ["scontrol", "requeue", ",".join(job_ids)], _REQUEUED)

    async def release(self, job_ids: Sequence[str]) -> None:
        """Make pending jobs eligible now (StartTime=now) and lift a hold that Slurm itself put.

        A requeue revokes the job's credential to the second: a node refuses a job that starts again within that
        second, and Slurm ends it FAILED ("Job credential revoked", slurmctld 22.05). So this lets the second pass, or
        as many as `requeue_rest` says.
        """
        if not job_ids:
            return
        _check_ids(job_ids)
        wanted = ",".join(job_ids)
        jobs = await self._jobs(("-j", wanted), f"job {wanted}")
        await self._sleep(_rest_after_requeue(jobs, self._now(), self._requeue_rest))
        await self._on_jobs(job_ids, ["scontrol", "update", f"jobid={wanted}", "StartTime=now"], _BEGUN)
        held = [job.label for job in jobs if job.reason in HELD_BY_SLURM]
        await self._on_jobs(held, ["scontrol", "release", ",".join(held)], _BEGUN)

    async def notify(self, job_id: str, message: str) -> None:
        """Say something on the standard error of a running job."""
        _check_ids([job_id])
        await self._asked(f"job {job_id}", ["scontrol", "notify", job_id, message])

    async def update_nodes(self, hostlist: str, state: str, reason: str = "") -> None:
        """Set the state of nodes in one call. Resuming nodes of which some are healthy already is no error."""
        if state.lower() == "resume" and not reason and await self._keeps_reasons():
            reason = _BLANK
        argv = ["scontrol", "update", f"nodename={hostlist}", f"state={state}"]
        completed = await self._query([*argv, *([f"reason={reason}"] if reason else [])])
        if completed.code and not (state.lower() == "resume" and _ALREADY_SO in completed.err):
            raise refusal(f"node {hostlist}", completed)

    async def reboot(self, hostlist: str) -> None:
        """Raises `SlurmRefused` without a RebootProgram. Slurm does it when the nodes' last jobs have ended."""
        await self._asked(f"node {hostlist}", ["scontrol", "reboot", _argument(hostlist)])

    async def _keeps_reasons(self) -> bool:
        """Slurm 24.11 leaves the old reason on a resumed node, and takes an empty one for none given."""
        if self._version is None:
            self._version = await self.version()
        return _REASON_KEPT_SINCE <= self._version < _REASON_CLEARED_SINCE

    async def _jobs(self, selection: Sequence[str], subject: str) -> tuple[Job, ...]:
        nonce = self._nonce()
        squeue = ["squeue", "-h", "-r", "-a", "-t", "all", *selection]
        listed, facts = await asyncio.gather(
            self._asked(subject, [*squeue, "-o", queue_format(nonce)]),
            self._asked(subject, [*squeue, "-O", FACTS_FORMAT]),
        )
        return parse_jobs(listed.out, facts.out, nonce)

    async def _on_jobs(self, job_ids: Sequence[str], argv: Sequence[str], fine: Iterable[str]) -> None:
        """Run one command about many jobs, and believe its words rather than its exit code."""
        if not job_ids:
            return
        _check_ids(job_ids)
        completed = await self._query(argv)
        complaints = refused_jobs(completed.err, fine)
        if complaints:
            raise error_of_jobs(complaints)
        if completed.code and not any(word in spoken(completed) for word in fine):
            raise refusal(f"job {','.join(job_ids)}", completed)

    async def _asked(self, subject: str, argv: Sequence[str]) -> Completed:
        completed = await self._query(argv)
        if completed.code:
            raise refusal(subject, completed)
        return completed

    async def _query(self, argv: Sequence[str]) -> Completed:
        env = query_environment(self._env)
        return await self._transport.run((*self._scrub, *argv), env=env, timeout=self._timeout)


def _rest_after_requeue(jobs: Iterable[Job], now: float, rest: float) -> float:
    """Give the seconds to wait; a requeue sets SubmitTime anew, so that it tells the second."""
    requeued = max((job.submit_time for job in jobs if job.restarts), default=0.0)
    return min(max(requeued + rest + _TICK - now, 0.0), rest + _TICK)


def _submitted(out: str) -> str:
    """Take the id off sbatch's last line: a site's wrapper may say more above, a federation adds `;cluster`."""
    last = next((line for line in reversed(out.split("\n")) if line.strip()), "").split(";")[0].strip()
    return last if _JOB_ID.fullmatch(last) else ""


def _check_ids(job_ids: Iterable[str]) -> None:
    for job_id in job_ids:
        if not _JOB_ID.fullmatch(job_id):
            raise UsageFault(f"job {job_id}", f"found {job_id!r}, expected a job id such as 123 or 123_4")


def _argument(hostlist: str) -> str:
    if hostlist.startswith("-"):
        raise NotFound(f"node {hostlist}", "found an option, expected a hostlist such as c[1-4]")
    return hostlist


def _no_nodes_at_all(completed: Completed) -> bool:
    return "No nodes in the system" in completed.out + completed.err
