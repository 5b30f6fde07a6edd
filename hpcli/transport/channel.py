"""Messages between agents, controller and clients: length-prefixed MUNGE credentials over TCP.

A frame is four bytes of length (big-endian) and that many bytes of credential, at most 1 MiB. The
credential's payload is one JSON object. Both sides sign: orders to an agent need a sender as well.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpcli.domain.report import MAX_REPORT
from hpcli.domain.settings import Address
from hpcli.errors import TimedOut, Unreachable
from hpcli.ports import Claim, Credentials

HEADER = 4
FRAME_LIMIT = 10.0
"""Seconds in which a frame that has begun must be complete."""

Message = dict[str, Any]


class TooLong(Unreachable):
    """A frame above the limit; the connection cannot go on after it."""

    code = "too_long"


@dataclass(slots=True)
class Channel:
    """One connection, whoever opened it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    credentials: Credentials
    frame_limit: float = FRAME_LIMIT

    async def send(self, message: Mapping[str, object]) -> None:
        payload = json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode()
        credential = await self.credentials.encode(payload)
        self.writer.write(len(credential).to_bytes(HEADER, "big") + credential)
        await self.writer.drain()

    async def receive(self) -> tuple[Claim, Message]:
        """The next message and who signed it.

        Raises `EOFError` at the end of the connection or when it stalls within a frame, `TooLong`, and
        `Unreachable` for a frame that carries no valid credential or no JSON object.
        """
        try:
            begun = await self.reader.readexactly(1)
            async with asyncio.timeout(self.frame_limit):
                credential = await self._rest_of_frame(begun)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            raise EOFError from None
        claim = await self.credentials.decode(credential)
        return claim, _parse(claim.payload)

    async def _rest_of_frame(self, begun: bytes) -> bytes:
        length = int.from_bytes(begun + await self.reader.readexactly(HEADER - len(begun)), "big")
        if length > MAX_REPORT:
            raise TooLong("message", f"found {length} bytes, expected at most {MAX_REPORT}")
        return await self.reader.readexactly(length)

    @property
    def peer(self) -> str:
        return str(self.writer.get_extra_info("peername"))

    @property
    def peer_host(self) -> str:
        name = self.writer.get_extra_info("peername")
        return str(name[0]) if name else "nobody"

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (OSError, EOFError):
            pass


def _parse(payload: bytes) -> Message:
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError):
        raise Unreachable("message", "found no JSON in the credential") from None
    if not isinstance(message, dict):
        raise Unreachable("message", f"found {type(message).__name__}, expected a JSON object")
    return message


async def connect(address: Address, credentials: Credentials, timeout: float = 3.0) -> Channel:
    """Raises `Unreachable` when nobody listens there."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(address.host, address.port)
    except (OSError, TimeoutError) as error:
        raise Unreachable(f"controller at {address}", str(error) or "no answer", "see: hpcli cluster status") from None
    return Channel(reader, writer, credentials)


async def ask(address: Address, credentials: Credentials, message: Message, timeout: float = 10.0) -> Message:
    """One question, one answer. Raises `Unreachable`, `TimedOut`."""
    channel = await connect(address, credentials)
    try:
        async with asyncio.timeout(timeout):
            await channel.send(message)
            _claim, answer = await channel.receive()
            return answer
    except TimeoutError:
        raise TimedOut(f"controller at {address}", f"no answer within {timeout:g} s") from None
    except EOFError:
        raise Unreachable(f"controller at {address}", "it closed the connection", "see its log") from None
    finally:
        await channel.close()
