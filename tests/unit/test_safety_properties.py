"""The safety rules hold for every observation, not only for the cases that somebody thought of."""

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from hpcli.domain.action import Open, OpenBreaker
from hpcli.domain.check import Incident, Remedy
from hpcli.domain.ledger import Generation, Ledger, Outcome, Repair
from hpcli.domain.node import Node
from hpcli.domain.observation import Observation
from hpcli.domain.policy import Breaker, Budget, Policy
from hpcli.domain.recovery import decide
from hpcli.domain.report import NodeReport

NOW = 10_000.0
STATES = ("IDLE", "MIXED", "ALLOCATED", "IDLE+DRAIN", "MIXED+DRAIN", "DOWN", "DOWN+NOT_RESPONDING")
REASONS = ("", "by hand", "Prolog error", "Not responding")

incidents = st.builds(
    Incident,
    cause=st.sampled_from(["xid79", "gpu.count", "disk.free"]),
    message=st.just("seen"),
    remedy=st.sampled_from(list(Remedy)),
    evict=st.booleans(),
    latched=st.booleans(),
    first_seen=st.floats(NOW - 100, NOW),
)
policies = st.builds(
    Policy,
    start_interval=st.sampled_from([0.0, 5.0]),
    min_schedulable=st.sampled_from([0.0, 0.25, 0.75]),
    budget=st.builds(Budget, st.integers(0, 4), st.sampled_from([0.0, 0.1, 0.5])),
    breaker=st.builds(Breaker, st.integers(0, 6), st.sampled_from([0.0, 0.1, 1.0])),
)


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    names = [f"c{n}" for n in range(draw(st.integers(1, 12)))]
    nodes = {name: Node(name, *draw(states())) for name in names}
    silent = draw(st.sets(st.sampled_from(names)))
    reports = {
        name: NodeReport(name, "b1", "i1", 1, NOW, True, incidents=tuple(draw(st.lists(incidents, max_size=2))))
        for name in names
        if name not in silent
    }
    closed = tuple(draw(repair(name)) for name in draw(st.lists(st.sampled_from(names), max_size=4)))
    under_repair = {name: draw(repair(name)) for name in draw(st.sets(st.sampled_from(names), max_size=3))}
    ledger = Ledger(
        open=under_repair,
        closed=tuple(replace(old, outcome=Outcome.RETURNED) for old in closed),
        breaker_open=draw(st.sampled_from(["", "", "too many"])),
        paused=draw(st.sampled_from(["", "", "maintenance"])),
    )
    return Observation(NOW, nodes, {}, {}, reports, ledger)


def states() -> st.SearchStrategy[tuple[frozenset[str], str]]:
    return st.tuples(st.sampled_from(STATES).map(lambda text: frozenset(text.split("+"))), st.sampled_from(REASONS))


@st.composite
def repair(draw: st.DrawFn, node: str) -> Repair:
    opened = NOW - draw(st.floats(0, 900))
    return Repair("r1", node, "xid79", "lost", True, Remedy.REBOOT, opened, Generation("b1", "i1"))


@settings(max_examples=400, deadline=None)
@given(observations(), policies)
def test_every_decision_keeps_the_safety_rules(seen: Observation, policy: Policy) -> None:
    actions = decide(seen, policy)
    begun = [target.node for action in actions if isinstance(action, Open) for target in action.targets]
    fleet = len(seen.nodes)
    if begun:
        assert len(begun) + len(seen.ledger.open) <= policy.budget.limit(fleet)
        assert not (seen.ledger.breaker_open or seen.ledger.paused)
        assert not any(isinstance(action, OpenBreaker) for action in actions)
        recent = {r.node for r in seen.ledger.repairs if r.opened_at > NOW - policy.breaker.window}
        assert len(recent | set(begun)) <= policy.breaker.limit(fleet)
        schedulable = {node.name for node in seen.nodes.values() if node.schedulable}
        taken = schedulable & set(begun)
        assert not taken or len(schedulable - taken) >= math.ceil(policy.min_schedulable * fleet)
    if policy.start_interval:
        assert len(begun) <= 1
    assert len(set(begun)) == len(begun)
    assert not set(begun) & set(seen.ledger.open)
    assert not any(seen.nodes[node].reason == "by hand" and not seen.nodes[node].schedulable for node in begun)
    if seen.blind:
        assert not actions
    assert decide(seen, policy) == actions
