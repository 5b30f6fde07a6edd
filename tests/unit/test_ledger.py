"""The journal folded into repairs: every kind of entry, in every order that a crash can leave."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcli.domain.check import Remedy
from hpcli.domain.ledger import Generation, Ledger, Milestone, Outcome, Repair, Step, fold

Line = tuple[float, str, dict[str, Any]]

OPENED = {"repair": "r1", "node": "c1", "cause": "xid79", "message": "lost", "evict": True, "remedy": "reboot"}
ON_C1 = {"repair": "r1", "nodes": ["c1"]}
JOB = {**ON_C1, "job": "7", "restarts": 0, "job_nodes": "c[1-3]"}


def ledger(*lines: Line) -> Ledger:
    return fold(Ledger(), [(number, at, kind, body) for number, (at, kind, body) in enumerate(lines, 1)])


def repair(*lines: Line) -> Repair:
    return ledger((10.0, "opened", OPENED), *lines).repairs[0]


def intent(step: Step, at: float = 11.0, **more: object) -> Line:
    body = JOB if step in (Step.REQUEUE, Step.CANCEL, Step.RELEASE, Step.KILL) else ON_C1
    return at, "intent", {**body, "step": step, **more}


def test_nothing_happened() -> None:
    assert ledger() == Ledger()
    assert Ledger().next_number == 1


def test_a_repair_begins() -> None:
    found = ledger((10.0, "opened", {**OPENED, "boot_id": "b1", "instance_id": "i1"}))
    assert found.open["c1"].remedy is Remedy.REBOOT
    assert found.open["c1"].generation == Generation("b1", "i1")
    assert found.open["c1"].reason == "hpcli:r1:xid79"
    assert (found.closed, found.next_number) == ((), 2)


def test_two_nodes_share_a_repair_and_go_their_own_ways() -> None:
    both = [(10.0, "opened", {**OPENED, "node": node}) for node in ("c1", "c2")]
    found = ledger(*both, (11.0, "closed", {**ON_C1, "outcome": "returned"}))
    assert ([r.node for r in found.closed], list(found.open)) == (["c1"], ["c2"])
    assert found.next_number == 2


def test_ids_go_up_even_when_entries_are_missing() -> None:
    assert ledger((1.0, "opened", {**OPENED, "repair": "r41"})).next_number == 42


@pytest.mark.parametrize("step", [step for step in Step if step not in (Step.RELEASE, Step.KILL)])
def test_a_step_is_intended_then_done_or_failed(step: Step) -> None:
    body = {**JOB, "step": step}
    intended = repair(intent(step)).last(step)
    assert intended and (intended.at, intended.done, intended.failed) == (11.0, False, "")
    done = repair(intent(step), (12.0, "done", body)).last(step)
    assert done and (done.done, done.failed) == (True, "")
    failed = repair(intent(step), (12.0, "failed", {**body, "error": "no"})).last(step)
    assert failed and (failed.done, failed.failed) == (False, "no")
    assert repair(intent(step), (12.0, "failed", {**body, "error": ""})).last(step).failed == "failed"  # type: ignore[union-attr]


def test_only_the_newest_of_two_equal_steps_is_settled() -> None:
    found = repair(intent(Step.REBOOT), intent(Step.REBOOT, at=20.0), (21.0, "done", {**ON_C1, "step": "reboot"}))
    assert [taken.done for taken in found.taken] == [False, True]


@pytest.mark.parametrize("step", [Step.REQUEUE, Step.CANCEL])
def test_an_eviction_is_asked_for_only_when_slurm_took_it(step: Step) -> None:
    before = repair(intent(step)).eviction("7")
    assert before and (before.asked, before.restarts, before.nodes, before.at) == (False, 0, "c[1-3]", 11.0)
    after = repair(intent(step), (12.0, "done", {**JOB, "step": step})).eviction("7")
    assert after and after.asked


def test_an_eviction_is_released_killed_and_runs_again() -> None:
    found = repair(
        intent(Step.REQUEUE),
        intent(Step.KILL, 12.0),
        intent(Step.RELEASE, 13.0),
        (14.0, "reached", {**ON_C1, "milestone": "job_running", "job": "7"}),
    ).eviction("7")
    assert found and (found.killed, found.released_at, found.running_again) == (True, 13.0, True)


def test_a_job_is_followed_after_its_repair_is_over() -> None:
    found = ledger(
        (10.0, "opened", OPENED),
        intent(Step.REQUEUE),
        (12.0, "closed", {**ON_C1, "outcome": "returned"}),
        (13.0, "reached", {**ON_C1, "milestone": "job_running", "job": "7"}),
    )
    assert found.open == {}
    [closed] = found.closed
    assert (closed.outcome, closed.closed_at) == (Outcome.RETURNED, 12.0)
    assert closed.eviction("7").running_again  # type: ignore[union-attr]


def test_milestones_add_up() -> None:
    lines: list[Line] = [(11.0, "reached", {**ON_C1, "milestone": name}) for name in ("drained", "rebooted", "drained")]
    assert repair(*lines).reached == {Milestone.DRAINED, Milestone.REBOOTED}


def test_the_breaker_and_its_reset() -> None:
    opened = ledger((5.0, "breaker", {"open": "3 nodes faulty"}))
    assert (opened.breaker_open, opened.breaker_reset_at) == ("3 nodes faulty", 0.0)
    reset = ledger((5.0, "breaker", {"open": "3 nodes faulty"}), (9.0, "breaker", {"open": "", "by": "root"}))
    assert (reset.breaker_open, reset.breaker_reset_at) == ("", 9.0)


def test_pause_and_resume() -> None:
    assert ledger((5.0, "pause", {"reason": "x"})).paused == "x"
    assert ledger((5.0, "pause", {"reason": "x"}), (6.0, "pause", {"reason": ""})).paused == ""


def test_refusals_change_nothing() -> None:
    assert ledger((5.0, "audit", {"refused": "x", "source": "uid 7"})) == Ledger()


@pytest.mark.parametrize(
    "line", [intent(Step.REBOOT), (11.0, "closed", {**ON_C1, "outcome": "returned"}), (11.0, "done", {"step": "drain"})]
)
def test_entries_of_repairs_that_nobody_began_are_passed_over(line: Line) -> None:
    assert ledger(line).repairs == ()


def test_reboots_and_replacements_are_remembered_beyond_the_repair() -> None:
    found = ledger(
        (10.0, "opened", OPENED),
        intent(Step.REBOOT, 11.0),
        intent(Step.REPLACE, 12.0),
        (13.0, "closed", {**ON_C1, "outcome": "parked"}),
    )
    assert (found.rebooted_at, found.replaced_at) == ({"c1": 11.0}, {"c1": 12.0})


def test_parked_is_what_the_newest_repair_says() -> None:
    parked: list[Line] = [(10.0, "opened", OPENED), (11.0, "closed", {**ON_C1, "outcome": "parked"})]
    assert ledger(*parked).parked("c1")
    assert ledger(*parked).parked("c2") is None
    again: list[Line] = [
        (20.0, "opened", {**OPENED, "repair": "r2"}),
        (21.0, "closed", {"repair": "r2", "nodes": ["c1"], "outcome": "returned"}),
    ]
    assert ledger(*parked, *again).parked("c1") is None


STORY: list[Line] = [
    (10.0, "opened", OPENED),
    intent(Step.DRAIN),
    (11.1, "done", {**ON_C1, "step": "drain"}),
    intent(Step.REQUEUE, 11.2),
    (11.3, "done", {**JOB, "step": "requeue"}),
    (11.4, "audit", {"refused": "x", "source": "y"}),
    intent(Step.RELEASE, 11.5),
    (11.6, "failed", {**JOB, "step": "release", "error": "busy"}),
    (12.0, "reached", {**ON_C1, "milestone": "drained"}),
    intent(Step.REBOOT, 12.1),
    (13.0, "pause", {"reason": "x"}),
    (13.1, "pause", {"reason": ""}),
    (14.0, "reached", {**ON_C1, "milestone": "job_running", "job": "7"}),
    (15.0, "closed", {**ON_C1, "outcome": "returned"}),
]


@given(st.integers(0, len(STORY)), st.integers(0, len(STORY)))
def test_folding_in_parts_is_folding_at_once(first: int, second: int) -> None:
    """A controller that starts anew reads what the one before it folded as it wrote."""
    cuts = [0, *sorted((first, second)), len(STORY)]
    found = Ledger()
    for start, end in pairwise(cuts):
        found = fold(found, numbered(STORY[start:end]))
    assert found == ledger(*STORY)


def numbered(lines: Iterable[Line]) -> list[tuple[int, float, str, dict[str, Any]]]:
    return [(number, at, kind, body) for number, (at, kind, body) in enumerate(lines, 1)]


def test_what_a_newer_release_wrote_is_passed_over() -> None:
    newer = [(50.0, "forecast", {"repair": "r1", "nodes": ["c3"], "step": "teleport"})]
    found = fold(Ledger(), numbered([*STORY[:2], *newer, *STORY[2:]]))
    assert found.unknown == {"forecast"}
    assert replace(found, unknown=frozenset()) == fold(Ledger(), numbered(STORY))
