"""One cluster's whole state, as people ask for it."""

from dataclasses import dataclass

from ClusterShell.NodeSet import NodeSet

from hpcli.domain.cluster import Built
from hpcli.errors import HpcliError
from hpcli.ports import Controller, SlurmGateway
from hpcli.services.cluster import look


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
    errors: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        return not (self.errors or self.dead or self.out_of_service or self.silent or self.breaker)


async def status(built: Built, gateway: SlurmGateway, controller: Controller) -> Status:
    """Ask Slurm and controller; what does not answer is part of the status."""
    health = await look(gateway, controller)
    repairs, breaker = await _repairs(controller)
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
        errors=tuple(filter(None, (health.slurm_error, health.controller_error))),
    )


async def _repairs(controller: Controller) -> tuple[int, str]:
    try:
        answer = await controller.ask("status")
    except HpcliError:
        return 0, ""
    return sum(not repair["outcome"] for repair in answer["repairs"]), str(answer["breaker_open"])
