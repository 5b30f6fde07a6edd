"""Apply on a cluster in memory: the order of its steps, what it refuses, what it puts back, and kill -9 anywhere."""

import asyncio
from dataclasses import replace

import pytest

from hpcli.domain.blueprint import Blueprint
from hpcli.domain.change import Disruption
from hpcli.errors import HpcliError, Unsafe
from hpcli.services.apply_plan import Applied, Apply
from hpcli.services.plan import OnDrift, Planner
from tests.scenario.fake_cluster import (
    BAD,
    CONF,
    CTL,
    DEADLY,
    POISON,
    FakeCluster,
    FakeGateway,
    FakeMachines,
    Killed,
    Quiet,
    make_blueprint,
    with_edit,
)

BASE = make_blueprint()
GOALS = {
    "reconfigure": make_blueprint(MessageTimeout="30"),
    "restart": make_blueprint(SchedulerType="sched/builtin"),
    "more nodes": make_blueprint("c[1-5]"),
    "more nodes on 24.11": make_blueprint("c[1-5]", version="24.11"),
    "fewer nodes": make_blueprint("c[1-2]"),
    "other nodes": make_blueprint("c[2-4]", MessageTimeout="30"),
    "larger nodes": make_blueprint(cpus=8),
    "accounting": make_blueprint(database=True),
    "a node on another base": make_blueprint(rebuilt="c2"),
    "comments": make_blueprint(comment="said otherwise"),
}


def planner(world: FakeCluster, goal: Blueprint) -> Planner:
    async def wanted(_: Blueprint | None) -> Blueprint:
        return goal

    async def nothing() -> Blueprint | None:
        return None

    return Planner(FakeMachines(world), wanted, nothing)


async def apply(world: FakeCluster, goal: Blueprint, strategy: OnDrift = OnDrift.REFUSE, wait: float = 60.0) -> Applied:
    plans = planner(world, goal)
    work = Apply(plans, FakeGateway(world), world.clock, Quiet(), strategy, wait)
    return await work.apply(await plans.plan(strategy))


def start_of(goal: Blueprint) -> FakeCluster:
    return FakeCluster.made_from(make_blueprint(version=goal.slurm_version))


def place(world: FakeCluster, begins: str) -> int:
    return next(i for i, touch in enumerate(world.touches) if touch.startswith(begins))


class TestWhatItLeadsTo:
    @pytest.mark.parametrize("goal", GOALS.values(), ids=GOALS)
    async def test_all_is_as_wanted_and_a_second_apply_touches_nothing(self, goal: Blueprint) -> None:
        world = start_of(goal)
        await apply(world, goal)
        assert world.as_wanted(goal) == []
        touched = len(world.touches)
        again = await apply(world, goal)
        assert (again.changes, again.steps, len(world.touches)) == ((), (), touched)

    async def test_running_jobs_live_on_when_nodes_are_added(self) -> None:
        world = FakeCluster.made_from(BASE)
        world.jobs["7"] = ("c[1-2]", world.clock.now() + 1e6)
        await apply(world, GOALS["more nodes"], wait=0.0)
        assert world.as_wanted(GOALS["more nodes"]) == []
        assert "7" in world.busy()

    async def test_only_the_record_changes_when_only_the_spec_says_it_otherwise(self) -> None:
        world = FakeCluster.made_from(BASE)
        done = await apply(world, replace(BASE, spec_text="the same in other words"))
        assert (done.changes, world.touches) == ((), ["keep_applied"])

    async def test_a_machine_that_is_gone_already_is_taken_out_with_a_warning(self) -> None:
        world = FakeCluster.made_from(BASE)
        world.unreachable = frozenset({"c3"})
        done = await apply(world, GOALS["fewer nodes"])
        assert "c3" in done.warnings[0]
        assert world.applied == GOALS["fewer nodes"]


class TestOrder:
    async def test_the_trial_comes_before_anything_is_touched(self) -> None:
        world = FakeCluster.made_from(BASE)
        await apply(world, GOALS["larger nodes"])
        assert world.touches[:2] == ["try", "keep_pending"]

    async def test_accounting_before_slurmctld_and_its_state_copied_while_it_is_stopped(self) -> None:
        world = FakeCluster.made_from(BASE)
        await apply(world, GOALS["accounting"])
        wanted = ["write ctl", "start mariadb", "restart slurmdbd", "stop slurmctld", "keep_state"]
        wanted += ["start slurmctld", "restart slurmd c", "keep_applied"]
        found = [place(world, begins) for begins in wanted]
        assert found == sorted(found)

    async def test_new_machines_stand_before_slurm_learns_of_them(self) -> None:
        world = FakeCluster.made_from(BASE)
        await apply(world, GOALS["more nodes"])
        assert place(world, "create c4") < place(world, "write") < place(world, "stop slurmctld")

    async def test_nodes_that_go_are_emptied_first_and_taken_out_last(self) -> None:
        world = FakeCluster.made_from(BASE)
        world.jobs["7"] = ("c3", world.clock.now() + 20)
        await apply(world, GOALS["fewer nodes"])
        assert place(world, "drain c3") < place(world, "write") < place(world, "retire c3")
        assert world.as_wanted(GOALS["fewer nodes"]) == []

    async def test_agents_do_not_look_while_machines_are_changed(self) -> None:
        world = FakeCluster.made_from(BASE)
        await apply(world, GOALS["larger nodes"])
        assert place(world, "stop hpcli-agent") < place(world, "write") < place(world, "restart hpcli-agent")

    async def test_slurm_2311_and_later_take_new_nodes_without_a_restart(self) -> None:
        world = FakeCluster.made_from(make_blueprint(version="24.11"))
        await apply(world, GOALS["more nodes on 24.11"])
        assert "reload slurmctld ctl" in world.touches
        assert "restart slurmd c[4-5]" in world.touches
        assert not any(touch.startswith("stop slurmctld") for touch in world.touches)


class TestRefusals:
    async def test_jobs_in_the_way_are_named_and_nothing_is_touched(self) -> None:
        world = FakeCluster.made_from(BASE)
        world.jobs["7"] = ("c3", world.clock.now() + 1e6)
        with pytest.raises(Unsafe, match=r"jobs 7 \(ann, c3\) in the way.*nothing was touched"):
            await apply(world, GOALS["fewer nodes"], wait=0.0)
        assert world.touches == []

    async def test_jobs_that_outlive_the_wait_get_their_nodes_back(self) -> None:
        world = FakeCluster.made_from(BASE)
        world.jobs["7"] = ("c3", world.clock.now() + 1e6)
        world.drained["c1"] = "broken fan"
        with pytest.raises(Unsafe, match=r"jobs 7 \(ann, c3\) in the way"):
            await apply(world, GOALS["larger nodes"], wait=30.0)
        assert world.drained == {"c1": "broken fan"}
        assert (world.applied, world.pending) == (BASE, ())
        assert set(world.agents.values()) == {'{"cpus": 4}\n'}

    async def test_a_plan_for_another_state_of_the_cluster(self) -> None:
        world = FakeCluster.made_from(BASE)
        plan = await planner(world, GOALS["larger nodes"]).plan()
        await apply(world, GOALS["reconfigure"])
        work = Apply(planner(world, GOALS["larger nodes"]), FakeGateway(world), world.clock, Quiet())
        with pytest.raises(Unsafe, match=f"changed since the plan was made.*expected {BASE.fingerprint}"):
            await work.apply(plan)

    async def test_a_plan_whose_goal_is_another_now(self) -> None:
        world = FakeCluster.made_from(BASE)
        plan = await planner(world, GOALS["larger nodes"]).plan()
        work = Apply(planner(world, GOALS["reconfigure"]), FakeGateway(world), world.clock, Quiet())
        with pytest.raises(Unsafe, match="the goal changed since the plan was made"):
            await work.apply(plan)
        assert world.touches == []

    async def test_two_at_once(self) -> None:
        world = FakeCluster.made_from(BASE)
        async with FakeMachines(world).lock():
            with pytest.raises(Unsafe, match="apply under way"):
                await apply(world, GOALS["reconfigure"])

    @pytest.mark.parametrize(
        "goal",
        [make_blueprint(StateSaveLocation="/other"), make_blueprint(base="image-2")],
        ids=["state", "controller"],
    )
    async def test_what_would_cost_slurmctld_its_memory(self, goal: Blueprint) -> None:
        world = FakeCluster.made_from(BASE)
        with pytest.raises(Unsafe, match="found"):
            await apply(world, goal)
        assert world.touches == []

    async def test_what_the_trial_refuses_touches_nothing(self) -> None:
        world = FakeCluster.made_from(BASE)
        with pytest.raises(HpcliError, match="unrecognized key: badword"):
            await apply(world, make_blueprint(MailProg=BAD))
        assert world.touches == ["try"]
        assert world.as_wanted(BASE) == []


class TestRollback:
    @pytest.mark.parametrize("name", ["MessageTimeout", "SchedulerType"], ids=["reconfigure", "restart"])
    async def test_the_old_configuration_is_back_in_service(self, name: str) -> None:
        world = FakeCluster.made_from(BASE)
        world.jobs["7"] = ("c3", world.clock.now() + 1e6)
        with pytest.raises(HpcliError, match="fatal: slurmctld says no") as failed:
            await apply(world, make_blueprint(**{name: POISON}))
        assert "back in service" in failed.value.hint
        assert world.as_wanted(BASE) == []

    async def test_drained_nodes_take_jobs_again_and_agents_watch(self) -> None:
        world = FakeCluster.made_from(BASE)
        with pytest.raises(HpcliError, match="says no"):
            await apply(world, make_blueprint(cpus=8, MailProg=POISON))
        assert (world.drained, _meaningful(world)) == ({}, BASE.file(CTL, CONF).text)
        assert all(world.agents.values())

    async def test_a_slurmd_that_does_not_come_up_costs_no_second_one(self) -> None:
        world = FakeCluster.made_from(BASE)
        world.jobs["7"] = ("c3", world.clock.now() + 1e6)
        with pytest.raises(HpcliError, match="fatal: slurmd says no") as failed:
            await apply(world, make_blueprint(TaskPlugin=DEADLY))
        assert "back in service" in failed.value.hint
        assert world.as_wanted(BASE) == []
        assert all(world.agents.values())
        assert not [touch for touch in world.touches if touch.startswith("restart slurmd") and "c2" in touch]

    async def test_the_state_is_put_back_when_slurm_is_another(self) -> None:
        world = FakeCluster.made_from(BASE)
        with pytest.raises(HpcliError, match="says no"):
            await apply(world, make_blueprint(version="24.11", MailProg=POISON))
        assert place(world, "keep_state") < place(world, "restore_state /copy/1")


def _meaningful(world: FakeCluster) -> str:
    return world.slurmctld


class TestDrift:
    EDITED = BASE.file(CTL, CONF).text + "MaxJobCount=5\n"

    def edited(self) -> FakeCluster:
        world = FakeCluster.made_from(BASE)
        with_edit(world, CTL, CONF, self.EDITED)
        return world

    async def test_refused_with_file_and_line(self) -> None:
        with pytest.raises(Unsafe, match=r"ctl:/etc/slurm/slurm\.conf:5"):
            await apply(self.edited(), GOALS["reconfigure"])

    async def test_overwritten_and_the_daemons_hear_of_it(self) -> None:
        world = self.edited()
        done = await apply(world, BASE, OnDrift.OVERWRITE)
        assert world.as_wanted(BASE) == []
        assert [change.what for change in done.changes] == ["parameter MaxJobCount"]

    async def test_kept_and_expected_from_then_on(self) -> None:
        world = self.edited()
        await apply(world, BASE, OnDrift.KEEP)
        assert world.conf(CTL) == self.EDITED == world.slurmctld
        plan = await planner(world, BASE).plan()
        assert plan.edits == ()
        assert [change.what for change in plan.changes] == ["parameter MaxJobCount"], "the spec does not have it"

    async def test_not_kept_where_the_plan_changes_the_same_file(self) -> None:
        with pytest.raises(Unsafe, match="edited by hand and changed by the plan"):
            await apply(self.edited(), GOALS["reconfigure"], OnDrift.KEEP)


async def kill(world: FakeCluster, goal: Blueprint, after: int) -> None:
    world.kill_after = after
    with pytest.raises(Killed):
        await apply(world, goal)
    world.kill_after = -1


def touches_of(goal: Blueprint) -> int:
    """How many an apply that is not interrupted makes."""
    world = start_of(goal)
    asyncio.run(apply(world, goal))
    return len(world.touches)


KILLS = [(name, after) for name, goal in GOALS.items() for after in range(1, touches_of(goal) + 1)]
"""Every place at which an apply can be killed: after each single thing that it does to the cluster."""


class TestKilledAnywhere:
    @pytest.mark.parametrize(("name", "after"), [kill for kill in KILLS if kill[1] < touches_of(GOALS[kill[0]])])
    async def test_the_next_apply_finishes_it(self, name: str, after: int) -> None:
        goal = GOALS[name]
        world = start_of(goal)
        await _killed(world, goal, after)
        await apply(world, goal)
        assert world.as_wanted(goal) == []

    @pytest.mark.parametrize(("name", "after"), KILLS)
    async def test_the_old_spec_leads_back(self, name: str, after: int) -> None:
        goal = GOALS[name]
        world = start_of(goal)
        old = world.applied
        assert old
        await _killed(world, goal, after)
        await apply(world, old)
        assert world.as_wanted(old) == []

    @pytest.mark.parametrize(("name", "after"), KILLS)
    async def test_no_file_of_it_is_taken_for_a_hand_edit(self, name: str, after: int) -> None:
        goal = GOALS[name]
        world = start_of(goal)
        await _killed(world, goal, after)
        plan = await planner(world, make_blueprint(MailProg="/bin/true", version=goal.slurm_version)).plan()
        assert plan.edits == ()


@pytest.mark.parametrize("after", range(2, 9))
async def test_of_two_killed_applies_neither_is_taken_for_hand_edits(after: int) -> None:
    world = FakeCluster.made_from(BASE)
    await _killed(world, make_blueprint(SchedulerType="sched/builtin"), after)
    world.touches.clear()
    await _killed(world, make_blueprint(MessageTimeout="44"), 2)
    assert world.touches == ["try", "keep_pending"]
    last = make_blueprint("c[1-4]")
    assert (await planner(world, last).plan()).edits == ()
    await apply(world, last)
    assert world.as_wanted(last) == []


async def _killed(world: FakeCluster, goal: Blueprint, after: int) -> None:
    """Touches are counted without the trial, which touches nothing; a count beyond the last kills nobody."""
    world.kill_after = after
    try:
        await apply(world, goal)
    except Killed:
        pass
    world.kill_after = -1


def test_a_plan_says_the_most_that_it_disturbs() -> None:
    world = FakeCluster.made_from(BASE)
    plan = asyncio.run(planner(world, GOALS["more nodes"]).plan())
    assert plan.disruption is Disruption.RESTART
