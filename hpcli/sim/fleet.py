"""The simulated world's machines: their faults, their agents' reports, and the provider that mends them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hpcli.domain.check import Incident, Remedy
from hpcli.domain.report import Acceptance, NodeReport
from hpcli.errors import HpcliError
from hpcli.ports import Capabilities, Clock, Machine
from hpcli.sim.world import World


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault and the generation of machine it began on. A `broken` part outlives reboots."""

    cause: str
    remedy: Remedy
    evict: bool
    broken: bool
    boot_id: str
    instance_id: str
    since: float

    def stands_on(self, machine: Machine) -> bool:
        if self.broken:
            return machine.instance_id == self.instance_id
        return machine.boot_id == self.boot_id


@dataclass(slots=True)
class SimFleet:
    """Machines of a World. Implements `ports.Provider` and `ports.Agents`; reboot and replace take time."""

    world: World
    clock: Clock
    reboot_seconds: float = 60.0
    replace_seconds: float = 300.0
    can_replace: bool = True
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    gate_closed: bool = True
    reboots: list[str] = field(default_factory=list)
    replacements: list[str] = field(default_factory=list)
    refusals: set[str] = field(default_factory=set)
    _accepted: dict[str, tuple[str, Acceptance]] = field(default_factory=dict)
    _seq: int = 0

    def capabilities(self) -> Capabilities:
        return Capabilities(reboot=True, replace=self.can_replace, accounting=False, max_nodes=65_536)

    def machine(self, node: str) -> Machine:
        return self.world.machine(node)

    async def reboot(self, node: str) -> None:
        """Raises `HpcliError` for a node in `refusals`."""
        self.reboots.append(node)
        if node in self.refusals:
            raise HpcliError(f"node {node}", "its power supply does not answer")
        self.world.reboot(node, self.reboot_seconds)

    async def replace(self, node: str) -> None:
        self.replacements.append(node)
        self.world.replace(node, self.replace_seconds)

    async def kill_job(self, job_id: str, nodes: Sequence[str]) -> None:
        for node in nodes:
            self.world.kill_job_processes(job_id, node)

    async def accept(self, repair: str, nodes: Sequence[str]) -> None:
        for node in nodes:
            machine = self.machine(node)
            standing = self.standing(node)
            message = ", ".join(fault.cause for fault in standing)
            self._accepted[node] = (machine.boot_id, Acceptance(repair, not standing, message))

    async def set_gate(self, closed: bool) -> None:
        self.gate_closed = closed

    def break_node(
        self,
        node: str,
        cause: str = "xid79",
        remedy: Remedy = Remedy.REBOOT,
        *,
        evict: bool = True,
        broken: bool = False,
    ) -> None:
        machine = self.machine(node)
        fault = Fault(cause, remedy, evict, broken, machine.boot_id, machine.instance_id, self.clock.now())
        self.faults.setdefault(node, []).append(fault)

    def standing(self, node: str) -> list[Fault]:
        machine = self.machine(node)
        return [fault for fault in self.faults.get(node, []) if fault.stands_on(machine)]

    def reports(self) -> list[NodeReport]:
        """What the agents say now; a machine that is off says nothing."""
        self.world.settle()
        names = (node for node in self.world.nodes if node not in self.silent)
        return [self._report(node) for node in names if self.machine(node).boot_id]

    def _report(self, node: str) -> NodeReport:
        self._seq += 1
        machine = self.machine(node)
        boot_id, acceptance = self._accepted.get(node, ("", None))
        return NodeReport(
            node=node,
            boot_id=machine.boot_id,
            instance_id=machine.instance_id,
            seq=self._seq,
            at=self.clock.now(),
            complete=True,
            incidents=tuple(_incident(fault) for fault in self.standing(node)),
            acceptance=acceptance if boot_id == machine.boot_id else None,
        )


def _incident(fault: Fault) -> Incident:
    return Incident(fault.cause, f"{fault.cause} seen", fault.remedy, fault.evict, not fault.broken, fault.since)
