"""A gateway that is chosen when it is first asked, so that nothing waits for the choice at the start of a command."""

import asyncio
from collections.abc import Mapping, Sequence

from hpcli.domain.job import Job, JobFiles
from hpcli.domain.node import Node
from hpcli.ports import SlurmGateway
from hpcli.slurm.choose import Reason, choose


class ChosenGateway:
    """A SlurmGateway that puts queries to pyslurm where that fits, else to `cli`; `conf` as in `choose`."""

    def __init__(self, cli: SlurmGateway, conf: str = "") -> None:
        self._cli = cli
        self._conf = conf
        self._lock = asyncio.Lock()
        self._found: tuple[SlurmGateway, Reason] | None = None

    async def reason(self) -> Reason:
        """Which one is in use, and why. Raises `UsageFault` for a forced one that cannot be used."""
        await self._gateway()
        assert self._found is not None
        return self._found[1]

    async def nodes(self, hostlist: str = "") -> tuple[Node, ...]:
        return await (await self._gateway()).nodes(hostlist)

    async def jobs(self) -> tuple[Job, ...]:
        return await (await self._gateway()).jobs()

    async def job_files(self, job_id: str) -> tuple[JobFiles, ...]:
        return await (await self._gateway()).job_files(job_id)

    async def partitions(self) -> tuple[str, ...]:
        return await (await self._gateway()).partitions()

    async def submit(
        self, args: Sequence[str], *, script: str = "", cwd: str | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        return await self._cli.submit(args, script=script, cwd=cwd, env=env)

    async def cancel(self, job_ids: Sequence[str]) -> None:
        await self._cli.cancel(job_ids)

    async def requeue(self, job_ids: Sequence[str]) -> None:
        await self._cli.requeue(job_ids)

    async def release(self, job_ids: Sequence[str]) -> None:
        await self._cli.release(job_ids)

    async def notify(self, job_id: str, message: str) -> None:
        await self._cli.notify(job_id, message)

    async def update_nodes(self, hostlist: str, state: str, reason: str = "") -> None:
        await self._cli.update_nodes(hostlist, state, reason)

    async def reboot(self, hostlist: str) -> None:
        await self._cli.reboot(hostlist)

    async def version(self) -> tuple[int, int]:
        return await (await self._gateway()).version()

    async def admin_level(self, user: str) -> str:
        return await self._cli.admin_level(user)

    async def _gateway(self) -> SlurmGateway:
        async with self._lock:
            if self._found is None:
                self._found = await choose(self._cli, conf=self._conf)
            return self._found[0]
