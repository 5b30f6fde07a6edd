"""Provider `local`: nodes are folders and daemons on this machine."""

import asyncio
import shutil
from dataclasses import dataclass

from hpcli.errors import NotFound
from hpcli.ports import Capabilities, Machine
from hpcli.providers.local.daemons import Daemons
from hpcli.providers.local.folders import disk_errors
from hpcli.providers.local.layout import Layout
from hpcli.providers.local.nodes import LocalNodes
from hpcli.providers.local.programs import find_programs
from hpcli.providers.local.record import Record, read_record

MAX_NODES = 256


@dataclass(frozen=True, slots=True)
class LocalProvider:
    """The machines of one local cluster that is up."""

    layout: Layout
    record: Record
    nodes: LocalNodes
    agent_argv: tuple[str, ...]

    @classmethod
    def open(cls, name: str, agent_argv: tuple[str, ...]) -> "LocalProvider":
        """Raises `NotFound` when there is no such cluster."""
        layout = Layout.existing(name)
        record = read_record(layout.record)
        slurmd = find_programs(record.accounting)["slurmd"]
        return cls(layout, record, LocalNodes(layout, record, slurmd, Daemons.of(layout, record)), agent_argv)

    def capabilities(self) -> Capabilities:
        return Capabilities(reboot=True, replace=True, accounting=True, max_nodes=MAX_NODES)

    def machine(self, node: str) -> Machine:
        """Raises `NotFound` when the cluster has no such node."""
        self._known(node)
        folder = self.nodes.machine(node)
        return Machine(node, folder.boot_id, folder.instance_id)

    async def reboot(self, node: str) -> None:
        """Switch the node off and on. Its devices come back as the hardware has them."""
        self._known(node)
        with disk_errors(self.layout.home):
            await asyncio.to_thread(self._off, node)
            await asyncio.to_thread(self._on, node)

    async def replace(self, node: str) -> None:
        """Put a new machine behind the name: nothing of the old one's folder or spool stays."""
        self._known(node)
        with disk_errors(self.layout.home):
            await asyncio.to_thread(self._off, node)
            await asyncio.to_thread(self._renew, node)
            await asyncio.to_thread(self._on, node)

    def _off(self, node: str) -> None:
        self.nodes.switch_off([node])
        if self.record.agent_per_node:
            self.nodes.daemons.stop([f"agent-{node}"])

    def _renew(self, node: str) -> None:
        shutil.rmtree(self.layout.spool / node, ignore_errors=True)
        self.nodes.machine(node).assemble()

    def _on(self, node: str) -> None:
        self.nodes.switch_on(node)
        if self.record.agent_per_node:
            self.nodes.daemons.start(f"agent-{node}", [*self.agent_argv, "--node", node])

    def _known(self, node: str) -> None:
        if node not in self.record.nodes:
            raise NotFound(f"node {node}", f"cluster {self.record.name} has no such node", "see: hpcli nodes")
