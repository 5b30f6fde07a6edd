"""Steps that run on beside the loop, when the journal takes no more entries."""

import asyncio
import gc
from typing import Any

import pytest

from hpcli.domain.action import OnNodes, Target
from hpcli.domain.ledger import Generation, Kind, Step
from hpcli.errors import HpcliError
from hpcli.services.apply import Executor

REBOOT = OnNodes(Step.REBOOT, "r1", (Target("c1", Generation("b1", "i1")),), "xid79")


class FakeJournal:
    """A journal that is full from its second entry on."""

    def __init__(self, room: int) -> None:
        self.written: list[str] = []
        self.room = room

    def write(self, kind: Kind, **body: object) -> None:
        if len(self.written) >= self.room:
            raise HpcliError("journal", "database or disk is full")
        self.written.append(kind)


class FakeProvider:
    def __init__(self, refuses: bool) -> None:
        self.refuses = refuses
        self.rebooted: list[str] = []

    async def reboot(self, node: str) -> None:
        self.rebooted.append(node)
        if self.refuses:
            raise HpcliError(f"node {node}", "its power supply does not answer")


def executor(journal: FakeJournal, provider: FakeProvider) -> Executor:
    anything: Any = object()
    standing_in: Any = (provider, journal)
    return Executor(anything, standing_in[0], anything, standing_in[1], asyncio.Event())


@pytest.mark.parametrize(("refuses", "last"), [(False, "done"), (True, "failed")])
async def test_a_reboot_is_written_down_before_and_after(refuses: bool, last: str) -> None:
    journal, provider = FakeJournal(room=9), FakeProvider(refuses)
    found = executor(journal, provider)
    await found.apply(REBOOT)
    assert found.in_flight == {("c1", Step.REBOOT)}
    await asyncio.wait_for(found.done.wait(), 5)
    assert (journal.written, found.in_flight) == (["intent", last], frozenset())


@pytest.mark.parametrize("refuses", [False, True])
async def test_an_end_that_cannot_be_written_down_is_told(refuses: bool, caplog: pytest.LogCaptureFixture) -> None:
    found = executor(FakeJournal(room=1), FakeProvider(refuses))
    await found.apply(REBOOT)
    await asyncio.wait_for(found.done.wait(), 5)
    await asyncio.sleep(0)
    gc.collect()
    assert "disk is full" in caplog.text
    assert "never retrieved" not in caplog.text
    assert found.in_flight == frozenset()


async def test_nothing_is_done_that_could_not_be_written_down_before() -> None:
    provider = FakeProvider(refuses=False)
    found = executor(FakeJournal(room=0), provider)
    with pytest.raises(HpcliError, match="disk is full"):
        await found.apply(REBOOT)
    await found.stop()
    assert provider.rebooted == []
