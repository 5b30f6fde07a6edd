"""Which cluster is meant, and joining the parts for one that somebody else has built."""

import asyncio
import getpass
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpcli.domain.context import Context, Contexts
from hpcli.errors import HpcliError, NotFound, Unreachable, error_of
from hpcli.ports import Transport
from hpcli.store.contexts import ContextFile, contexts_path

if TYPE_CHECKING:
    from hpcli.services.log_files import LogFiles
    from hpcli.slurm.cli import CliGateway

CLUSTER_VARIABLE = "HPCLI_CLUSTER"
ASK_LIMIT = 30.0
WHO_LIMIT = 30.0


def store() -> ContextFile:
    """The contexts of this user."""
    return ContextFile(contexts_path(os.environ))


def meant(given: str | None, environ: Mapping[str, str] = os.environ, contexts: Contexts | None = None) -> str:
    """The name that counts: given, else of HPCLI_CLUSTER, else the current context; "" for Slurm of this machine."""
    return given or environ.get(CLUSTER_VARIABLE) or (contexts or store().read()).current


def find(name: str) -> Context | None:
    """The context of that name; None for a cluster that was brought up here, and for one that nobody knows."""
    return None if made_here(name) else store().read().known.get(name)


def made_here(name: str) -> bool:
    from hpcli.providers.remote.layout import provider_of

    try:
        provider_of(name)
    except NotFound:
        return False
    except HpcliError:
        # A damaged record, or no name at all: whoever opens the cluster will say so.
        return True
    return True


def transport_of(context: Context) -> Transport:
    """Where its commands run."""
    if not context.host:
        from hpcli.transport.process import LocalTransport

        return LocalTransport()
    from hpcli.transport.reach import connect
    from hpcli.transport.target import SshTarget

    target = SshTarget(context.host, context.user, context.port, context.identity, context.known_hosts)
    return connect(target)


def gateway_over(login: Transport, slurm_conf: str = "") -> "CliGateway":
    """Slurm of a cluster through its login node; queries of one moment share a round trip."""
    from hpcli.slurm.batch import OneRoundTrip
    from hpcli.slurm.cli import CliGateway

    return CliGateway(OneRoundTrip(login), {"SLURM_CONF": slurm_conf} if slurm_conf else {}, ambient=())


def files_over(login: Transport) -> "LogFiles":
    """Output files of jobs as its login node sees them."""
    from hpcli.services.remote_files import RemoteFiles
    from hpcli.slurm.batch import Repeating

    return RemoteFiles(Repeating(login))


def user_on(context: Context) -> str:
    """Who we are on its login node."""
    if not context.host:
        return getpass.getuser()
    known = context.user or context.login
    if known:
        return known
    return asyncio.run(transport_of(context).run(["id", "-un"], timeout=WHO_LIMIT)).out.strip()


def controller_of(context: Context) -> "ControllerThroughLogin":
    return ControllerThroughLogin(transport_of(context), context.name, context.where)


class ControllerThroughLogin:
    """A controller asked through hpcli on a login node. Implements `ports.Controller`."""

    def __init__(self, login: Transport, name: str, where: str) -> None:
        self._login = login
        self._name = name
        self._where = where

    async def ask(self, what: str, **details: object) -> Any:
        """Raises `NotFound` without hpcli there, `Unreachable`, or the error that the controller answered with."""
        try:
            answer = await self._login.run(["hpcli", "ask", what], stdin=json.dumps(details), timeout=ASK_LIMIT)
        except NotFound:
            hint = "jobs, queue, nodes and logs need Slurm alone; install hpcli there for the rest"
            raise NotFound(f"hpcli on {self._where}", "no such program there, and only it can ask", hint) from None
        try:
            reply = json.loads(answer.out)
        except ValueError:
            words = (answer.err.strip() or answer.out.strip() or f"ended with {answer.code}").splitlines()[-1]
            hint = f"is hpcli of {self._where} set up for this cluster? try there: hpcli recovery status"
            raise Unreachable(f"controller of {self._name}", words, hint) from None
        if not reply.get("ok"):
            raise error_of(reply)
        return reply["result"]
