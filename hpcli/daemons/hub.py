"""The controller's open ear: takes reports and questions, and knows which agent serves which node."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpcli.domain.report import PROTOCOL, Sender, sender_of
from hpcli.errors import HpcliError, Unreachable
from hpcli.ports import Claim, Clock, Credentials
from hpcli.services.answers import Answers
from hpcli.services.audit import Audit
from hpcli.services.desk import ReportDesk
from hpcli.transport.channel import Channel, Message, TooLong
from hpcli.version import __version__

log = logging.getLogger(__name__)

HELLO_LIMIT = 30.0
"""Seconds in which a new connection must show one valid credential."""


@dataclass(slots=True)
class Connections:
    """The agents that are connected now, by node. Implements `ports.Agents`."""

    by_node: dict[str, Channel] = field(default_factory=dict)
    turned_away: set[int] = field(default_factory=set)
    """Channels of agents that are not understood, by `id`."""

    async def kill_job(self, job_id: str, nodes: Sequence[str]) -> None:
        await self._order(nodes, {"order": "kill_job", "job": job_id})

    async def accept(self, repair: str, nodes: Sequence[str]) -> None:
        await self._order(nodes, {"order": "accept", "repair": repair})

    async def reboot(self, node: str) -> None:
        if node not in self.by_node:
            raise Unreachable(f"agent of {node}", "found it not connected", "see there: systemctl status hpcli-agent")
        await self._order([node], {"order": "reboot"})

    async def set_gate(self, closed: bool) -> None:
        """An open gate lets jobs onto faulty nodes: while the breaker is open, nothing touches a node."""
        await self._order(tuple(self.by_node), {"order": "gate", "closed": closed})

    def forget(self, channel: Channel) -> None:
        self.by_node = {node: other for node, other in self.by_node.items() if other is not channel}
        self.turned_away.discard(id(channel))

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
        listed = message.get("reports")
        raw = listed if isinstance(listed, list) else [None]
        try:
            sender = sender_of(message)
        except ValueError as error:
            self.audit.refuse(f"uid {claim.uid}", str(error))
            return
        if not sender.understood:
            await self._turn_away(channel, claim, raw, sender)
            return
        believed, refused = self.desk.take(claim, raw, self.clock.now(), channel.peer_host, sender)
        for why in refused:
            self.audit.refuse(f"uid {claim.uid}", why)
        if believed:
            self.wake.set()
            await self._serve_agent(channel, [report.node for report in believed])

    async def _turn_away(self, channel: Channel, claim: Claim, raw: Sequence[object], sender: Sender) -> None:
        """Say why to whoever reports in a protocol that nobody here knows; written down once a connection."""
        who = f"hpcli {sender.version}" if sender.version else "an hpcli of unknown version"
        why = f"report in protocol {sender.protocol} of {who}, expected {PROTOCOL - 1} to {PROTOCOL + 1}"
        if id(channel) not in self.connections.turned_away:
            self.connections.turned_away.add(id(channel))
            self.audit.refuse(f"uid {claim.uid}", f"{why}, from {channel.peer_host}")
        self.desk.turn_away(claim, raw, channel.peer_host, sender)
        await _tell(channel, {"order": "refused", "protocol": PROTOCOL, "version": __version__, "why": why})

    async def _serve_agent(self, channel: Channel, nodes: Sequence[str]) -> None:
        """A new agent may have missed orders that still stand."""
        known = {node for node, served_by in self.connections.by_node.items() if served_by is channel}
        new = [node for node in nodes if node not in known]
        self.connections.by_node.update(dict.fromkeys(new, channel))
        if not known:
            await self._greet(channel, new)
        for node in new:
            if repair := self.answers.awaiting_acceptance(node):
                await self.connections.accept(repair, [node])

    async def _greet(self, channel: Channel, nodes: Sequence[str]) -> None:
        """Say who we are, and how the gate stands now, whatever the agent was told before."""
        recovery = self.answers.recovery
        await _tell(channel, {"order": "hello", "protocol": PROTOCOL, "version": __version__})
        told: bool | None = None
        while told != (closed := not recovery.gate_open):
            # Signing takes a moment, in which the gate may change and others be told so before this is sent.
            await _tell(channel, {"order": "gate", "closed": closed, "nodes": list(nodes)})
            told = closed
