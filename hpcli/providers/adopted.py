"""Machines of a cluster that somebody else built: Slurm reboots them, nobody replaces them."""

from dataclasses import dataclass

from hpcli.errors import Unsafe
from hpcli.ports import Capabilities, Machine, SlurmGateway

MAX_NODES = 65_000


@dataclass(frozen=True, slots=True)
class AdoptedProvider:
    """Implements `ports.Provider`."""

    gateway: SlurmGateway

    def capabilities(self) -> Capabilities:
        return Capabilities(reboot=True, replace=False, accounting=True, max_nodes=MAX_NODES)

    def machine(self, node: str) -> Machine:
        """Which boot of which machine it is, its agent says with every report; nothing is known of it here."""
        return Machine(node, "", "")

    async def reboot(self, node: str) -> None:
        """Ordered, not done: the report of the new boot says that. Raises `SlurmRefused` without a RebootProgram."""
        await self.gateway.reboot(node)

    async def replace(self, node: str) -> None:
        """Raises `Unsafe` always."""
        raise Unsafe(
            f"node {node}",
            "found no way to replace machines of an adopted cluster, expected a person to do it",
            "replace it, then: hpcli node resume (or scontrol update state=resume)",
        )
