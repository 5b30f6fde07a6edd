"""Is a cluster up and whole? Waiting until it is, and saying what is missing."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ClusterShell.NodeSet import NodeSet

from hpcli.domain.node import Node
from hpcli.errors import HpcliError, TimedOut, Unreachable
from hpcli.ports import Clock, Controller, Progress, SlurmGateway

POLL = 0.15
BASE_LIMIT = 30.0
LIMIT_PER_NODE = 0.4


@dataclass(frozen=True, slots=True)
class Health:
    """What answers: nodes in Slurm, and agents that have run every check since their node's boot."""

    nodes: tuple[Node, ...]
    slurm_error: str
    controller_error: str
    reporting: frozenset[str]

    @property
    def not_idle(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.nodes if not (_idle(node) or _out_on_purpose(node)))

    @property
    def silent(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.nodes if node.name not in self.reporting)


def _idle(node: Node) -> bool:
    return "IDLE" in node.states and node.schedulable


def _out_on_purpose(node: Node) -> bool:
    """Drained before, by a person or as parked, and in touch with slurmctld: nothing to wait for."""
    return node.drain and bool(node.reason) and "NOT_RESPONDING" not in node.states


async def look(gateway: SlurmGateway, controller: Controller, dead: Collection[str] = ()) -> Health:
    """Ask both; what does not answer is part of the answer. `dead` daemons need not be waited for."""
    nodes: tuple[Node, ...] = ()
    slurm_error = controller_error = ""
    reporting: frozenset[str] = frozenset()
    try:
        if "slurmctld" in dead:
            raise Unreachable("slurmctld", "it does not run")
        nodes = await gateway.nodes()
    except HpcliError as error:
        slurm_error = str(error)
    try:
        status = await controller.ask("status")
        reporting = frozenset(node for node, report in status["nodes"].items() if report["complete"])
    except HpcliError as error:
        controller_error = str(error)
    return Health(nodes, slurm_error, controller_error, reporting)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Waits for a cluster to become whole, looking every `poll` seconds.

    `casualty` names a daemon that died and its last words, "" while all live; `last_words` are those
    of a node's slurmd. Without `idle` only the agents are waited for.
    """

    gateway: SlurmGateway
    controller: Controller
    clock: Clock
    progress: Progress
    casualty: Callable[[], str]
    last_words: Callable[[str], str]
    poll: float = POLL
    idle: bool = True

    async def wait(self, nodes: Sequence[str]) -> Health:
        """Until every node is idle and the agents of `nodes` have reported. Raises `TimedOut`: what is missing."""
        deadline = self.clock.now() + BASE_LIMIT + LIMIT_PER_NODE * len(nodes)
        while True:
            health = await look(self.gateway, self.controller)
            ready = len(health.nodes) - len(health.not_idle)
            told = f"{ready} of {len(nodes)} nodes idle, " if self.idle else ""
            self.progress.step(f"{told}{len(health.reporting)} of {len(nodes)} agents reporting")
            if health.reporting.issuperset(nodes) and (not self.idle or ready == len(nodes)):
                return health
            if died := self.casualty():
                raise HpcliError("cluster", died, "mend that, then bring the cluster up again")
            if self.clock.now() > deadline:
                raise TimedOut("cluster", self._missing(health, nodes), "its logs: hpcli cluster status")
            await self.clock.sleep(self.poll)

    def _missing(self, health: Health, nodes: Sequence[str]) -> str:
        if health.slurm_error or health.controller_error:
            return health.slurm_error or health.controller_error
        if self.idle and health.not_idle:
            first = health.not_idle[0]
            return f"{NodeSet.fromlist(health.not_idle)} not idle; slurmd of {first}: {self.last_words(first)}"
        return f"no report from {NodeSet.fromlist(set(nodes) - health.reporting)}"
