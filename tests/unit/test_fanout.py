"""Many hosts at once: results, limits, and faults that are told together."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from hpcli.errors import Exit, HpcliError, NotFound, Unreachable
from hpcli.transport.fanout import fanout


def fails(error: Exception) -> Callable[[], Awaitable[str]]:
    async def work() -> str:
        raise error

    return work


def gives(value: str) -> Callable[[], Awaitable[str]]:
    async def work() -> str:
        await asyncio.sleep(0)
        return value

    return work


async def test_results_by_host_in_the_order_given() -> None:
    told: dict[str, float] = {}
    found = await fanout({"c2": gives("two"), "c1": gives("one")}, done=told.__setitem__)
    assert list(found.items()) == [("c2", "two"), ("c1", "one")]
    assert told.keys() == {"c1", "c2"}
    assert all(0 <= seconds < 5 for seconds in told.values())
    assert await fanout({}) == {}


async def test_never_more_at_once_than_the_limit_and_as_many_as_it() -> None:
    running, most = 0, 0

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1

    await fanout({f"c{number}": work for number in range(50)}, limit=7)
    assert most == 7


async def test_one_fault_keeps_its_class_and_gets_its_host() -> None:
    with pytest.raises(NotFound) as caught:
        await fanout({"c1": gives("x"), "c2": fails(NotFound("/etc/file", "no such file", "make it"))})
    assert (caught.value.subject, caught.value.message, caught.value.hint) == (
        "c2: /etc/file",
        "no such file",
        "make it",
    )
    assert str(caught.value) == "c2: /etc/file: no such file"


async def test_a_host_is_not_named_twice() -> None:
    with pytest.raises(Unreachable, match=r"^host c2: refused$"):
        await fanout({"c2": fails(Unreachable("host c2", "refused"))})
    with pytest.raises(Unreachable, match=r"^c2: host c22: refused$"):
        await fanout({"c2": fails(Unreachable("host c22", "refused"))})


async def test_several_faults_are_listed_and_nobody_is_cancelled() -> None:
    ended: list[str] = []

    async def slow() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        ended.append("slow")

    work = {f"c{number}": fails(Unreachable("ssh", "refused", "start sshd")) for number in range(12)}
    with pytest.raises(Unreachable) as caught:
        await fanout({**work, "last": slow})
    assert ended == ["slow"]
    assert caught.value.subject == "12 hosts"
    assert caught.value.message == "failed\n  c[0-11]: ssh: refused"
    assert caught.value.hint == "start sshd"


async def test_hosts_with_faults_of_their_own_have_a_line_each() -> None:
    work = {f"c{number}": fails(Unreachable(f"host c{number}", f"refused {number}")) for number in range(12)}
    with pytest.raises(Unreachable) as caught:
        await fanout(work)
    lines = caught.value.message.splitlines()
    assert lines[:2] == ["failed", "  c0: refused 0"]
    assert lines[-2:] == ["  c9: refused 9", "  and 2 more"]


async def test_mixed_faults_are_a_plain_error() -> None:
    with pytest.raises(HpcliError) as caught:
        await fanout({"c1": fails(Unreachable("ssh", "refused")), "c2": fails(NotFound("file", "none"))})
    assert type(caught.value) is HpcliError
    assert caught.value.exit_code is Exit.ERROR


async def test_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        await fanout({"c1": fails(ZeroDivisionError()), "c2": fails(Unreachable("ssh", "refused"))})


async def test_cancelling_reaches_every_host() -> None:
    ended: list[str] = []
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("x")

    whole = asyncio.create_task(fanout({"c1": work, "c2": work}))
    await started.wait()
    await asyncio.sleep(0)
    whole.cancel()
    with pytest.raises(asyncio.CancelledError):
        await whole
    assert ended == ["x", "x"]
