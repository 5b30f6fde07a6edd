"""The services behind queue, nodes, cancel and logs, on the simulator."""

import asyncio
from pathlib import Path

import pytest

from hpcli.domain.node import Node
from hpcli.errors import JobFailed, NotFound
from hpcli.services.jobs import find_active, queue, raise_if_failed
from hpcli.services.logs import Follower, Tail, read_logs
from hpcli.services.nodes import list_nodes, state_of
from hpcli.sim.clock import SimClock
from hpcli.sim.model import SimNode
from hpcli.sim.slurm import SimGateway
from hpcli.sim.world import World


@pytest.fixture
def clock() -> SimClock:
    return SimClock()


@pytest.fixture
def gateway(clock: SimClock) -> SimGateway:
    return SimGateway(World([SimNode(f"c{n}", gpus=2) for n in range(1, 5)], clock), user="ada")


class TestQueue:
    async def test_waiting_tasks_of_an_array_are_one_row(self, gateway: SimGateway) -> None:
        array = await gateway.submit(["--array=0-5,8", "-c4", "-J", "sweep", "--wrap", "sleep 60"])
        rows = await queue(gateway)
        assert [row.job for row in rows] == [*(f"{array}_{n}" for n in range(4)), f"{array}_[4-5,8]"]
        assert [row.where for row in rows] == ["c1", "c2", "c3", "c4", "(Resources)"]

    async def test_only_mine_and_only_what_has_not_ended(self, gateway: SimGateway) -> None:
        await gateway.submit(["--wrap", "true"])
        mine = await gateway.submit(["--wrap", "sleep 60"])
        assert [row.job for row in await queue(gateway, "ada")] == [mine]
        assert await queue(gateway, "bob") == ()

    async def test_one_round_trip(self, gateway: SimGateway) -> None:
        await queue(gateway)
        assert gateway.calls == ["jobs"]

    async def test_finding_jobs_by_id_task_and_array(self, gateway: SimGateway) -> None:
        array = await gateway.submit(["--array=1-2", "--wrap", "sleep 60"])
        single = await gateway.submit(["--wrap", "sleep 60"])
        found = await find_active(gateway, [f"{array}_2", single])
        assert {job.label for job in found} == {f"{array}_2", single}
        assert len(await find_active(gateway, [array])) == 2
        with pytest.raises(NotFound, match="9,8"):
            await find_active(gateway, [single, "9", "8"])


class TestNodes:
    async def test_nodes_in_the_same_state_are_one_row(self, gateway: SimGateway) -> None:
        await gateway.submit(["-w", "c1", "--gpus-per-node=1", "--wrap", "sleep 60"])
        await gateway.update_nodes("c[3-4]", "drain", "bad")
        rows = await list_nodes(gateway)
        assert [(r.state, r.nodes, r.node_count, r.gpus_alloc, r.gpus, r.reason) for r in rows] == [
            ("idle", "c2", 1, 0, 2, ""),
            ("mixed", "c1", 1, 1, 2, ""),
            ("drained", "c[3-4]", 2, 0, 4, "bad"),
        ]

    @pytest.mark.parametrize(
        ("states", "word"),
        [
            ("IDLE", "idle"),
            ("MIXED DRAIN", "draining"),
            ("IDLE DRAIN COMPLETING", "draining"),
            ("IDLE DRAIN", "drained"),
            ("DOWN DRAIN NOT_RESPONDING", "drained+down*"),
            ("DOWN", "down"),
            ("IDLE COMPLETING", "completing"),
            ("MIXED PLANNED", "mixed+planned"),
            ("IDLE CLOUD POWERED_DOWN", "idle+cloud+powered_down"),
            ("UNKNOWN NOT_RESPONDING", "unknown*"),
        ],
    )
    def test_state_words(self, states: str, word: str) -> None:
        assert state_of(Node("c1", frozenset(states.split()))) == word


class TestTail:
    def test_grows_is_truncated_and_is_replaced(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        tail = Tail(log)
        assert tail.read() == ""
        log.write_text("one\n")
        assert tail.read() == "one\n"
        with log.open("a") as more:
            more.write("two\n")
        assert (tail.read(), tail.read()) == ("two\n", "")
        log.write_text("new\n")
        assert tail.read() == "new\n"
        other = tmp_path / "other"
        other.write_text("replaced, and longer\n")
        other.rename(log)
        assert tail.read() == "replaced, and longer\n"

    def test_a_letter_written_in_two_halves(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_bytes("ü".encode()[:1])
        tail = Tail(log)
        assert tail.read() == ""
        log.write_bytes("ü".encode() + b"\xff")
        assert tail.read() == "ü\ufffd"

    @pytest.mark.parametrize(("lines", "rest"), [(0, "1\n2\n3\n"), (1, "3\n"), (2, "2\n3\n"), (9, "1\n2\n3\n")])
    def test_starts_some_lines_before_the_end(self, tmp_path: Path, lines: int, rest: str) -> None:
        log = tmp_path / "log"
        log.write_text("1\n2\n3\n")
        tail = Tail(log)
        tail.skip_to_last(lines)
        assert tail.read() == rest

    def test_last_lines_of_a_large_file(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_text("".join(f"{n:07}\n" for n in range(400_000)))
        tail = Tail(log)
        tail.skip_to_last(200_000)
        assert tail.read().startswith("0200000\n")


class Following:
    """A follower at work, and what it has written."""

    def __init__(self, gateway: SimGateway, clock: SimClock, job: str) -> None:
        self.text: list[str] = []
        self.notes: list[str] = []
        self.clock = clock
        follower = Follower(gateway, clock, job, lambda _, text: self.text.append(text), self.notes.append)
        self.task = asyncio.create_task(follower.follow(0))


class TestLogs:
    async def submit(self, gateway: SimGateway, cwd: Path, wrap: str = "sleep 60", *args: str) -> str:
        return await gateway.submit([*args, "-o", "log-%j", "--wrap", wrap], cwd=str(cwd))

    async def test_last_lines(self, gateway: SimGateway, tmp_path: Path) -> None:
        job = await self.submit(gateway, tmp_path)
        (tmp_path / f"log-{job}").write_text("a\nb\nc\n")
        (found,) = await read_logs(gateway, job, 2)
        assert (found.text, found.path) == ("b\nc\n", str(tmp_path / f"log-{job}"))

    async def test_nothing_written_yet(self, gateway: SimGateway, tmp_path: Path) -> None:
        job = await self.submit(gateway, tmp_path, "sleep 1", "-H")
        with pytest.raises(NotFound) as refused:
            await read_logs(gateway, job, 10)
        assert "PENDING (JobHeldUser)" in refused.value.hint

    async def test_unknown_job(self, gateway: SimGateway) -> None:
        with pytest.raises(NotFound, match="MinJobAge"):
            await read_logs(gateway, "99", 10)

    async def test_follows_through_a_requeue_to_the_end(
        self, gateway: SimGateway, clock: SimClock, tmp_path: Path
    ) -> None:
        job = await self.submit(gateway, tmp_path)
        log = tmp_path / f"log-{job}"
        following = Following(gateway, clock, job)
        log.write_text("first try\n")
        await clock.advance(3)
        await gateway.requeue([job])
        await clock.advance(3)
        await gateway.release([job])
        log.write_text("second\n")
        await clock.advance(30)
        assert not following.task.done()
        with log.open("a") as more:
            more.write("last words\n")
        await clock.advance(60)
        (ended,) = await following.task
        assert (ended.state, "".join(following.text)) == ("COMPLETED", "first try\nsecond\nlast words\n")
        assert following.notes == [f"job {job} was requeued (restart 1)"]

    async def test_waits_for_a_job_that_has_not_started(
        self, gateway: SimGateway, clock: SimClock, tmp_path: Path
    ) -> None:
        await gateway.submit(["-N4", "-c4", "--wrap", "sleep 10"])
        job = await self.submit(gateway, tmp_path, "sleep 5")
        following = Following(gateway, clock, job)
        await clock.advance(30)
        assert (await following.task)[0].state == "COMPLETED"
        assert following.notes == [f"job {job} is PENDING (Resources); waiting for it to start"]

    async def test_a_controller_that_is_away_ends_nothing(
        self, gateway: SimGateway, clock: SimClock, tmp_path: Path
    ) -> None:
        job = await self.submit(gateway, tmp_path, "sleep 20; exit 3")
        following = Following(gateway, clock, job)
        await clock.advance(1)
        gateway.deaf = True
        await clock.advance(5)
        gateway.deaf = False
        await clock.advance(30)
        (ended,) = await following.task
        assert "still following" in following.notes[0]
        with pytest.raises(JobFailed, match="FAILED"):
            raise_if_failed(ended)
