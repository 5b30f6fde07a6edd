"""The same cluster without hpcli: what Slurm does by itself, for comparison."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hpcli.ports import Transport
from hpcli.providers.local.build import start_hpcli
from hpcli.providers.local.daemons import Daemons
from hpcli.providers.local.layout import Layout
from hpcli.providers.local.record import Record

OURS = ("SchedulerParameters=", "Prolog=")


@dataclass(frozen=True, slots=True)
class StockSlurm:
    """Takes hpcli out of a cluster for a while."""

    layout: Layout
    record: Record
    transport: Transport

    @asynccontextmanager
    async def in_force(self) -> AsyncIterator[None]:
        """Controller and agents stopped, Slurm's own defaults in place of our settings; then as before."""
        daemons = Daemons.of(self.layout, self.record)
        ours = self.layout.slurm_conf.read_text()
        stock = "".join(line for line in ours.splitlines(keepends=True) if not line.startswith(OURS))
        daemons.stop(name for name in daemons.known() if name.startswith(("agent", "controller")))
        await self._configure(stock)
        try:
            yield
        finally:
            await self._configure(ours)
            start_hpcli(self.layout, self.record, daemons)

    async def _configure(self, text: str) -> None:
        self.layout.slurm_conf.write_text(text)
        await self.transport.run(["scontrol", "reconfigure"], env={"SLURM_CONF": str(self.layout.slurm_conf)})
