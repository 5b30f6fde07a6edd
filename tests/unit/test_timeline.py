"""A repair's moments, from the journal and the training run's own log."""

from typing import Any

import pytest

from hpcli.domain.timeline import Progress, Timeline, steps_repeated, timeline

FAULT_AT = 100.0
Line = tuple[float, str, dict[str, Any]]

STORY: list[Line] = [
    (100.2, "opened", {"repair": "r1", "node": "c2"}),
    (100.3, "intent", {"repair": "r1", "nodes": ["c2"], "step": "drain"}),
    (101.0, "reached", {"repair": "r1", "nodes": ["c2"], "milestone": "drained"}),
    (103.0, "reached", {"repair": "r1", "nodes": ["c2"], "milestone": "job_running", "job": "1"}),
    (104.0, "reached", {"repair": "r1", "nodes": ["c2"], "milestone": "rebooted"}),
    (105.5, "reached", {"repair": "r1", "nodes": ["c2"], "milestone": "replaced"}),
    (106.0, "reached", {"repair": "r1", "nodes": ["c2"], "milestone": "accepted"}),
    (106.25, "closed", {"repair": "r1", "nodes": ["c2"], "outcome": "returned"}),
]
STEPS = [Progress(99.0, 14, 0), Progress(100.1, 15, 0), Progress(104.5, 11, 1), Progress(104.75, 12, 1)]


def moments(lines: list[Line], progress: list[Progress] | None = None, node: str = "c2") -> Timeline:
    entries = [(number, at, kind, body) for number, (at, kind, body) in enumerate(lines, 1)]
    return timeline(entries, progress or [], node, FAULT_AT)


def test_a_whole_repair() -> None:
    assert moments(STORY, STEPS) == Timeline(
        detected_s=0.2,
        drained_s=1.0,
        job_running_s=3.0,
        first_new_step_s=4.5,
        node_rebooted_s=4.0,
        node_replaced_s=5.5,
        accepted_s=6.0,
        in_service_s=6.25,
    )


@pytest.mark.parametrize("count", range(len(STORY)))
def test_what_has_not_happened_is_none(count: int) -> None:
    whole, part = moments(STORY), moments(STORY[:count])
    happened = {kind for kind in Timeline.__slots__ if getattr(part, kind) is not None}
    assert all(getattr(part, name) == getattr(whole, name) for name in happened)
    assert len(happened) == sum(kind != "intent" for _at, kind, _body in STORY[:count])


def test_other_nodes_and_earlier_faults_do_not_count() -> None:
    assert moments(STORY, node="c3") == Timeline()
    earlier = [(at - 50, kind, body) for at, kind, body in STORY]
    assert moments(earlier) == Timeline()
    assert moments([*earlier, *STORY]) == moments(STORY)


def test_the_first_of_each_kind_counts() -> None:
    later = [(at + 50, kind, body) for at, kind, body in STORY]
    assert moments([*STORY, *later]) == moments(STORY)


@pytest.mark.parametrize("outcome", ["parked", "stopped"])
def test_a_repair_that_failed_is_no_return_to_service(outcome: str) -> None:
    assert moments([(101.0, "closed", {"repair": "r1", "nodes": ["c2"], "outcome": outcome})]) == Timeline()


def test_entries_about_the_whole_cluster_are_passed_over() -> None:
    assert moments([(101.0, "breaker", {"open": "x"}), (101.0, "audit", {"refused": "x"})]) == Timeline()


@pytest.mark.parametrize(
    ("steps", "repeated"),
    [([], 0), ([1, 2, 3], 0), ([1, 2, 3, 2, 3, 4], 2), ([1, 2, 1, 2, 1, 2], 4)],
)
def test_steps_done_again(steps: list[int], repeated: int) -> None:
    assert steps_repeated([Progress(0.0, step, 0) for step in steps]) == repeated
