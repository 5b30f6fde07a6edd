"""The two clusters that the gateway contract is tested on, and how time passes on each."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from private_slurm import NODES

from hpcli.domain.job import Job
from hpcli.domain.node import Node
from hpcli.ports import SlurmGateway
from hpcli.sim.clock import SimClock
from hpcli.sim.model import SimNode
from hpcli.sim.slurm import SimGateway
from hpcli.sim.world import World
from hpcli.slurm.cli import CliGateway
from hpcli.transport.process import LocalTransport

T = TypeVar("T")
STEP = 0.1
PATIENCE = 400


class Cluster:
    """A gateway under test, and how time passes for it."""

    def __init__(self, gateway: SlurmGateway, now: Callable[[], float], pause: Callable[[], Awaitable[None]]) -> None:
        self.gateway = gateway
        self.now = now
        self.pause = pause

    async def submit(self, *args: str, wrap: str = "sleep 600") -> str:
        return await self.gateway.submit(["-o", "/dev/null", *args, "--wrap", wrap], cwd="/tmp")

    async def job(self, job_id: str) -> Job:
        return next(job for job in await self.gateway.jobs() if job_id == job.label)

    async def node(self, name: str) -> Node:
        (node,) = await self.gateway.nodes(name)
        return node

    async def job_is(self, job_id: str, state: str) -> Job:
        return await self._until(lambda: self.job(job_id), lambda job: job.state == state)

    async def node_is(self, name: str, fits: Callable[[Node], bool]) -> Node:
        return await self._until(lambda: self.node(name), fits)

    async def all_idle(self) -> None:
        await self._until(self.gateway.nodes, lambda nodes: all(node.states == {"IDLE"} for node in nodes))

    async def _until(self, look: Callable[[], Awaitable[T]], fits: Callable[[T], bool]) -> T:
        for _ in range(PATIENCE):
            seen = await look()
            if fits(seen):
                return seen
            await self.pause()
        raise TimeoutError(f"last seen: {seen}")

    async def clear(self) -> None:
        over = [job.label for job in await self.gateway.jobs() if not job.ended]
        await self.gateway.cancel(over)
        await self.gateway.update_nodes("c[1-3]", "resume")
        await self.all_idle()


def simulated() -> Cluster:
    clock = SimClock()
    world = World([SimNode(name, cpus=4, gpus=2) for name in NODES], clock)

    async def pause() -> None:
        clock.jump(STEP)

    return Cluster(SimGateway(world), clock.now, pause)


def real(env: dict[str, str]) -> Cluster:
    return Cluster(CliGateway(LocalTransport(), env), time.time, lambda: asyncio.sleep(STEP))
