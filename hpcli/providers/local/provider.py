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
from hpcli.providers.local.record import read_record

MAX_NODES = 256


@dataclass(frozen=True, slots=True)
class LocalProvider:
    """The machines of one local cluster that is up. Its record is read anew each time: nodes come and go."""

    layout: Layout
    slurmd: str
    agent_argv: tuple[str, ...]

    @classmethod
    def open(cls, name: str, agent_argv: tuple[str, ...]) -> "LocalProvider":
        """Raises `NotFound` when there is no such cluster."""
        layout = Layout.existing(name)
        slurmd = find_programs(read_record(layout.record).accounting)["slurmd"]
        return cls(layout, slurmd, agent_argv)

    def capabilities(self) -> Capabilities:
        return Capabilities(reboot=True, replace=True, accounting=True, max_nodes=MAX_NODES)

    def machine(self, node: str) -> Machine:
        """Raises `NotFound` when the cluster has no such node."""
        folder = self._nodes(node).machine(node)
        return Machine(node, folder.boot_id, folder.instance_id)

    async def reboot(self, node: str) -> None:
        """Switch the node off and on. Its devices come back as the hardware has them."""
        nodes = self._nodes(node)
        with disk_errors(self.layout.home):
            await asyncio.to_thread(self._off, nodes, node)
            await asyncio.to_thread(self._on, nodes, node)

    async def replace(self, node: str) -> None:
        """Put a new machine behind the name: nothing of the old one's folder or spool stays."""
        nodes = self._nodes(node)
        with disk_errors(self.layout.home):
            await asyncio.to_thread(self._off, nodes, node)
            await asyncio.to_thread(self._renew, nodes, node)
            await asyncio.to_thread(self._on, nodes, node)

    def _off(self, nodes: LocalNodes, node: str) -> None:
        nodes.switch_off([node])
        if nodes.record.agent_per_node:
            nodes.daemons.stop([f"agent-{node}"])

    def _renew(self, nodes: LocalNodes, node: str) -> None:
        shutil.rmtree(self.layout.spool / node, ignore_errors=True)
        nodes.machine(node).assemble()

    def _on(self, nodes: LocalNodes, node: str) -> None:
        nodes.switch_on(node)
        if nodes.record.agent_per_node:
            nodes.daemons.start(f"agent-{node}", [*self.agent_argv, "--node", node])

    def _nodes(self, node: str) -> LocalNodes:
        record = read_record(self.layout.record)
        if node not in record.nodes:
            raise NotFound(f"node {node}", f"cluster {record.name} has no such node", "see: hpcli nodes")
        return LocalNodes(self.layout, record, self.slurmd, Daemons.of(self.layout, record))
