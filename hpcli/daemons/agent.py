"""The agent daemon: one process for one node, or for all nodes of a local cluster."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hpcli import app, app_daemons
from hpcli.daemons.link import ControllerLink
from hpcli.daemons.signals import until_stopped
from hpcli.domain.settings import AgentNode, AgentSettings
from hpcli.errors import NotFound
from hpcli.health.check import Context, Scope, select
from hpcli.health.kernel_log import load_table
from hpcli.health.registry import CHECKS
from hpcli.health.run import CheckRound
from hpcli.probe.job_processes import kill_job
from hpcli.services.agent import AgentService
from hpcli.services.watch import NodeWatch
from hpcli.version import __version__

log = logging.getLogger(__name__)


async def serve(settings: AgentSettings, only: str = "") -> None:
    """Run until SIGTERM. `only` restricts a shared agent's settings to one node."""
    nodes = [node for node in settings.nodes if only in ("", node.name)]
    if not nodes:
        raise NotFound(f"node {only}", f"cluster {settings.cluster} has no such node", "see the agent's settings")
    credentials = app.credentials(settings.munge_socket)
    link = ControllerLink(settings.controller, credentials, settings.controller_uid, settings.release)
    service = _assemble(settings, nodes, link)
    tasks = (
        asyncio.create_task(service.run()),
        asyncio.create_task(link.run(service.report_all, service.obey)),
    )
    log.info("hpcli %s: agent of %s serves %d nodes", __version__, settings.cluster, len(nodes))
    try:
        await until_stopped(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _assemble(settings: AgentSettings, nodes: Sequence[AgentNode], link: ControllerLink) -> AgentService:
    table = load_table(settings.kernel_log)
    clock = app.clock()
    hosts = {node.name: app_daemons.host(node) for node in nodes}
    watches = {node.name: NodeWatch(hosts[node.name], CHECKS, node.checks, table, clock) for node in nodes}
    first = nodes[0]
    machine_checks = select(CHECKS, first.checks, context=Context.CONTINUOUS, scope=Scope.MACHINE)
    return AgentService(
        watches=watches,
        verdicts={node.name: Path(node.verdict) for node in nodes},
        machine_checks=CheckRound(hosts[first.name], machine_checks),
        kill=partial(kill_job, slurm_conf=settings.slurm_conf),
        link=link,
        clock=clock,
        interval=settings.interval,
        gate=settings.gate,
        reboot=None if first.folder else app_daemons.reboot_machine,
    )
