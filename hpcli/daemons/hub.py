"""The controller's open ear: takes reports and questions, and knows which agent serves which node."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpcli.errors import HpcliError
from hpcli.ports import Claim, Clock, Credentials
from hpcli.services.answers import Answers
from hpcli.services.audit import Audit
from hpcli.services.desk import ReportDesk
from hpcli.services.observe import Journal
from hpcli.transport.channel import Channel, Message, TooLong

log = logging.getLogger(__name__)

HELLO_LIMIT = 30.0
"""Seconds in which a new connection must show one valid credential."""


@dataclass(slots=True)
class Connections:
    """The agents that are connected now, by node. Implements `ports.Agents`."""

    by_node: dict[str, Channel] = field(default_factory=dict)

    async def kill_job(self, job_id: str, nodes: Sequence[str]) -> None:
        await self._order(nodes, {"order": "kill_job", "job": job_id})

    async def accept(self, repair: str, nodes: Sequence[str]) -> None:
        await self._order(nodes, {"order": "accept", "repair": repair})

    async def set_gate(self, closed: bool) -> None:
        """An open gate lets jobs onto faulty nodes: while the breaker is open, nothing touches a node."""
        await self._order(tuple(self.by_node), {"order": "gate", "closed": closed})

    def forget(self, channel: Channel) -> None:
        self.by_node = {node: other for node, other in self.by_node.items() if other is not channel}

    async def _order(self, nodes: Sequence[str], order: Mapping[str, object]) -> None:
        by_channel: dict[int, tuple[Channel, list[str]]] = {}
        for node in nodes:
            if channel := self.by_node.get(node):
                by_channel.setdefault(id(channel), (channel, []))[1].append(node)
        for channel, served in by_channel.values():
            await _tell(channel, {**order, "nodes": served})


async def _tell(channel: Channel, message: Mapping[str, object]) -> None:
    try:
        await channel.send(message)
    except OSError as error:
        log.warning("order to %s not sent: %s", channel.peer, error)


@dataclass(slots=True)
class Hub:
    """Serves every connection to the controller."""

    desk: ReportDesk
    answers: Answers
    connections: Connections
    journal: Journal
    audit: Audit
    credentials: Credentials
    clock: Clock
    wake: asyncio.Event
    hello_limit: float = HELLO_LIMIT

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        channel = Channel(reader, writer, self.credentials)
        try:
            async with asyncio.timeout(self.hello_limit) as patience:
                await self._converse(channel, patience)
        except (EOFError, OSError):
            pass
        except TooLong as error:
            self.audit.refuse(channel.peer_host, f"{error} from {channel.peer}")
        except HpcliError as error:
            log.error("connection of %s ends: %s", channel.peer, error)
        finally:
            self.connections.forget(channel)
            await channel.close()

    async def _converse(self, channel: Channel, patience: asyncio.Timeout) -> None:
        while True:
            try:
                claim, message = await channel.receive()
            except TooLong:
                raise
            except HpcliError as error:
                self.audit.refuse(channel.peer_host, f"{error} from {channel.peer}")
                continue
            patience.reschedule(None)
            if message.get("kind") == "report":
                await self._take_reports(channel, claim, message)
            else:
                await channel.send(await self.answers.answer(claim, message))

    async def _take_reports(self, channel: Channel, claim: Claim, message: Message) -> None:
        raw = message.get("reports")
        believed, refused = self.desk.take(claim, raw if isinstance(raw, list) else [None], self.clock.now())
        for why in refused:
            self.audit.refuse(f"uid {claim.uid}", why)
        known = {node for node, served_by in self.connections.by_node.items() if served_by is channel}
        new = [report.node for report in believed if report.node not in known]
        self.connections.by_node.update(dict.fromkeys(new, channel))
        if new:
            await self._greet(channel, new)
        if believed:
            self.wake.set()

    async def _greet(self, channel: Channel, nodes: Sequence[str]) -> None:
        """A new agent may have missed orders that still stand."""
        ledger = self.journal.ledger
        if ledger.breaker_open or ledger.paused:
            await _tell(channel, {"order": "gate", "closed": False, "nodes": list(nodes)})
        for node in nodes:
            if repair := self.answers.awaiting_acceptance(node):
                await self.connections.accept(repair, [node])
