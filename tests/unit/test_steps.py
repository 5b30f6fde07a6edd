"""The order of an apply's steps, whatever the change: a few rules that hold for all of them."""

from dataclasses import replace
from itertools import pairwise

import pytest

from hpcli.domain.blueprint import Blueprint, ConfigFile
from hpcli.domain.difference import difference, merged
from hpcli.domain.steps import BATCH, Act, Step, must_be_empty, steps
from tests.scenario.fake_cluster import make_blueprint

BASE = make_blueprint()
GOALS = [
    make_blueprint("c[2-9]", cpus=8, database=True, MessageTimeout="30"),
    make_blueprint(SchedulerType="sched/builtin"),
    make_blueprint(MessageTimeout="30"),
    make_blueprint("c[1-2]"),
    make_blueprint(rebuilt="c2"),
    make_blueprint(f"c[1-{3 * BATCH}]"),
]


def course(goal: Blueprint, *before: Blueprint) -> tuple[Step, ...]:
    states = before or (BASE,)
    return steps(states, goal, merged(difference(state, goal) for state in states))


@pytest.mark.parametrize("goal", GOALS)
def test_rules_for_every_course(goal: Blueprint) -> None:
    acts = [step.act for step in course(goal)]
    # In the order in which the acts are declared, which is that in which people read about them.
    order = [list(Act).index(act) for act in acts]
    assert all(first <= second for first, second in pairwise(order))
    assert acts[-1] is Act.COMMIT
    assert acts[: 2 if Act.TRY in acts else 1][-1] is Act.BEGIN


def test_what_needs_no_restart_stops_nothing() -> None:
    acts = {step.act for step in course(make_blueprint(MessageTimeout="30"))}
    assert acts == {Act.TRY, Act.BEGIN, Act.WRITE, Act.RECONFIGURE, Act.COMMIT}


def test_slurmd_restarts_in_batches() -> None:
    batches = [step.hosts for step in course(make_blueprint(f"c[1-{3 * BATCH}]")) if step.act is Act.SLURMD]
    assert [len(batch) for batch in batches] == [1, BATCH, BATCH, BATCH - 1]
    assert batches[0] == ("c1",), "one of the old nodes goes first"


def test_agents_take_no_restart_for_a_fault() -> None:
    taken = {step.act: step.hosts for step in course(make_blueprint(SchedulerType="sched/builtin"))}
    assert taken[Act.QUIET] == taken[Act.AGENT] == taken[Act.SETTLE] == ("c1", "c2", "c3")


def test_only_nodes_that_must_be_empty_are_drained() -> None:
    goal = make_blueprint("c[2-5]")
    assert must_be_empty([BASE], difference(BASE, goal)) == ("c1",)


def test_machines_of_an_interrupted_apply_are_taken_out() -> None:
    halfway = make_blueprint("c[1-5]")
    taken = {step.act: step.hosts for step in course(BASE, BASE, halfway)}
    assert taken[Act.RETIRE] == ("c4", "c5")
    assert Act.RESUME in taken, "it may have drained nodes"


def test_steps_say_where_they_are_taken() -> None:
    assert str(Step(Act.SLURMD, ("c1", "c2"))) == "restart slurmd on c[1-2]"
    assert str(Step(Act.STOP, ("ctl",))) == "stop slurmctld"


def test_another_hpcli_is_put_everywhere_and_its_daemons_restart() -> None:
    release = "/etc/hpcli/release"

    def having(text: str) -> Blueprint:
        files = {host: (*own, ConfigFile(release, text)) for host, own in BASE.files.items()}
        return replace(BASE, files=files)

    taken = {step.act: step.hosts for step in course(having("new"), having("old"))}
    assert set(taken[Act.RERUN]) == set(BASE.files)
    assert taken[Act.AGENT] == ("c1", "c2", "c3")
    assert Act.CONTROLLER in taken and Act.SLURMD not in taken and Act.STOP not in taken
