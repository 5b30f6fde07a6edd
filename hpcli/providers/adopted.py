"""Machines of a cluster that somebody else built: Slurm reboots them, nobody replaces them."""

from collections.abc import Callable
from dataclasses import dataclass

from hpcli.errors import Unsafe
from hpcli.ports import Agents, Capabilities, Machine, SlurmGateway

MAX_NODES = 65_000
SLURMD_DEAD = "slurmd.alive"


@dataclass(frozen=True, slots=True)
class AdoptedProvider:
    """Implements `ports.Provider`. `faults` gives the causes that stand on a node, by its agent's newest report."""

    gateway: SlurmGateway
    agents: Agents
    faults: Callable[[str], frozenset[str]]

    def capabilities(self) -> Capabilities:
        return Capabilities(reboot=True, replace=False, accounting=True, max_nodes=MAX_NODES)

    def machine(self, node: str) -> Machine:
        """Which boot of which machine it is, its agent says with every report; nothing is known of it here."""
        return Machine(node, "", "")

    async def reboot(self, node: str) -> None:
        """Ordered, not done: the report of the new boot says that.

        slurmd is who runs the RebootProgram. Where it is dead, Slurm takes the order all the same, and 22.05 lifts the
        drain when nothing comes of it: there the agent does it. Raises `SlurmRefused` without a RebootProgram,
        `Unreachable` when the agent is not there either.
        """
        found = await self.gateway.nodes(node)
        if SLURMD_DEAD in self.faults(node) or any("NOT_RESPONDING" in one.states for one in found):
            await self.agents.reboot(node)
            return
        await self.gateway.reboot(node)

    async def replace(self, node: str) -> None:
        """Raises `Unsafe` always."""
        raise Unsafe(
            f"node {node}",
            "found no way to replace machines of an adopted cluster, expected a person to do it",
            "replace it, then: hpcli node resume (or scontrol update state=resume)",
        )
