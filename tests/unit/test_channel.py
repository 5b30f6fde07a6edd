"""Frames between agents, controller and clients, and who is obeyed: over real sockets with credentials made up here."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpcli.daemons.hub import Connections, Hub
from hpcli.daemons.link import ControllerLink
from hpcli.domain.report import MAX_REPORT, PROTOCOL, NodeReport, to_dict
from hpcli.domain.settings import Address
from hpcli.errors import TimedOut, Unreachable
from hpcli.ports import Claim
from hpcli.services.answers import Answers
from hpcli.transport.channel import Channel, TooLong, ask, connect
from hpcli.version import __version__
from tests.scenario.test_recovery_sim import AGENT_UID, FREE, Site

OWNER = 1000


class PlainCredentials:
    """A credential is `uid:payload`; what has no uid is forged."""

    def __init__(self, uid: int = OWNER, host: str = "here") -> None:
        self.uid = uid
        self.host = host

    async def encode(self, payload: bytes) -> bytes:
        return b"%d:%b" % (self.uid, payload)

    async def decode(self, credential: bytes) -> Claim:
        uid, colon, payload = credential.partition(b":")
        if not colon or not uid.isdigit():
            raise Unreachable("credential", "forged")
        return Claim(payload, int(uid), int(uid), self.host)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served_by(serve: Serve) -> AsyncIterator[Address]:
    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(closing, "127.0.0.1", 0)
    async with server:
        yield Address(*server.sockets[0].getsockname())


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


async def received(raw: bytes, *, end: bool = True, limit: float = 10.0) -> Any:
    """What a channel makes of these bytes."""
    found: list[Any] = []

    async def send(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        if not end:
            await stalled.wait()

    stalled = asyncio.Event()
    async with served_by(send) as address:
        channel = await connect(address, PlainCredentials())
        channel.frame_limit = limit
        try:
            found = list(await channel.receive())
        finally:
            stalled.set()
            await channel.close()
    return found


async def test_a_message_and_who_signed_it() -> None:
    claim, message = await received(frame(b'7:{"kind": "ask"}'))
    assert (claim.uid, message) == (7, {"kind": "ask"})


@pytest.mark.parametrize("raw", [b"", b"\0", b"\0\0\0", b"\0\0\0\x09", b"\0\0\0\x09abc"])
async def test_a_frame_that_is_cut_off_is_the_end(raw: bytes) -> None:
    with pytest.raises(EOFError):
        await received(raw)


@pytest.mark.parametrize("raw", [b"\0", b"\0\0\0\x09", b"\0\0\0\x09abc"])
async def test_a_peer_that_stalls_within_a_frame_is_the_end(raw: bytes) -> None:
    with pytest.raises(EOFError):
        await received(raw, end=False, limit=0.05)


@pytest.mark.parametrize("length", [MAX_REPORT + 1, 2 << 20, (1 << 32) - 1])
async def test_a_frame_above_the_limit_is_not_even_read(length: int) -> None:
    with pytest.raises(TooLong, match=f"found {length} bytes, expected at most {MAX_REPORT}"):
        await received(length.to_bytes(4, "big"), end=False)


async def test_the_longest_frame_that_is_allowed() -> None:
    body = b'7:{"x": "' + b"y" * (MAX_REPORT - 11) + b'"}'
    assert len(body) == MAX_REPORT
    _claim, message = await received(frame(body))
    assert len(message["x"]) == MAX_REPORT - 11


@pytest.mark.parametrize(
    "credential",
    [b"", b"no colon", b"x:{}", b"7:", b"7:[]", b"7:7", b"7:{", b"7:\xff\xfe", b"7:" + b"[" * 100_000],
    ids=lambda body: repr(body[:12]),
)
async def test_what_carries_no_signed_object_is_unreachable(credential: bytes) -> None:
    with pytest.raises(Unreachable):
        await received(frame(credential))


async def test_a_bad_frame_does_not_spoil_the_next() -> None:
    async def send(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(b"forged") + frame(b"7:{}"))
        await writer.drain()

    async with served_by(send) as address:
        channel = await connect(address, PlainCredentials())
        with pytest.raises(Unreachable):
            await channel.receive()
        assert (await channel.receive())[1] == {}
        await channel.close()


async def test_question_and_answer() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = Channel(reader, writer, PlainCredentials())
        _claim, message = await channel.receive()
        await channel.send({"ok": True, "result": message["what"]})

    async with served_by(answer) as address:
        assert await ask(address, PlainCredentials(), {"what": "status"}) == {"ok": True, "result": "status"}


async def test_nobody_listens() -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    address = Address(*server.sockets[0].getsockname())
    server.close()
    await server.wait_closed()
    with pytest.raises(Unreachable, match=f"controller at {address}"):
        await ask(address, PlainCredentials(), {})


async def test_a_frozen_controller_is_not_waited_for() -> None:
    done = asyncio.Event()

    async def freeze(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await done.wait()

    async with served_by(freeze) as address:
        with pytest.raises(TimedOut, match=r"no answer within 0\.05 s"):
            await ask(address, PlainCredentials(), {}, timeout=0.05)
        done.set()


async def test_a_controller_that_hangs_up() -> None:
    async def hang_up(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)

    async with served_by(hang_up) as address:
        with pytest.raises(Unreachable, match="it closed the connection"):
            await ask(address, PlainCredentials(), {})


class FakeAudit:
    def __init__(self) -> None:
        self.refused: list[tuple[str, str]] = []

    def refuse(self, source: str, why: str) -> None:
        self.refused.append((source, why))


class TestHub:
    """The controller's side, as far as nobody has signed anything yet."""

    @asynccontextmanager
    async def hub(self, audit: FakeAudit, hello_limit: float = 10.0) -> AsyncIterator[Address]:
        async def answer(_claim: Claim, _message: Mapping[str, object]) -> dict[str, object]:
            return {"ok": True}

        nothing: Any = SimpleNamespace(answer=answer)
        hub = Hub(nothing, nothing, Connections(), audit, PlainCredentials(), nothing, nothing, hello_limit)
        async with served_by(hub.serve) as address:
            yield address

    async def test_whoever_says_nothing_is_shown_out(self) -> None:
        async with self.hub(FakeAudit(), hello_limit=0.05) as address:
            reader, writer = await asyncio.open_connection(address.host, address.port)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()

    async def test_whoever_signed_once_may_be_silent(self) -> None:
        async with self.hub(FakeAudit(), hello_limit=0.2) as address:
            channel = await connect(address, PlainCredentials())
            await channel.send({"what": "status"})
            assert (await channel.receive())[1] == {"ok": True}
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(channel.receive(), 0.4)
            await channel.close()

    async def test_garbage_is_audited_under_an_address_without_port(self) -> None:
        audit = FakeAudit()
        async with self.hub(audit) as address:
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(frame(b"garbage") + (2 << 20).to_bytes(4, "big"))
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
        assert [source for source, _why in audit.refused] == ["127.0.0.1"] * 2
        assert ["forged" in audit.refused[0][1], "2097152 bytes" in audit.refused[1][1]] == [True, True]


class TestControllerLink:
    """Orders count only from root and from the controller's own user."""

    async def obeyed(self, *credentials: bytes) -> list[Mapping[str, object]]:
        """Which of a controller's messages an agent acts upon; it sends `last` after them."""
        orders: list[Mapping[str, object]] = []
        last = asyncio.Event()

        async def command(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for credential in (*credentials, b'0:{"order": "last"}'):
                writer.write(frame(credential))
            await writer.drain()
            await reader.read()

        async def obey(order: Mapping[str, object]) -> None:
            orders.append(order)
            if order.get("order") == "last":
                last.set()

        async def connected() -> None:
            pass

        async with served_by(command) as address:
            link = ControllerLink(address, PlainCredentials(), OWNER)
            work = asyncio.create_task(link.run(connected, obey))
            await asyncio.wait_for(last.wait(), 5)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        return [order for order in orders if order.get("order") != "last"]

    @pytest.mark.parametrize(("uid", "count"), [(0, 1), (OWNER, 1), (1001, 0), (65_534, 0)])
    async def test_who_may_give_orders(self, uid: int, count: int, caplog: pytest.LogCaptureFixture) -> None:
        order = {"order": "kill_job", "job": "1", "nodes": ["c1"]}
        assert await self.obeyed(b"%d:%b" % (uid, json.dumps(order).encode())) == [order] * count
        assert (f"order refused: signed by uid {uid}, expected {OWNER}" in caplog.text) is not bool(count)

    async def test_what_the_controller_says_of_itself_is_no_order(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        refusal = b'0:{"order": "refused", "protocol": 5, "version": "0.5.0", "why": "protocol 2 is too old"}'
        hello = b'0:{"order": "hello", "protocol": 3, "version": "0.3.0"}'
        assert await self.obeyed(hello, refusal, refusal, refusal) == []
        assert "controller is hpcli 0.3.0, protocol 3" in caplog.text
        [complaint] = [line for line in caplog.messages if "refuses our reports" in line]
        assert "controller (hpcli 0.5.0) refuses our reports: protocol 2 is too old" in complaint

    @pytest.mark.parametrize(
        ("theirs", "ours"), [(PROTOCOL + 1, 2), (PROTOCOL, 2), (1, 1), (0, 1), ("x", 2), (None, 2)]
    )
    async def test_an_agent_speaks_the_lower_of_two_neighbouring_protocols(self, theirs: object, ours: int) -> None:
        said: list[dict[str, Any]] = []
        done = asyncio.Event()

        async def controller(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            channel = Channel(reader, writer, PlainCredentials())
            for order in ({"order": "hello", "protocol": theirs}, {"order": "report"}):
                said.append((await channel.receive())[1])
                await channel.send(order)
            said.append((await channel.receive())[1])
            done.set()

        async with served_by(controller) as address:
            link = ControllerLink(address, PlainCredentials(), OWNER, "abc")

            async def tell(_order: object = None) -> None:
                await link.send([NodeReport("c1", "b", "i", 1, 1.0, complete=True)])

            async def connected() -> None:
                await tell()
                await tell()

            work = asyncio.create_task(link.run(connected, tell))
            await asyncio.wait_for(done.wait(), 5)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        named = {"version": __version__, "release": "abc"}
        assert {key: said[0][key] for key in ("protocol", *named)} == {"protocol": PROTOCOL, **named}
        assert {key: said[2][key] for key in said[2] if key != "reports"} == {
            "kind": "report",
            "protocol": ours,
            **(named if ours > 1 else {}),
        }


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.store.close()


class TestAgentsOfOtherReleases:
    """What the controller makes of an agent by its protocol, and what it tells it."""

    @asynccontextmanager
    async def agent(
        self, site: Site, audit: FakeAudit | None = None, encoded_on: str = "here"
    ) -> AsyncIterator[Channel]:
        """A connection on which an agent's user signs."""
        journal, recovery = site.recovery.journal, site.recovery
        self.answers = Answers(site.desk, journal, recovery, site.gateway, audit, OWNER)  # type: ignore[arg-type]
        self.connections = Connections()
        recovery.executor.agents = self.connections
        credentials = PlainCredentials(AGENT_UID, encoded_on)
        wake = asyncio.Event()
        given: Any = audit or FakeAudit()
        hub = Hub(site.desk, self.answers, self.connections, given, credentials, site.clock, wake)
        async with served_by(hub.serve) as address:
            channel = await connect(address, credentials)
            try:
                yield channel
            finally:
                await channel.close()

    def report(self, protocol: object, seq: int = 1, **more: object) -> dict[str, object]:
        plain = to_dict(NodeReport("c1", "b1", "i1", seq, 1.0, complete=True))
        return {"kind": "report", "protocol": protocol, "reports": [plain], **more}

    async def orders(self, channel: Channel, count: int) -> list[dict[str, Any]]:
        return [(await asyncio.wait_for(channel.receive(), 5))[1] for _ in range(count)]

    @pytest.mark.parametrize(
        ("protocol", "version"), [(PROTOCOL - 1, "0.1.0"), (PROTOCOL, "9.9"), (PROTOCOL + 1, "9.9")]
    )
    async def test_one_either_side_counts_and_is_greeted(self, site: Site, protocol: int, version: str) -> None:
        async with self.agent(site) as channel:
            await channel.send(self.report(protocol, version=version, release="abc", mood="good"))
            hello, gate = await self.orders(channel, 2)
            assert hello == {"order": "hello", "protocol": PROTOCOL, "version": __version__}
            assert gate == {"order": "gate", "closed": True, "nodes": ["c1"]}
            await channel.send({"kind": "ask", "what": "status"})
            [answer] = await self.orders(channel, 1)
        status = answer["result"]
        assert status["agents"]["c1"]["version"] == version
        assert status["agents"]["c1"]["protocol"] == protocol
        assert (status["version"], status["protocol"], status["mode"]) == (__version__, PROTOCOL, "act")
        assert list(status["nodes"]) == ["c1"]

    @pytest.mark.parametrize("protocol", [PROTOCOL + 2, 400, 0, -1])
    async def test_farther_ones_are_refused_with_words(self, site: Site, protocol: int) -> None:
        audit = FakeAudit()
        async with self.agent(site, audit) as channel:
            for seq in (1, 2):
                await channel.send(self.report(protocol, seq, version="9.9", release="abc"))
            refusals = await self.orders(channel, 2)
        why = f"report in protocol {protocol} of hpcli 9.9, expected {PROTOCOL - 1} to {PROTOCOL + 1}"
        assert refusals == [{"order": "refused", "protocol": PROTOCOL, "version": __version__, "why": why}] * 2
        assert audit.refused == [(f"uid {AGENT_UID}", f"{why}, from 127.0.0.1")], "once a connection"
        assert site.desk.latest == {}
        assert site.desk.senders["c1"].version == "9.9"
        assert self.connections.by_node == {}

    @pytest.mark.parametrize(
        ("own", "encoded_on", "believed"),
        [
            ("127.0.0.1", "127.0.1.1", True),
            ("10.0.0.1", "127.0.1.1", False),
            ("10.0.0.1", "127.0.0.1", False),
            ("10.0.0.1", "10.0.0.1", True),
        ],
    )
    async def test_a_loopback_name_over_a_real_connection(
        self, site: Site, own: str, encoded_on: str, believed: bool
    ) -> None:
        """Ours comes from 127.0.0.1; `own` is the node's address."""
        site.desk.know(["c1"], {"c1": frozenset({own})})
        async with self.agent(site, encoded_on=encoded_on) as channel:
            await channel.send(self.report(PROTOCOL, version="9.9"))
            await channel.send({"kind": "ask", "what": "nothing"})
            first = (await self.orders(channel, 1))[0]
        assert (first.get("order") == "hello", list(site.desk.latest)) == (believed, ["c1"] if believed else [])

    async def test_no_protocol_at_all_is_refused(self, site: Site) -> None:
        audit = FakeAudit()
        async with self.agent(site, audit) as channel:
            await channel.send(self.report(None))
            await channel.send({"kind": "ask", "what": "status"})
            [answer] = await self.orders(channel, 1)
        assert answer["result"]["agents"] == {}
        assert [why for _, why in audit.refused] == ["report of protocol 'None', expected a number"]

    @pytest.mark.parametrize(("mode", "closed"), [("act", True), ("observe", False), ("off", True)])
    async def test_the_greeting_carries_the_gate(self, site: Site, mode: str, closed: bool) -> None:
        """Whatever the agent was told by an earlier controller, of an older release or in another mode."""
        site.policy = replace(FREE, mode=mode)
        site.start()
        async with self.agent(site) as channel:
            await site.recovery._set_gate()
            await channel.send(self.report(1))
            assert (await self.orders(channel, 2))[1]["closed"] is closed
            site.recovery.pause("switch", "ada")
            await site.recovery._set_gate()
            if closed:
                assert (await self.orders(channel, 1))[0] == {"order": "gate", "closed": False, "nodes": ["c1"]}
            await channel.send({"kind": "ask", "what": "nothing"})
            assert (await self.orders(channel, 1))[0]["ok"] is False, "nothing more was said"

    async def test_a_gate_that_changes_during_the_greeting(self, site: Site) -> None:
        async with self.agent(site) as channel:
            recovery, signed = site.recovery, 0

            class Slow(PlainCredentials):
                async def encode(self, payload: bytes) -> bytes:
                    nonlocal signed
                    signed += 1
                    if b'"gate"' in payload and signed == 2:
                        recovery.pause("switch", "ada")
                    return await super().encode(payload)

            served = Channel(channel.reader, channel.writer, Slow(0))
            sent: list[bool] = []

            async def remember(message: Mapping[str, object]) -> None:
                await served.credentials.encode(json.dumps(message).encode())
                if message["order"] == "gate":
                    sent.append(bool(message["closed"]))

            peer: Any = SimpleNamespace(send=remember, peer="here")
            hub = Hub(site.desk, self.answers, self.connections, *[None] * 4)  # type: ignore[arg-type]
            await hub._greet(peer, ["c1"])
            assert sent == [True, False]
