"""Following and waiting while the way to the cluster is away."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from hpcli.errors import HpcliError, JobFailed, NotFound, TimedOut, Unreachable
from hpcli.services.logs import Follower
from hpcli.services.patience import LONGEST_PAUSE, Patience
from hpcli.services.submission import parse_submission
from hpcli.services.waiting import wait_for_end, without_wait
from hpcli.sim.clock import SimClock
from hpcli.sim.model import SimNode
from hpcli.sim.slurm import SimGateway
from hpcli.sim.world import World

AWAY = Unreachable("host login", "connection refused by login port 22")


class QuickClock:
    """Time passes only where somebody sleeps; `then` is called after each."""

    def __init__(self, then: Callable[[float], None] = lambda _: None) -> None:
        self.slept: list[float] = []
        self._then = then

    def now(self) -> float:
        return sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._then(self.now())


def answers(*words: str | HpcliError) -> Callable[[], Awaitable[str]]:
    left = list(words)

    async def answer() -> str:
        word = left.pop(0)
        if isinstance(word, HpcliError):
            raise word
        return word

    return answer


class TestPatience:
    async def test_pauses_grow_to_a_limit_and_begin_anew(self) -> None:
        clock, notes = QuickClock(), list[str]()
        patience = Patience(clock, notes.append, "still following")
        ask = answers(*[AWAY] * 9, "x", AWAY, TimedOut("host login: sh", "no answer"), "y")
        assert [await patience.ask(ask) for _ in range(13)] == [None] * 9 + ["x", None, None, "y"]
        assert clock.slept[:9] == [0.25, 0.5, 1, 2, 4, 8, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
        assert clock.slept[9:] == [0.25, 0.5]
        away = "host login: connection refused by login port 22; still following"
        assert notes == [away, away, "host login: sh: no answer; still following"]

    async def test_what_is_no_outage_ends_it(self) -> None:
        with pytest.raises(NotFound):
            await Patience(QuickClock(), print, "").ask(answers(NotFound("x", "y")))


class FilesAway:
    """Output files on a login node that is away at times."""

    def __init__(self, *told: str | None) -> None:
        self.told = list(told)

    async def last(self, paths: Sequence[str], lines: int) -> Mapping[str, str]:
        return {}

    def watch(self, paths: Sequence[str], lines: int) -> None:
        pass

    async def news(self, seconds: float) -> Sequence[tuple[str, str]]:
        word = self.told.pop(0) if self.told else ""
        if word is None:
            raise AWAY
        return [("/log", word)] if word else []


async def ended_job(script: str) -> tuple[SimGateway, str]:
    clock = SimClock()
    gateway = SimGateway(World([SimNode("c1")], clock), user="ada")
    job = await gateway.submit(["--wrap", script])
    await clock.advance(30)
    return gateway, job


async def test_the_last_words_are_waited_for() -> None:
    gateway, job = await ended_job("sleep 1")
    seen, notes = list[str](), list[str]()
    files = FilesAway("one\n", None, None, "two\n")
    follower = Follower(gateway, QuickClock(), job, lambda _, text: seen.append(text), notes.append, files)
    (ended,) = await follower.follow(5)
    assert (ended.state, seen, len(notes)) == ("COMPLETED", ["one\n", "two\n"], 1)


class TestWaiting:
    @pytest.mark.parametrize(("script", "fails"), [("sleep 1", False), ("sleep 1; exit 3", True)])
    async def test_through_an_outage(self, script: str, fails: bool) -> None:
        gateway, job = await ended_job(script)
        gateway.deaf = True
        notes = list[str]()
        clock = QuickClock(lambda now: setattr(gateway, "deaf", now < 60))
        if fails:
            with pytest.raises(JobFailed):
                await wait_for_end(gateway, clock, job, notes.append)
        else:
            await wait_for_end(gateway, clock, job, notes.append)
        assert len(notes) == 1 and f"still waiting for job {job}" in notes[0]

    @pytest.mark.parametrize(
        ("line", "passed"),
        [
            (["-W", "-N", "2", "x.sh", "-W"], ["--job-name=x.sh", "-N", "2", "/dev/stdin", "-W"]),
            (["--wait", "--", "sh", "-W"], ["--wrap", "sh -W"]),
            (["-N2", "--wait"], ["-N2"]),
            (["-N2", "--", "-W"], ["-N2", "--wrap", "-W"]),
        ],
    )
    def test_sbatch_is_not_told_to_wait(self, line: list[str], passed: list[str]) -> None:
        submission = parse_submission(line, (), ())
        assert list(without_wait(submission, submission.carried())) == passed
