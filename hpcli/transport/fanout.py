"""The same work on many hosts at once; those that fail are named together when all have ended."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from ClusterShell.NodeSet import NodeSet

from hpcli.errors import HpcliError, Unreachable

Result = TypeVar("Result")
LISTED = 10


async def fanout(
    work: Mapping[str, Callable[[], Awaitable[Result]]],
    limit: int = 32,
    done: Callable[[str, float], None] | None = None,
) -> dict[str, Result]:
    """Results by host. At most `limit` run at once; `done` hears of each host that succeeded, with its seconds.

    A failure cancels nobody. Raises the one `HpcliError` with the host in its subject, or one that lists all of them
    (`Unreachable` when all are). Any other exception is a fault of ours and is raised as it is, also at the end.
    """
    room = asyncio.Semaphore(limit)

    async def one(host: str) -> Result:
        async with room:
            began = time.monotonic()
            result = await work[host]()
            if done:
                done(host, time.monotonic() - began)
            return result

    outcomes = await asyncio.gather(*(one(host) for host in work), return_exceptions=True)
    by_host = dict(zip(work, outcomes, strict=True))
    _raise_faults({host: found for host, found in by_host.items() if isinstance(found, BaseException)})
    return {host: found for host, found in by_host.items() if not isinstance(found, BaseException)}


def _raise_faults(faults: Mapping[str, BaseException]) -> None:
    expected: dict[str, HpcliError] = {}
    for host, fault in faults.items():
        if not isinstance(fault, HpcliError):
            raise fault
        expected[host] = fault
    if len(expected) == 1:
        raise _named(*next(iter(expected.items())))
    if expected:
        raise _together(expected)


def _named(host: str, fault: HpcliError) -> HpcliError:
    """The same fault with the host in its subject; its class and code stay."""
    if host not in fault.subject.replace(":", " ").split():
        fault.subject = f"{host}: {fault.subject}"
        fault.args = (f"{fault.subject}: {fault.message}",)
    return fault


def _together(faults: Mapping[str, HpcliError]) -> HpcliError:
    """One line for hosts that say the same; their names are folded."""
    told: dict[str, list[str]] = {}
    for host, fault in faults.items():
        own = {host, f"host {host}"}
        words = fault.message if fault.subject in own else f"{fault.subject}: {fault.message}"
        told.setdefault(words, []).append(host)
    lines = [f"{NodeSet.fromlist(hosts)}: {words}" for words, hosts in list(told.items())[:LISTED]]
    if len(told) > LISTED:
        lines.append(f"and {sum(map(len, list(told.values())[LISTED:]))} more")
    kind = Unreachable if all(isinstance(fault, Unreachable) for fault in faults.values()) else HpcliError
    message = "failed" + "".join(f"\n  {line}" for line in lines)
    return kind(f"{len(faults)} hosts", message, next(iter(faults.values())).hint)
