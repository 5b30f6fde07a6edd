"""Waiting until sshd answers in containers."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from hpcli.errors import HpcliError, TimedOut

SSH = 22
POLL = 0.05
STATES_EVERY = 1.0
ANSWER = 3.0

Casualty = Callable[[], Awaitable[HpcliError | None]]


async def wait_for_sshd(
    addresses: Mapping[str, str],
    limit: float,
    casualty: Casualty,
    late: Callable[[str], Awaitable[HpcliError]],
    port: int = SSH,
) -> None:
    """Return when all of these, addresses by name, answer as SSH servers do.

    `casualty` is asked every second for the error of a container that ended; `late` makes the error of one that
    does not answer within `limit` seconds.
    """
    silent_ones = set(addresses)
    everyone = asyncio.create_task(_until_all_answer(addresses, port, silent_ones))
    watch = asyncio.create_task(_until_casualty(casualty))
    try:
        async with asyncio.timeout(limit):
            await asyncio.wait({everyone, watch}, return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError:
        raise await late(min(silent_ones)) from None
    finally:
        await _end(everyone, watch)
    if silent_ones:
        watch.result()


async def _until_all_answer(addresses: Mapping[str, str], port: int, silent_ones: set[str]) -> None:
    async def one(name: str) -> None:
        while not await answers(addresses[name], port):
            await asyncio.sleep(POLL)
        silent_ones.discard(name)

    await asyncio.gather(*(one(name) for name in addresses))


async def answers(address: str, port: int) -> bool:
    """Whether an SSH server greets us there."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(ANSWER):
            reader, writer = await asyncio.open_connection(address, port)
            return (await reader.readline()).startswith(b"SSH-")
    except (OSError, TimeoutError, ValueError):
        return False
    finally:
        if writer:
            writer.close()


async def _until_casualty(casualty: Casualty) -> None:
    while True:
        await asyncio.sleep(STATES_EVERY)
        if error := await casualty():
            raise error


async def _end(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def silent(name: str, address: str, limit: float, words: str) -> TimedOut:
    """Make the error for a container whose sshd does not answer; `words` are the last of its log."""
    return TimedOut(
        f"container {name}",
        f"found no SSH server at {address} within {limit:g} s, expected one; its last words: {words or 'none'}",
        f"see: docker logs {name}; are the containers' addresses reachable from here?",
    )
