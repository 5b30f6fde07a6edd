"""Frames between agents, controller and clients, and who is obeyed: over real sockets with credentials made up here."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest

from hpcli.daemons.hub import Connections, Hub
from hpcli.daemons.link import ControllerLink
from hpcli.domain.report import MAX_REPORT
from hpcli.domain.settings import Address
from hpcli.errors import TimedOut, Unreachable
from hpcli.ports import Claim
from hpcli.transport.channel import Channel, TooLong, ask, connect

OWNER = 1000


class PlainCredentials:
    """A credential is `uid:payload`; what has no uid is forged."""

    def __init__(self, uid: int = OWNER) -> None:
        self.uid = uid

    async def encode(self, payload: bytes) -> bytes:
        return b"%d:%b" % (self.uid, payload)

    async def decode(self, credential: bytes) -> Claim:
        uid, colon, payload = credential.partition(b":")
        if not colon or not uid.isdigit():
            raise Unreachable("credential", "forged")
        return Claim(payload, int(uid), int(uid), "here")


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
        hub = Hub(nothing, nothing, Connections(), nothing, audit, PlainCredentials(), nothing, nothing, hello_limit)
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
