"""The controller daemon: one per cluster, held by a lease."""

import asyncio
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpcli import app, app_daemons
from hpcli.daemons.hub import Connections, Hub
from hpcli.daemons.signals import until_stopped
from hpcli.domain.node import Node
from hpcli.domain.settings import ControllerSettings
from hpcli.errors import HpcliError, Unsafe
from hpcli.ports import SlurmGateway
from hpcli.services.answers import Answers
from hpcli.services.apply import Executor
from hpcli.services.audit import Audit
from hpcli.services.desk import ReportDesk, Trust
from hpcli.services.observe import Journal, Observer
from hpcli.services.recovery import Recovery
from hpcli.version import __version__

log = logging.getLogger(__name__)


async def serve(settings: ControllerSettings) -> None:
    """Run until SIGTERM. Raises `Unsafe` when another controller holds the lease."""
    with lease(Path(settings.lease)):
        hub = await _assemble(settings)
        server = await _listen(hub, settings)
        loop = asyncio.create_task(hub.answers.recovery.run())
        log.info("hpcli %s: controller of %s listens on %s", __version__, settings.cluster, settings.listen)
        try:
            await until_stopped(loop)
        finally:
            loop.cancel()
            server.close()
            await hub.answers.recovery.executor.stop()
            with suppress(asyncio.CancelledError):
                await loop


async def _assemble(settings: ControllerSettings) -> Hub:
    clock = app.clock()
    gateway = app.gateway_for(settings.slurm_conf, settings.requeue_rest)
    journal = Journal(app_daemons.store(settings.journal), clock)
    if journal.ledger.unknown:
        log.warning("journal: entries of unknown kinds are passed over: %s", ", ".join(sorted(journal.ledger.unknown)))
    nodes = frozenset(node.name for node in await _nodes_when_up(gateway))
    # Until Slurm's addresses are known, no machine is believed.
    trust = Trust(nodes, frozenset({0, settings.agent_uid}), {} if settings.machines else None)
    desk = ReportDesk(trust, journal.store)
    connections, wake = Connections(), asyncio.Event()
    provider = app_daemons.provider(settings, connections, desk.standing)
    origins = app_daemons.origins() if settings.machines else None
    observer = Observer(gateway, provider, desk, journal, clock, settings.policy, origins)
    executor = Executor(gateway, provider, connections, journal, wake)
    recovery = Recovery(observer, executor, journal, settings.policy, clock, wake, settings.interval)
    audit = Audit(journal, clock)
    answers = Answers(desk, journal, recovery, gateway, audit, os.getuid(), settings.provider)
    return Hub(desk, answers, connections, audit, app.credentials(settings.munge_socket), clock, wake)


async def _nodes_when_up(gateway: SlurmGateway) -> tuple[Node, ...]:
    """slurmctld may still be starting, or be away for a while: wait for it."""
    while True:
        try:
            return await gateway.nodes()
        except HpcliError as error:
            log.warning("waiting for slurmctld: %s", error)
            await asyncio.sleep(0.5)


async def _listen(hub: Hub, settings: ControllerSettings) -> asyncio.Server:
    try:
        return await asyncio.start_server(hub.serve, settings.listen.host, settings.listen.port)
    except OSError as error:
        raise HpcliError(
            f"controller of {settings.cluster}",
            f"cannot listen on {settings.listen}: {error.strerror}",
            "which program has that port? see: ss -lntp",
        ) from None


@contextmanager
def lease(path: Path) -> Iterator[None]:
    """Hold the cluster's one lease. Raises `Unsafe` when another controller has it, `HpcliError` on a full disk."""
    try:
        file = path.open("a+")
    except OSError as error:
        raise _unwritten(path, error) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            raise Unsafe(
                f"lease {path}", f"found it held by {holder}, expected it free", "stop the other controller first"
            ) from None
        try:
            file.truncate(0)
            file.write(f"pid {os.getpid()} on {os.uname().nodename}\n")
            file.flush()
        except OSError as error:
            raise _unwritten(path, error) from None
        yield


def _unwritten(path: Path, error: OSError) -> HpcliError:
    why = error.strerror or str(error)
    return HpcliError(f"lease {path}", f"found {why}, expected to write it", "free some space there, or mend its owner")
