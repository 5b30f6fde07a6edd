"""Recovery that only observes: the same decisions, nothing done, one plan for each incident."""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcli.domain.action import Action, Close, OnJob, OnNodes, Open, OpenBreaker, Plan, Reach, Target
from hpcli.domain.check import Remedy
from hpcli.domain.journal import Outcome, Step
from hpcli.domain.ledger import Generation
from hpcli.domain.observation import Observation
from hpcli.domain.policy import Breaker, Budget, Policy
from hpcli.domain.recovery import decide
from hpcli.errors import Unsafe
from hpcli.services.apply import Executor, Scribe
from hpcli.services.history import history
from tests.scenario.test_recovery_sim import FREE, Site
from tests.unit.test_decide import load, observation, policy_of
from tests.unit.test_safety_properties import observations, policies

OBSERVE = replace(FREE, mode="observe")
QUERIES = {"nodes", "jobs"}


def begun(actions: Sequence[Action]) -> list[Action]:
    """What is opened, the mark of a repair that is only observed left out."""
    found = [action for action in actions if isinstance(action, Open | OpenBreaker)]
    return [replace(action, observed=False) if isinstance(action, Open) else action for action in found]


def compare(seen: Observation, policy: Policy) -> None:
    acting = decide(seen, replace(policy, mode="act"))
    observing = decide(seen, replace(policy, mode="observe"))
    assert not [action for action in observing if isinstance(action, OnNodes | OnJob | Reach | Close)]
    assert all(action.observed for action in observing if isinstance(action, Open))
    assert begun(observing) == begun(acting)
    assert not [action for action in acting if isinstance(action, Open) and action.observed]


@pytest.mark.parametrize("case", load())
def test_every_case_of_recovery_begins_the_same_and_touches_nothing(case: dict[str, Any]) -> None:
    compare(observation(case), policy_of(case.get("policy", {})))


@settings(max_examples=300, deadline=None)
@given(observations(), policies)
def test_every_observation_begins_the_same_and_touches_nothing(seen: Observation, policy: Policy) -> None:
    compare(seen, policy)


@pytest.mark.parametrize("mode", ["off", "", "typo"])
def test_any_other_mode_begins_nothing(mode: str) -> None:
    seen = observation({"reports": {"c3": {"incidents": {"xid79": "reboot"}}}})
    assert decide(seen, Policy(mode=mode)) == ()
    assert decide(seen, Policy(enabled=False, mode="observe")) == ()


class Sites:
    """Sites with journals in one folder; each is closed at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[Site] = []

    def make(self, policy: Policy, nodes: int = 8) -> Site:
        folder = self.folder / str(len(self.made))
        folder.mkdir()
        self.made.append(Site(folder, policy, nodes))
        return self.made[-1]

    def __enter__(self) -> "Sites":
        return self

    def __exit__(self, *_: object) -> None:
        for site in self.made:
            site.store.close()


def entries(site: Site, kind: str) -> list[dict[str, Any]]:
    return [dict(body) for _, _, found, body in site.store.since(0) if found == kind]


def opened(site: Site) -> list[tuple[str, str]]:
    return [(body["node"], body["cause"]) for body in entries(site, "opened")]


def plans(site: Site) -> list[list[str]]:
    return [list(body["steps"]) for body in entries(site, "planned")]


def assert_untouched(site: Site) -> None:
    assert set(site.gateway.calls) <= QUERIES
    assert (site.fleet.reboots, site.fleet.replacements, site.fleet._accepted) == ([], [], {})
    assert not any(node.drain or node.reason for node in site.world.nodes.values())
    assert {kind for _, _, kind, _ in site.store.since(0)} <= {"opened", "planned", "closed", "breaker"}


faults = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.sampled_from(["xid79", "gpu.count", "disk.free"]),
        st.sampled_from([Remedy.REBOOT, Remedy.REPLACE, Remedy.DRAIN, Remedy.NONE]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=8,
)
sites = st.builds(
    Policy,
    start_interval=st.sampled_from([0.0, 5.0]),
    min_schedulable=st.just(0.0),
    budget=st.just(Budget(8)),
    breaker=st.builds(Breaker, st.sampled_from([2, 4, 8]), st.just(0.0)),
)


@settings(max_examples=25, deadline=None)
@given(faults, sites)
def test_the_same_faults_open_the_same_repairs(
    found: list[tuple[int, str, Remedy, bool, bool]], policy: Policy
) -> None:
    """Each fault on a node of its own, at its own second, with a job on every node."""

    async def live(site: Site) -> None:
        for _ in range(3):
            site.job(node_count=2, work=500.0)
        for second in range(70):
            for number, (at, cause, remedy, evict, broken) in enumerate(found, 1):
                if at == second:
                    site.fleet.break_node(f"c{number}", cause, remedy, evict=evict, broken=broken)
            await site.second()

    with tempfile.TemporaryDirectory() as folder, Sites(Path(folder)) as made:
        acting, observing = made.make(policy), made.make(replace(policy, mode="observe"))
        asyncio.run(live(acting))
        asyncio.run(live(observing))
        assert opened(observing) == opened(acting)
        assert entries(observing, "breaker") == entries(acting, "breaker")
        assert len(plans(observing)) == len(opened(observing))
        assert_untouched(observing)


async def test_the_plan_is_what_an_acting_controller_then_does(tmp_path: Path) -> None:
    with Sites(tmp_path) as made:
        acting, observing = made.make(FREE), made.make(OBSERVE)
        for site in (acting, observing):
            site.job(node_count=3)
            await site.second()
            site.fleet.break_node("c2", broken=True)
            await site.run(500)
        assert plans(observing) == [["drain", "requeue job 1", "reboot", "replace", "accept", "return"]]
        done = [body["step"] + (f" job {body['job']}" if "job" in body else "") for body in entries(acting, "intent")]
        assert [step for step in dict.fromkeys(done) if not step.startswith("release")] == plans(observing)[0]
        assert_untouched(observing)


async def test_once_per_incident_until_the_fault_goes_and_again_when_it_comes_back(tmp_path: Path) -> None:
    with Sites(tmp_path) as made:
        site = made.make(OBSERVE)
        site.fleet.break_node("c2")
        await site.run(4000)
        assert (len(opened(site)), len(plans(site)), entries(site, "closed")) == (1, 1, [])
        site.fleet.faults.clear()
        await site.second()
        [closed] = entries(site, "closed")
        assert (closed["outcome"], closed["why"]) == ("observed", "the fault has gone")
        site.fleet.break_node("c2")
        await site.run(10)
        assert [body["repair"] for body in entries(site, "opened")] == ["r1", "r2"]


async def test_a_restarted_controller_does_not_tell_it_twice(tmp_path: Path) -> None:
    with Sites(tmp_path) as made:
        site = made.make(OBSERVE)
        site.fleet.break_node("c2")
        await site.run(3)
        site.start()
        await site.run(10)
        assert (len(opened(site)), len(plans(site))) == (1, 1)


async def test_a_fault_that_turns_hard_is_planned_anew_once(tmp_path: Path) -> None:
    with Sites(tmp_path) as made:
        site = made.make(OBSERVE)
        site.job(node_count=8, work=500.0)
        await site.second()
        site.fleet.break_node("c2", "disk.free", Remedy.DRAIN, evict=False)
        await site.run(5)
        site.fleet.break_node("c2")
        await site.run(5)
        soft, hard = plans(site)
        assert soft[:3] == ["drain", "wait for its jobs", "reboot"]
        assert hard[:2] == ["drain", "requeue job 1"]
        assert_untouched(site)


async def test_nodes_that_nobody_mends_hold_the_budget_no_longer_than_a_repair_lasts(tmp_path: Path) -> None:
    policy = Policy(mode="observe", start_interval=0.0, budget=Budget(1, 0.0), breaker=Breaker(8))
    policy = replace(policy, reboot_timeout=10.0, replace_timeout=10.0, acceptance_timeout=5.0)
    with Sites(tmp_path) as made:
        site = made.make(policy)
        for node in ("c1", "c2", "c3"):
            site.fleet.break_node(node)
        await site.run(20)
        assert [node for node, _ in opened(site)] == ["c1"]
        await site.run(70)
        assert [node for node, _ in opened(site)] == ["c1", "c2", "c3"]


async def test_a_person_who_drains_the_node_ends_the_incident(tmp_path: Path) -> None:
    with Sites(tmp_path) as made:
        site = made.make(OBSERVE)
        site.fleet.break_node("c2")
        await site.run(3)
        await site.gateway.update_nodes("c2", "drain", "bad cable, ada")
        await site.run(5)
        [closed] = entries(site, "closed")
        assert closed["why"] == "a person took the node over: bad cable, ada"
        assert len(opened(site)) == 1


async def test_from_observing_to_acting_the_fault_is_repaired(tmp_path: Path) -> None:
    with Sites(tmp_path) as made:
        site = made.make(OBSERVE)
        site.fleet.break_node("c2")
        await site.run(5)
        site.policy = FREE
        site.start()
        await site.run(120)
        assert [body["outcome"] for body in entries(site, "closed")] == ["observed", "returned"]
        assert (site.fleet.reboots, site.healthy) == (["c2"], True)


async def test_from_acting_to_observing_a_repair_under_way_is_left_where_it_is(tmp_path: Path) -> None:
    with Sites(tmp_path) as made:
        site = made.make(FREE)
        site.job(node_count=3)
        await site.second()
        site.fleet.break_node("c2")
        await site.second()
        assert site.world.nodes["c2"].drain
        await site.recovery.executor.stop()
        site.policy = OBSERVE
        site.start()
        calls, written = len(site.gateway.calls), len(site.store.since(0))
        await site.run(30)
        assert set(site.gateway.calls[calls:]) <= QUERIES
        assert len(site.store.since(0)) == written


async def test_the_scribe_has_no_means_and_refuses(tmp_path: Path) -> None:
    with Sites(tmp_path) as made:
        site = made.make(OBSERVE)
        drain = OnNodes(Step.DRAIN, "r1", (Target("c1", Generation()),), "lost")
        with pytest.raises(Unsafe, match="found drain, expected a note"):
            await Scribe(site.recovery.journal).apply(drain)
        assert Scribe.__slots__ == ("journal",)
        assert len(site.store.since(0)) == 0


async def test_history_marks_what_was_only_observed(tmp_path: Path) -> None:
    with Sites(tmp_path) as made:
        site = made.make(OBSERVE)
        site.job(node_count=8, work=900.0)
        await site.second()
        site.fleet.break_node("c2", broken=True)
        await site.run(3)
        site.fleet.faults.clear()
        await site.second()

        class Answering:
            async def ask(self, what: str, **details: Any) -> Any:
                return [list(entry) for entry in site.store.since(details["since"])]

        found = [(step.nodes, step.what, step.why) for step in await history(Answering())]
        assert found == [
            ("c2", "observed xid79", "xid79 seen"),
            ("c2", "would drain", "xid79 seen; then at most: requeue job 1, reboot, replace, accept, return"),
            ("c2", "over, nothing was done", "the fault has gone"),
        ]


def test_the_plan_says_what_the_provider_cannot_do() -> None:
    case = {
        "can_replace": False,
        "journal": [[1, "opened", {"node": "c3", "observed": True}]],
        "reports": {"c3": {"incidents": {"xid79": "reboot"}}},
    }
    [plan] = decide(observation(case), policy_of({"mode": "observe"}))
    assert isinstance(plan, Plan)
    assert plan.steps == ("drain", "reboot", "park")


def test_a_dead_machine_has_a_plan_too() -> None:
    case = {
        "nodes": {"c3": "DOWN+NOT_RESPONDING Not responding"},
        "journal": [[1, "opened", {"node": "c3", "cause": "node.dead", "observed": True}]],
        "reports": {"c3": None},
    }
    [plan] = decide(observation(case), policy_of({"mode": "observe"}))
    assert isinstance(plan, Plan)
    assert plan.steps == ("drain", "reboot", "replace", "accept", "return")


def test_an_observed_repair_is_closed_as_such_when_slurm_forgets_the_node() -> None:
    case = {"fleet": "c[1-2]", "journal": [[1, "opened", {"node": "c3", "observed": True}]]}
    [close] = decide(observation(case), policy_of({"mode": "observe"}))
    assert isinstance(close, Close)
    assert close.outcome is Outcome.OBSERVED


class Gate:
    """Agents that remember the orders about the gate."""

    def __init__(self) -> None:
        self.orders: list[bool] = []

    async def set_gate(self, closed: bool) -> None:
        self.orders.append(closed)


async def test_the_gate_is_open_and_the_connected_agents_are_told_once(tmp_path: Path) -> None:
    """Agents that come later are greeted with it: tests/unit/test_channel.py."""
    with Sites(tmp_path) as made:
        site, gate = made.make(OBSERVE), Gate()
        site.recovery.executor.agents = gate  # type: ignore[assignment]
        assert site.recovery.gate_open
        site.recovery.note_mode()
        for _ in range(3):
            await site.second()
            await site.recovery._set_gate()
        assert gate.orders == [False]

        site.policy = FREE
        site.start()
        assert not site.recovery.gate_open
        site.recovery.note_mode()
        site.recovery.note_mode()
        assert [body["mode"] for body in entries(site, "mode")] == ["observe", "act"]


async def test_job_steps_are_not_followed_either(tmp_path: Path) -> None:
    """A job that an earlier, acting controller requeued stays as Slurm has it."""
    case: dict[str, Any] = {
        "nodes": {"c3": "IDLE+DRAIN hpcli:r1:xid79"},
        "jobs": [{"id": "7", "state": "PENDING", "reason": "BeginTime", "restarts": 1}],
        "journal": [
            [2, "opened", {"node": "c3"}],
            [1, "intent", {"at": "c3", "step": "requeue", "job": "7", "restarts": 0, "job_nodes": "c3"}],
        ],
    }
    assert decide(observation(case), policy_of({"mode": "observe"})) == ()
    assert decide(observation(case), policy_of({})) != ()


async def test_what_only_observes_has_no_hands(tmp_path: Path) -> None:
    with Sites(tmp_path) as made:
        assert isinstance(made.make(OBSERVE).recovery._hands, Scribe)
        assert isinstance(made.make(FREE).recovery._hands, Executor)


def test_jobs_of_an_observed_repair_are_nobodys_to_follow() -> None:
    """Not after somebody has turned to acting either: the job that completes was never asked to."""
    case = {
        "jobs": [{"id": "7", "state": "COMPLETING", "nodes": "c3"}],
        "journal": [
            [60, "opened", {"node": "c3", "observed": True, "jobs": [["7", 0, "c3"]]}],
            [30, "closed", {"at": "c3", "outcome": "observed"}],
        ],
    }
    assert decide(observation(case), policy_of({})) == ()
