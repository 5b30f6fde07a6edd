"""Joining the parts that only the daemons use."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hpcli import app
from hpcli.domain.settings import AgentNode, ControllerSettings
from hpcli.ports import Agents, Host, Provider, Store

if TYPE_CHECKING:
    from hpcli.probe.origins import NameOrigins


log = logging.getLogger(__name__)

REBOOT = "/opt/hpcli/lifecycle/reboot"
REBOOT_LIMIT = 60.0


def origins() -> "NameOrigins":
    from hpcli.probe.origins import NameOrigins

    return NameOrigins()


def host(node: AgentNode) -> Host:
    """The machine behind a node: this one, or the folder that stands for it."""
    from hpcli.probe.host import folder_machine, this_machine

    if not node.folder:
        return this_machine(node.name, app.local_transport())
    return folder_machine(node.name, Path(node.folder), app.local_transport())


def store(path: str) -> Store:
    from hpcli.store.sqlite import SqliteStore

    return SqliteStore(Path(path))


async def reboot_machine() -> None:
    """Reboot the machine that we run on. What it answers, nobody may be there to hear."""
    answer = await app.local_transport().run([REBOOT], timeout=REBOOT_LIMIT)
    if answer.code:
        log.error("reboot: %s", answer.err.strip() or f"ended with {answer.code}")


def provider(settings: ControllerSettings, agents: Agents, faults: Callable[[str], frozenset[str]]) -> Provider:
    """The provider of the controller's cluster; `faults` gives what stands on a node, by its agent's newest report."""
    if settings.keeper:
        from hpcli.providers.kept import KeptProvider

        return KeptProvider(settings.keeper, can_replace=settings.can_replace)
    if settings.provider == "adopted":
        from hpcli.providers.adopted import AdoptedProvider

        return AdoptedProvider(app.gateway_for(settings.slurm_conf, settings.requeue_rest), agents, faults)
    from hpcli.providers.local.build import agent_argv
    from hpcli.providers.local.provider import LocalProvider

    return LocalProvider.open(settings.cluster, agent_argv(app.layout_of(settings.cluster)))
