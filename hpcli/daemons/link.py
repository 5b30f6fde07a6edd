"""An agent's connection to the controller: reconnects, sends the newest reports, takes orders."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from hpcli.domain.report import PROTOCOL, NodeReport, Sender, report_message
from hpcli.domain.settings import Address
from hpcli.errors import HpcliError
from hpcli.ports import Credentials
from hpcli.transport.channel import Channel, connect

log = logging.getLogger(__name__)

REPORTS_PER_MESSAGE = 32
RETRY = 0.5
COMPLAINT = 60.0
"""Seconds between two log lines that say that the controller does not understand us."""


@dataclass(slots=True)
class ControllerLink:
    """Orders count only from root and from the controller's own user.

    `release` is that of the code pushed to this machine. We speak our own protocol until the controller says that
    its own is one lower.
    """

    address: Address
    credentials: Credentials
    controller_uid: int
    release: str = ""
    _channel: Channel | None = None
    _protocol: int = PROTOCOL
    _complained_at: float = -COMPLAINT

    async def send(self, reports: Sequence[NodeReport]) -> None:
        """Send if connected; if not, the next connection starts with a full report."""
        for start in range(0, len(reports), REPORTS_PER_MESSAGE):
            if self._channel is None:
                return
            part = reports[start : start + REPORTS_PER_MESSAGE]
            sender = Sender(release=self.release, protocol=self._protocol)
            await self._send(self._channel, report_message(part, sender))

    async def run(
        self, connected: Callable[[], Awaitable[None]], obey: Callable[[Mapping[str, object]], Awaitable[None]]
    ) -> None:
        """Stay connected for ever."""
        while True:
            try:
                self._channel = await connect(self.address, self.credentials)
                self._protocol = PROTOCOL
                await connected()
                await self._take_orders(self._channel, obey)
            except (HpcliError, EOFError, OSError) as error:
                log.debug("no controller: %s", error)
            finally:
                await self._drop()
            await asyncio.sleep(RETRY)

    async def _take_orders(self, channel: Channel, obey: Callable[[Mapping[str, object]], Awaitable[None]]) -> None:
        while True:
            claim, order = await channel.receive()
            if claim.uid not in (0, self.controller_uid):
                log.warning("order refused: signed by uid %d, expected %d", claim.uid, self.controller_uid)
                continue
            if order.get("order") == "hello":
                self._meet(order)
            elif order.get("order") == "refused":
                self._complain(order)
            else:
                await obey(order)

    def _meet(self, hello: Mapping[str, object]) -> None:
        theirs = hello.get("protocol")
        log.info("controller is hpcli %s, protocol %s", hello.get("version"), theirs)
        if isinstance(theirs, int):
            self._protocol = max(PROTOCOL - 1, min(PROTOCOL, theirs))

    def _complain(self, refusal: Mapping[str, object]) -> None:
        now = time.monotonic()
        if now - self._complained_at >= COMPLAINT:
            self._complained_at = now
            words = "controller (hpcli %s) refuses our reports: %s; bring both to one release: hpcli cluster upgrade"
            log.error(words, refusal.get("version"), refusal.get("why"))

    async def _send(self, channel: Channel, message: Mapping[str, object]) -> None:
        try:
            await channel.send(message)
        except (HpcliError, OSError) as error:
            log.warning("report not sent: %s", error)

    async def _drop(self) -> None:
        channel, self._channel = self._channel, None
        if channel:
            await channel.close()
