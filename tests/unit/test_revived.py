"""Which nodes `up` gives back to Slurm after their machines were off."""

from dataclasses import dataclass, field

from hpcli.domain.node import Node
from hpcli.services.revived import take_back


@dataclass
class FakeClock:
    at: float = 0.0

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


@dataclass
class FakeSlurm:
    """Answers with the next list of nodes each time, and with the last for ever."""

    rounds: list[tuple[Node, ...]]
    updates: list[tuple[str, str]] = field(default_factory=list)

    async def nodes(self, hostlist: str = "") -> tuple[Node, ...]:
        return self.rounds.pop(0) if len(self.rounds) > 1 else self.rounds[0]

    async def update_nodes(self, hostlist: str, state: str, reason: str = "") -> None:
        self.updates.append((hostlist, state))


def node(name: str, states: str, reason: str = "") -> Node:
    return Node(name, frozenset(states.split("+")), reason)


REBOOTED = "Node unexpectedly rebooted"


async def test_those_that_slurm_found_rebooted_and_nobody_elses() -> None:
    nodes = (
        node("c1", "IDLE"),
        node("c2", "DOWN", REBOOTED),
        node("c3", "DOWN", REBOOTED),
        node("c4", "DOWN+DRAIN", REBOOTED),
        node("c5", "DOWN", "ada: do not touch"),
        node("c6", "IDLE+DRAIN", "hpcli:r1:xid79"),
    )
    slurm = FakeSlurm([nodes])
    assert await take_back(slurm, FakeClock()) == "c[2-3]"  # type: ignore[arg-type]
    assert slurm.updates == [("c[2-3]", "resume")]


async def test_waits_for_those_that_are_silent_but_not_for_ever() -> None:
    silent, back = node("c1", "DOWN+NOT_RESPONDING"), node("c1", "DOWN", REBOOTED)
    assert await take_back(FakeSlurm([(silent,), (silent,), (back,)]), FakeClock()) == "c1"  # type: ignore[arg-type]
    clock = FakeClock()
    assert await take_back(FakeSlurm([(silent,)]), clock) == ""  # type: ignore[arg-type]
    assert 20 < clock.at < 22
