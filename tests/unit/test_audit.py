"""Refusals are written down, and a flood of them is not."""

import logging

import pytest
from health_fakes import FakeClock

from hpcli.domain.ledger import Kind
from hpcli.errors import HpcliError
from hpcli.services.audit import BURST, MAX_SOURCES, MAX_TEXT, WINDOW, Audit


class FakeJournal:
    def __init__(self) -> None:
        self.written: list[tuple[str, str]] = []
        self.full = False

    def write(self, kind: Kind, *, refused: str, source: str) -> None:
        assert kind is Kind.AUDIT
        if self.full:
            raise HpcliError("journal", "database or disk is full")
        self.written.append((source, refused))


@pytest.fixture
def journal() -> FakeJournal:
    return FakeJournal()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def audit(journal: FakeJournal, clock: FakeClock) -> Audit:
    return Audit(journal, clock)  # type: ignore[arg-type]


def test_a_flood_costs_one_line_more_than_the_burst(audit: Audit, journal: FakeJournal, clock: FakeClock) -> None:
    for number in range(1000):
        audit.refuse("uid 7", f"report {number}")
    assert len(journal.written) == BURST + 1
    assert journal.written[-1] == ("uid 7", "more from uid 7: not written for up to 10 s")
    clock.time += WINDOW
    audit.refuse("uid 7", "again")
    assert journal.written[-1] == ("uid 7", "again")


def test_one_sources_flood_hides_no_other(audit: Audit, journal: FakeJournal) -> None:
    for _ in range(1000):
        audit.refuse("10.0.0.1", "garbage")
    audit.refuse("uid 7", "reset by uid 7")
    assert journal.written[-1] == ("uid 7", "reset by uid 7")


def test_sources_without_number_share_one_window(audit: Audit, journal: FakeJournal) -> None:
    for number in range(10_000):
        audit.refuse(f"10.0.{number // 256}.{number % 256}", "garbage")
    assert len(journal.written) == MAX_SOURCES + BURST + 1


def test_a_clock_that_steps_back_does_not_silence_it(audit: Audit, journal: FakeJournal, clock: FakeClock) -> None:
    for _ in range(1000):
        audit.refuse("uid 7", "x")
    clock.time -= 3600
    audit.refuse("uid 7", "y")
    assert journal.written[-1] == ("uid 7", "y")


def test_text_of_strangers_is_cut_and_made_harmless(
    audit: Audit, journal: FakeJournal, caplog: pytest.LogCaptureFixture
) -> None:
    audit.refuse("uid 7", "a\n2026 ERROR forged\x1b[2J" + "x" * 100_000)
    [(_source, text)] = journal.written
    assert text.startswith("a\\x0a2026 ERROR forged\\x1b[2J")
    assert len(text) < MAX_TEXT + 20
    assert "\n2026" not in caplog.text


def test_a_full_disk_is_logged(audit: Audit, journal: FakeJournal, caplog: pytest.LogCaptureFixture) -> None:
    journal.full = True
    with caplog.at_level(logging.WARNING):
        audit.refuse("uid 7", "x")
    assert "refused (uid 7): x" in caplog.text
    assert "disk is full" in caplog.text
