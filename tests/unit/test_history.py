"""Repairs as people ask for them, from a controller's answers."""

from typing import Any

import pytest

from hpcli.errors import HpcliError
from hpcli.services.history import check_counts, history, recovery_status

REPAIR = {
    "repair": "r1",
    "node": "c2",
    "cause": "xid79",
    "message": "lost",
    "opened_at": 100.0,
    "steps": ["drain", "requeue", "requeue", "reboot"],
    "outcome": None,
    "closed_at": 0.0,
}
ENTRIES: list[list[Any]] = [
    [1, 90.0, "audit", {"refused": "x", "source": "uid 7"}],
    [2, 91.0, "pause", {"reason": "x", "by": "root"}],
    [3, 92.0, "breaker", {"open": "too many"}],
    [4, 100.0, "opened", {"repair": "r1", "node": "c2", "cause": "xid79", "message": "lost"}],
    [5, 100.5, "intent", {"repair": "r1", "nodes": ["c2"], "step": "requeue", "job": "7", "why": "c2: lost"}],
    [6, 100.6, "failed", {"repair": "r1", "nodes": ["c2"], "step": "requeue", "job": "7", "error": "busy"}],
    [7, 101.0, "done", {"repair": "r1", "nodes": ["c2"], "step": "reboot"}],
    [8, 102.0, "reached", {"repair": "r1", "nodes": ["c2"], "milestone": "job_running", "job": "7"}],
    [9, 103.0, "closed", {"repair": "r1", "nodes": ["c2"], "outcome": "returned", "why": "accepted"}],
    [10, 104.0, "opened", {"repair": "r2", "node": "c3", "cause": "gpu.count", "message": "1 of 2"}],
]


class FakeController:
    """Answers from what it holds; the journal comes in pages of three."""

    def __init__(self, status: dict[str, Any] | None = None, entries: list[list[Any]] | None = None) -> None:
        self.status = {"repairs": [], "breaker_open": "", "paused": "", "nodes": {}, **(status or {})}
        self.entries = entries or []

    async def ask(self, what: str, **details: object) -> Any:
        if what == "status":
            return self.status
        assert what == "journal"
        return [entry for entry in self.entries if entry[0] > int(str(details["since"]))][:3]


async def test_a_repair_under_way() -> None:
    [row] = (await recovery_status(FakeController({"repairs": [REPAIR]}), now=104.25)).repairs
    assert (row.repair, row.node, row.took, row.outcome) == ("r1", "c2", 4.25, "under way")
    assert row.steps == "drain requeue reboot"


async def test_a_repair_that_is_over() -> None:
    over = {**REPAIR, "outcome": "returned", "closed_at": 103.0}
    [row] = (await recovery_status(FakeController({"repairs": [over]}), now=1000.0)).repairs
    assert (row.took, row.outcome) == (3.0, "returned")


async def test_breaker_and_pause() -> None:
    answer = await recovery_status(FakeController({"breaker_open": "too many", "paused": "x"}), now=0.0)
    assert (answer.repairs, answer.faults, answer.breaker_open, answer.paused) == ((), (), "too many", "x")


async def test_faults_that_stand_are_told_also_where_nothing_may_begin() -> None:
    nodes = {
        "c3": {"incidents": [{"cause": "xid79", "remedy": "reboot"}, {"cause": "gpu.count", "remedy": "evict"}]},
        "c1": {"incidents": [{"cause": "xid13", "remedy": "none"}]},
        "c2": {"incidents": [{"cause": "ext4_error", "remedy": "drain"}]},
    }
    found = await recovery_status(FakeController({"nodes": nodes}), now=0.0)
    assert found.faults == ("c2: ext4_error", "c3: xid79, gpu.count")


async def test_every_step_of_every_page() -> None:
    steps = await history(FakeController(entries=ENTRIES))
    assert [(step.repair, step.nodes, step.at, step.what, step.why) for step in steps] == [
        ("r1", "c2", 0.0, "found xid79", "lost"),
        ("r1", "c2", 0.5, "requeue job 7", "c2: lost"),
        ("r1", "c2", 0.6, "requeue job 7 failed", "busy"),
        ("r1", "c2", 1.0, "reboot done", ""),
        ("r1", "c2", 2.0, "job 7 runs again", ""),
        ("r1", "c2", 3.0, "returned", "accepted"),
        ("r2", "c3", 0.0, "found gpu.count", "1 of 2"),
    ]


async def test_of_one_node() -> None:
    assert [step.nodes for step in await history(FakeController(entries=ENTRIES), "c3")] == ["c3"]
    assert await history(FakeController(entries=ENTRIES), "c9") == ()


def node(severity: str) -> dict[str, Any]:
    return {"results": [{"check": "gpu.count", "severity": severity, "message": "1 of 2", "hint": "look"}]}


@pytest.mark.parametrize("severity", ["ok", "warn", "unknown"])
async def test_checks_are_counted(severity: str) -> None:
    assert await check_counts(FakeController({"nodes": {"c1": node("ok"), "c2": node(severity)}})) == (2, 2)


async def test_a_check_that_failed_is_named() -> None:
    with pytest.raises(HpcliError, match=r"node c2: gpu\.count: 1 of 2"):
        await check_counts(FakeController({"nodes": {"c1": node("ok"), "c2": node("critical")}}))
