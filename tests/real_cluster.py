"""A real local cluster for tests and benches: munged, slurmctld, slurmds, controller and agent."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpcli import app
from hpcli.domain.ledger import Entry
from hpcli.providers.local.build import LocalBuild
from hpcli.providers.local.daemons import Daemons
from hpcli.providers.local.faults import LocalFaults
from hpcli.providers.local.layout import Layout
from hpcli.providers.local.nodes import LocalNodes
from hpcli.providers.local.record import Record
from hpcli.spec.load import parse_spec

SPEC = """
name: {name}
compute:
  - {{name: gpu, nodes: "c[1-{nodes}]", cpus: 4, memory: 1G, gpus: {{type: h100, count: 2}}, spares: 1}}
health: {{interval: 1s}}
recovery: {{start_interval: 0s, budget: {{nodes: 4}}, breaker: {{nodes: 4}}, reboot_interval: 0s, replace_interval: 0s}}
"""


class Quiet:
    def step(self, text: str) -> None:
        pass


@dataclass
class RealCluster:
    """A cluster that is up, and the means to break it and to watch it."""

    layout: Layout
    record: Record
    faults: LocalFaults
    daemons: Daemons
    shared: Path

    @property
    def gateway(self) -> Any:
        return app.slurm_gateway(self.layout.name)

    @property
    def nodes(self) -> LocalNodes:
        return self.faults.nodes

    async def ask(self, what: str, **details: object) -> Any:
        return await app.controller(self.layout.name).ask(what, **details)

    async def journal(self) -> list[Entry]:
        return [(number, at, kind, body) for number, at, kind, body in await self.ask("journal", since=0)]

    async def kinds(self, kind: str) -> list[Mapping[str, Any]]:
        return [body for _, _, found, body in await self.journal() if found == kind]

    async def until(self, done: Callable[[], Any], what: str, limit: float = 30.0) -> Any:
        """Wait for a condition (plain or async) and return what it gave."""
        deadline = time.monotonic() + limit
        while True:
            found = done()
            found = await found if asyncio.iscoroutine(found) else found
            if found:
                return found
            if time.monotonic() > deadline:
                controller = self.daemons.output("controller").read_text()[-3000:]
                jobs = "\n".join(map(str, await self.gateway.jobs()))
                pytest.fail(f"not within {limit} s: {what}\n{jobs}\n{controller}")
            await asyncio.sleep(0.05)

    async def until_closed(self, outcome: str = "returned", count: int = 1, limit: float = 40.0) -> None:
        async def closed() -> bool:
            return [body["outcome"] for body in await self.kinds("closed")].count(outcome) >= count

        await self.until(closed, f"{count} repairs {outcome}", limit)

    async def job(self, job_id: str) -> Any:
        return next((job for job in await self.gateway.jobs() if job.id == job_id), None)

    async def until_running(self, job_id: str, restarts: int = 0, limit: float = 30.0) -> Any:
        async def running() -> Any:
            job = await self.job(job_id)
            return job if job and job.state == "RUNNING" and job.restarts == restarts else None

        return await self.until(running, f"job {job_id} runs with {restarts} restarts", limit)

    async def submit(self, body: str, *options: str) -> str:
        output = f"--output={self.shared}/job-%j.out"
        script = f"#!/bin/bash\n{body}\n"
        return str(await self.gateway.submit([output, "--open-mode=append", *options], script=script))


async def bring_up(text: str, shared: Path) -> RealCluster:
    """Up and whole, or an error that says what is missing; `shared` is for the jobs' files."""
    spec = parse_spec(text, "cluster.yaml")
    layout = Layout.of(spec.name)
    record = await LocalBuild(layout, spec, text, app.local_transport(), Quiet()).up()
    faults, _ = app.drills(spec.name)
    await app.readiness(spec.name, Quiet()).wait(spec.node_names)
    return RealCluster(layout, record, faults, faults.nodes.daemons, shared)
