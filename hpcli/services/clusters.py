"""One cluster's whole state, as people ask for it."""

from dataclasses import dataclass

from ClusterShell.NodeSet import NodeSet

from hpcli.domain.cluster import Built
from hpcli.errors import HpcliError
from hpcli.ports import Controller, SlurmGateway
from hpcli.services.cluster import look
from hpcli.services.history import standing_faults


@dataclass(frozen=True, slots=True)
class Status:
    """A cluster's state: what is there, what answers, what does not. Node lists are hostlists."""

    name: str
    provider: str
    slurm_version: str
    folder: str
    slurm_conf: str
    node_count: int
    idle_or_busy: int
    out_of_service: str
    reporting: int
    silent: str
    daemons: int
    dead: tuple[str, ...]
    open_repairs: int
    breaker: str
    faults: tuple[str, ...]
    errors: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        wrong = (self.errors, self.dead, self.out_of_service, self.silent, self.breaker, self.faults)
        return not any(wrong)


async def status(built: Built, gateway: SlurmGateway, controller: Controller) -> Status:
    """Ask Slurm and controller; what does not answer is part of the status."""
    health = await look(gateway, controller, built.dead)
    repairs, breaker, faults = await _repairs(controller)
    out = [node.name for node in health.nodes if not node.schedulable] if health.nodes else list(built.nodes)
    silent = [node for node in built.nodes if node not in health.reporting]
    return Status(
        name=built.name,
        provider=built.provider,
        slurm_version=built.slurm_version,
        folder=built.folder,
        slurm_conf=built.slurm_conf,
        node_count=len(built.nodes),
        idle_or_busy=len(built.nodes) - len(out),
        out_of_service=str(NodeSet.fromlist(out)),
        reporting=len(built.nodes) - len(silent),
        silent=str(NodeSet.fromlist(silent)),
        daemons=len(built.alive),
        dead=built.dead,
        open_repairs=repairs,
        breaker=breaker,
        faults=faults,
        errors=tuple(filter(None, (health.slurm_error, health.controller_error))),
    )


async def _repairs(controller: Controller) -> tuple[int, str, tuple[str, ...]]:
    try:
        answer = await controller.ask("status")
    except HpcliError:
        return 0, "", ()
    under_way = sum(not repair["outcome"] for repair in answer["repairs"])
    return under_way, str(answer["breaker_open"]), standing_faults(answer)
