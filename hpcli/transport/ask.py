"""A controller's answers, asked over the network with a MUNGE credential."""

from collections.abc import Mapping
from typing import Any

from hpcli.domain.settings import Address
from hpcli.errors import error_of
from hpcli.ports import Credentials
from hpcli.transport.channel import ask


class RemoteController:
    """A controller reached over the network. Implements `ports.Controller`."""

    def __init__(self, address: Address, credentials: Credentials) -> None:
        self._address = address
        self._credentials = credentials

    async def ask(self, what: str, **details: object) -> Any:
        """Raises `Unreachable`, `TimedOut`, or the error that the controller answered with."""
        reply = await self.reply(what, **details)
        if not reply.get("ok"):
            raise error_of(reply)
        return reply["result"]

    async def reply(self, what: str, **details: object) -> Mapping[str, Any]:
        """Raises `Unreachable`, `TimedOut`; an error that the controller answered with is a reply."""
        return await ask(self._address, self._credentials, {"kind": "ask", "what": what, **details})
