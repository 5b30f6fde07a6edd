"""Recovery against the simulated world: whole repairs, crashes at every step, and the safety rules."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpcli.domain.ledger import Entry
from hpcli.domain.policy import Breaker, Budget, Policy
from hpcli.domain.report import to_dict
from hpcli.ports import Claim
from hpcli.services.apply import Executor
from hpcli.services.desk import ReportDesk, Trust
from hpcli.services.observe import Journal, Observer
from hpcli.services.recovery import Recovery
from hpcli.sim.clock import SimClock
from hpcli.sim.fleet import SimFleet
from hpcli.sim.model import SimJob, SimNode
from hpcli.sim.slurm import SimGateway
from hpcli.sim.world import World
from hpcli.store.sqlite import SqliteStore

FREE = Policy(start_interval=0.0, budget=Budget(4), breaker=Breaker(8))
AGENT_UID = 500


class CrashError(Exception):
    """The controller is killed here."""


@dataclass
class CrashingStore:
    """A journal whose writer dies before or after its n-th entry."""

    store: SqliteStore
    crash_at: int = 0
    before: bool = False
    written: int = 0
    dead: bool = False

    def append(self, kind: str, body: Mapping[str, object], at: float) -> int:
        self.written += 1
        self.dead = self.dead or self.written == self.crash_at
        if self.dead and (self.before or self.written > self.crash_at):
            raise CrashError
        number = self.store.append(kind, body, at)
        if self.dead:
            raise CrashError
        return number

    def since(self, entry_id: int) -> Sequence[Entry]:
        return self.store.since(entry_id)

    def sequences(self) -> Mapping[str, int]:
        return self.store.sequences()

    def remember_sequences(self, sequences: Mapping[str, int]) -> None:
        self.store.remember_sequences(sequences)


@dataclass
class Site:
    """A world with hpcli watching it; the controller can be killed and started anew."""

    path: Path
    policy: Policy = FREE
    nodes: int = 8
    clock: SimClock = field(default_factory=SimClock)
    max_open: int = 0

    def __post_init__(self) -> None:
        self.world = World([SimNode(f"c{n}") for n in range(1, self.nodes + 1)], self.clock)
        self.fleet = SimFleet(self.world, self.clock)
        self.gateway = SimGateway(self.world)
        self.store = SqliteStore(self.path / "journal.sqlite")
        self.start()

    def start(self, crash_at: int = 0, *, before: bool = False) -> None:
        self.writer = store = CrashingStore(self.store, crash_at, before)
        journal = Journal(store, self.clock)
        trust = Trust(frozenset(self.world.nodes), frozenset({0, AGENT_UID}))
        self.desk = ReportDesk(trust, store)
        observer = Observer(self.gateway, self.fleet, self.desk, journal, self.clock, self.policy)
        self.wake = asyncio.Event()
        executor = Executor(self.gateway, self.fleet, self.fleet, journal, self.wake)
        self.recovery = Recovery(observer, executor, journal, self.policy, self.clock, self.wake, 5.0)

    async def second(self) -> None:
        await self.clock.advance(1.0)
        claim = Claim(b"", AGENT_UID, AGENT_UID, "")
        self.desk.take(claim, [to_dict(report) for report in self.fleet.reports()], self.clock.now())
        await self.recovery.tick()
        await asyncio.sleep(0)
        self.max_open = max(self.max_open, len(self.recovery.journal.ledger.open))

    async def run(self, seconds: int) -> None:
        for _ in range(seconds):
            await self.second()

    def job(self, **options: object) -> str:
        return self.world.submit(SimJob("", "", **options))  # type: ignore[arg-type]

    @property
    def healthy(self) -> bool:
        return all(node.schedulable and not node.reason for node in self.world.nodes.values())

    @property
    def outcomes(self) -> list[str]:
        return [str(body["outcome"]) for _, _, kind, body in self.store.since(0) if kind == "closed"]

    def steps(self, kind: str = "intent") -> list[str]:
        return [str(body["step"]) for _, _, found, body in self.store.since(0) if found == kind]


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes sites whose journals are closed at the end."""
    made: list[Site] = []

    def make(*args: object, **options: object) -> Site:
        made.append(Site(tmp_path, *args, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for site in made:
        site.store.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


async def test_a_transient_fault_is_cured_by_a_reboot(site: Site) -> None:
    job = site.job(node_count=3)
    await site.second()
    site.fleet.break_node("c2")
    await site.run(5)
    assert site.world.jobs[job].state == "RUNNING"
    assert site.world.jobs[job].restarts == 1
    assert "c2" not in site.world.jobs[job].nodes
    await site.run(100)
    assert site.outcomes == ["returned"]
    assert (site.fleet.reboots, site.fleet.replacements) == (["c2"], [])
    assert site.healthy


async def test_a_broken_part_is_cured_by_a_replacement(site: Site) -> None:
    site.fleet.break_node("c2", broken=True)
    await site.run(500)
    assert site.outcomes == ["returned"]
    assert (site.fleet.reboots, site.fleet.replacements) == (["c2"], ["c2"])
    assert site.healthy


async def test_a_fault_that_nothing_cures_is_parked_and_stays_so(site: Site) -> None:
    site.fleet.break_node("c2", broken=True)
    for instance in range(2, 5):
        site.fleet.faults["c2"].append(
            type(site.fleet.faults["c2"][0])(
                "gpu.count", site.fleet.faults["c2"][0].remedy, True, True, "", f"c2-instance-{instance}", 0.0
            )
        )
    await site.run(1000)
    assert site.outcomes == ["parked"]
    assert site.world.nodes["c2"].drain
    assert "parked" in site.world.nodes["c2"].reason
    assert (site.fleet.reboots, site.fleet.replacements) == (["c2"], ["c2"])


async def test_a_reboot_that_fails_leads_to_a_replacement(site: Site) -> None:
    site.fleet.refusals.add("c2")
    site.fleet.break_node("c2")
    await site.run(400)
    assert site.outcomes == ["returned"]
    assert site.fleet.replacements == ["c2"]


async def test_ranks_that_ignore_sigterm_do_not_hold_the_job_back(site: Site) -> None:
    job = site.job(node_count=3, ignores_term=True)
    await site.second()
    site.fleet.break_node("c2")
    await site.run(8)
    assert (site.world.jobs[job].state, site.world.jobs[job].restarts) == ("RUNNING", 1)
    assert "kill" in site.steps()


async def test_a_frozen_node_is_set_down_so_that_its_job_goes_on(site: Site) -> None:
    job = site.job(node_count=3)
    await site.second()
    site.world.freeze("c2")
    site.fleet.break_node("c2", "slurmd.alive")
    await site.run(10)
    assert (site.world.jobs[job].state, site.world.jobs[job].restarts) == ("RUNNING", 1)
    assert "down" in site.steps()
    await site.run(100)
    assert site.healthy


async def test_a_job_that_opted_out_is_left_to_finish(site: Site) -> None:
    job = site.job(node_count=3, comment="hpcli:no-evict", work=30.0)
    await site.second()
    site.fleet.break_node("c2")
    await site.run(20)
    assert (site.world.jobs[job].state, site.world.jobs[job].restarts) == ("RUNNING", 0)
    await site.run(120)
    assert site.healthy


def crashes() -> list[object]:
    return [
        pytest.param(n, before, id=f"{'before' if before else 'after'} entry {n}")
        for n in range(1, 26)
        for before in (True, False)
    ]


@pytest.mark.parametrize(("entry", "before"), crashes())
async def test_a_crash_at_any_entry_of_the_journal_changes_nothing(
    make_site: Callable[..., Site], entry: int, before: bool
) -> None:
    """25 entries reach beyond the end of this repair, as the last assertion shows for each that did not."""
    site = make_site()
    job = site.job(node_count=3)
    await site.second()
    site.fleet.break_node("c2", broken=True)
    site.start(entry, before=before)
    crashed = False
    for _ in range(500):
        with suppress(CrashError):
            await site.second()
        # The crash may have come in a step that runs beside the loop.
        if site.writer.dead:
            crashed = True
            await site.recovery.executor.stop()
            site.start()
    assert site.outcomes == ["returned"], site.steps()
    assert site.healthy
    assert (site.world.jobs[job].state, site.world.jobs[job].restarts) == ("RUNNING", 1)
    assert len(site.fleet.replacements) <= 2
    total = len(site.store.since(0))
    assert crashed or total < entry


async def test_three_faults_open_the_default_breaker_and_nothing_is_touched(make_site: Callable[..., Site]) -> None:
    site = make_site(Policy())
    for node in ("c1", "c2", "c3"):
        site.fleet.break_node(node)
    await site.run(60)
    assert site.steps() == []
    assert site.recovery.journal.ledger.breaker_open
    assert not any(node.drain for node in site.world.nodes.values())
    site.recovery.reset_breaker("root")
    await site.second()
    assert site.recovery.journal.ledger.breaker_open


async def test_the_budget_is_never_exceeded(make_site: Callable[..., Site]) -> None:
    site = make_site(Policy(start_interval=0.0, budget=Budget(2, 0.0), breaker=Breaker(8)), nodes=10)
    for n in range(1, 7):
        site.fleet.break_node(f"c{n}")
    await site.run(400)
    assert site.max_open == 2
    assert site.outcomes == ["returned"] * 6
    assert site.healthy


async def test_without_slurm_nothing_is_done(site: Site) -> None:
    site.gateway.deaf = True
    site.fleet.break_node("c2")
    with pytest.raises(Exception, match="Unable to contact"):
        await site.run(5)
    assert len(site.store.since(0)) == 0


async def test_without_most_agents_nothing_is_done(site: Site) -> None:
    await site.second()
    site.fleet.silent = {f"c{n}" for n in range(1, 6)}
    await site.run(70)
    site.fleet.break_node("c7")
    await site.run(5)
    assert len(site.store.since(0)) == 0
