"""Waiting for SSH servers: real sockets on loopback, some of which answer late, otherwise, or never."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hpcli.errors import HpcliError, TimedOut
from hpcli.providers.docker.ready import answers, silent, wait_for_sshd


async def nobody() -> HpcliError | None:
    return None


async def late(name: str) -> HpcliError:
    return silent(name, "address", 0.2, "sshd: no hostkeys available")


@asynccontextmanager
async def server(greeting: bytes, address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(greet, address, port)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("greeting", "expected"), [(b"SSH-2.0-OpenSSH_9.2\r\n", True), (b"HTTP/1.1 400\r\n", False), (b"", False)]
)
async def test_only_an_ssh_server_answers(greeting: bytes, expected: bool) -> None:
    async with server(greeting) as port:
        assert await answers("127.0.0.1", port) is expected
    assert not await answers("127.0.0.1", port)


async def test_all_are_waited_for() -> None:
    async with server(b"SSH-2.0\r\n") as port:
        waiting = asyncio.create_task(wait_for_sshd({"a": "127.0.0.1", "b": "127.0.0.2"}, 10, nobody, late, port))
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        assert not done
        async with server(b"SSH-2.0\r\n", "127.0.0.2", port):
            await waiting


async def test_the_one_that_is_late_is_named_with_its_last_words() -> None:
    async with server(b"SSH-2.0\r\n") as port:
        with pytest.raises(TimedOut, match=r"container b: .*no hostkeys available"):
            await wait_for_sshd({"a": "127.0.0.1", "b": "127.0.0.2"}, 0.2, nobody, late, port)


async def test_one_that_ended_is_not_waited_for() -> None:
    async def dead() -> HpcliError | None:
        return HpcliError("container b", "found it exited")

    async with server(b"SSH-2.0\r\n") as port:
        with pytest.raises(HpcliError, match="found it exited"):
            await wait_for_sshd({"a": "127.0.0.1", "b": "127.0.0.2"}, 60, dead, late, port)
