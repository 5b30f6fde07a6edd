"""The order of a rollout."""

from hypothesis import given
from hypothesis import strategies as st

from hpcli.domain.blueprint import Place, Role
from hpcli.domain.rollout import batch_size, rollout

NODES = tuple(f"c{i}" for i in range(1, 31))
PLACES = (
    Place("ctl", Role.CONTROLLER, "10.0.0.1"),
    Place("login1", Role.LOGIN, "10.0.0.2"),
    *(Place(name, Role.COMPUTE, f"10.0.1.{name[1:]}") for name in NODES),
    Place("spare1", Role.SPARE, "10.0.0.9"),
)
ALL = ("ctl", "login1", *NODES)


def test_controller_canary_batches_login() -> None:
    found = rollout(PLACES, (), ())
    assert (found.controller, found.canary, found.login) == ("ctl", "c1", ("login1",))
    assert found.batches[0] == ("c2", "c3", "c4")
    assert [len(batch) for batch in found.batches] == [3] * 9 + [2]
    assert next(iter(found.turns())) == ("ctl",)
    assert list(found.turns())[-1] == ("login1",)


def test_a_batch_is_as_large_as_asked() -> None:
    assert [len(batch) for batch in rollout(PLACES, (), (), 20).batches] == [20, 9]


def test_a_tenth_but_one_at_least_and_a_hundred_at_most() -> None:
    assert [batch_size(nodes) for nodes in (0, 1, 9, 10, 25, 999, 1000, 65536)] == [1, 1, 1, 1, 2, 99, 100, 100]


def test_nodes_that_have_it_have_proved_it() -> None:
    found = rollout(PLACES, ("ctl", "c1", "c2"), ())
    assert (found.controller, found.canary, found.batches[0]) == ("", "", ("c3", "c4", "c5"))


def test_whoever_is_out_of_touch_comes_last_and_is_no_canary() -> None:
    found = rollout(PLACES, (), ("c1", "login1"))
    assert found.canary == "c2"
    assert found.hosts[-2:] == ("login1", "c1")
    assert (found.login, found.late) == ((), ("login1", "c1"))


def test_a_controller_is_never_late() -> None:
    assert rollout(PLACES, (), ("ctl",)).controller == "ctl"


def test_all_done() -> None:
    assert list(rollout(PLACES, ALL, ()).turns()) == []


@given(st.sets(st.sampled_from(ALL)), st.sets(st.sampled_from(ALL)), st.integers(0, 40))
def test_everybody_once(done: set[str], absent: set[str], size: int) -> None:
    hosts = rollout(PLACES, done, absent, size).hosts
    assert len(hosts) == len(set(hosts))
    assert set(hosts) == set(ALL) - done
