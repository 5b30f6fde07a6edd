"""An agent's connection to the controller: reconnects, sends the newest reports, takes orders."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from hpcli.domain.report import PROTOCOL, NodeReport, to_dict
from hpcli.domain.settings import Address
from hpcli.errors import HpcliError
from hpcli.ports import Credentials
from hpcli.transport.channel import Channel, connect

log = logging.getLogger(__name__)

REPORTS_PER_MESSAGE = 32
RETRY = 0.5


@dataclass(slots=True)
class ControllerLink:
    """Orders count only from root and from the controller's own user."""

    address: Address
    credentials: Credentials
    controller_uid: int
    _channel: Channel | None = None

    async def send(self, reports: Sequence[NodeReport]) -> None:
        """Send if connected; if not, the next connection starts with a full report."""
        for start in range(0, len(reports), REPORTS_PER_MESSAGE):
            if self._channel is None:
                return
            part = [to_dict(report) for report in reports[start : start + REPORTS_PER_MESSAGE]]
            await self._send(self._channel, {"kind": "report", "protocol": PROTOCOL, "reports": part})

    async def run(
        self, connected: Callable[[], Awaitable[None]], obey: Callable[[Mapping[str, object]], Awaitable[None]]
    ) -> None:
        """Stay connected for ever."""
        while True:
            try:
                self._channel = await connect(self.address, self.credentials)
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
            await obey(order)

    async def _send(self, channel: Channel, message: Mapping[str, object]) -> None:
        try:
            await channel.send(message)
        except (HpcliError, OSError) as error:
            log.warning("report not sent: %s", error)

    async def _drop(self) -> None:
        channel, self._channel = self._channel, None
        if channel:
            await channel.close()
