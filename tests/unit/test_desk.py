"""The trust rules at the desk: whose reports count, and for which node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from hpcli.domain.ledger import Entry
from hpcli.domain.report import NodeReport, to_dict
from hpcli.errors import HpcliError
from hpcli.ports import Claim
from hpcli.services.desk import ReportDesk, Trust

AGENT, STRANGER = 500, 501
NOW = 1000.0


@dataclass
class FakeStore:
    """A store that may be full."""

    known: dict[str, int] = field(default_factory=dict)
    full: bool = False

    def append(self, kind: str, body: Mapping[str, object], at: float) -> int:
        raise AssertionError("the desk writes no journal")

    def since(self, entry_id: int) -> Sequence[Entry]:
        return []

    def sequences(self) -> Mapping[str, int]:
        return self.known

    def remember_sequences(self, sequences: Mapping[str, int]) -> None:
        if self.full:
            raise HpcliError("journal", "database or disk is full")
        self.known.update(sequences)


def desk(store: FakeStore | None = None, addresses: Mapping[str, str] | None = None) -> ReportDesk:
    origins = None if addresses is None else {node: frozenset({address}) for node, address in addresses.items()}
    return ReportDesk(Trust(frozenset({"c1", "c2"}), frozenset({0, AGENT}), origins), store or FakeStore())


def claim(uid: int = AGENT, host: str = "10.0.0.1") -> Claim:
    return Claim(b"", uid, uid, host)


def raw(node: str = "c1", seq: object = 5, **other: object) -> dict[str, object]:
    return {**to_dict(NodeReport(node, "b1", "i1", 1, NOW, complete=True)), "seq": seq, **other}


@pytest.mark.parametrize(("uid", "count"), [(0, 1), (AGENT, 1), (STRANGER, 0), (-1, 0), (4_294_967_295, 0)])
def test_only_root_and_the_agents_user_are_believed(uid: int, count: int) -> None:
    found = desk()
    believed, refused = found.take(claim(uid), [raw()], NOW)
    assert (len(believed), len(found.latest)) == (count, count)
    assert refused == ([] if count else [f"report from uid {uid}, expected [0, {AGENT}]"])


def test_a_node_that_is_not_of_the_cluster() -> None:
    believed, refused = desk().take(claim(), [raw("c3"), raw("c1")], NOW)
    assert [report.node for report in believed] == ["c1"]
    assert refused == ["report for 'c3', which is no node of this cluster"]


@pytest.mark.parametrize(
    ("addresses", "host", "refusal"),
    [
        (None, "anywhere", ""),
        ({"c1": "10.0.0.1", "c2": "10.0.0.2"}, "10.0.0.1", ""),
        ({"c1": "10.0.0.1", "c2": "10.0.0.2"}, "10.0.0.2", "report for c1 from 10.0.0.2, expected 10.0.0.1"),
        ({"c2": "10.0.0.2"}, "10.0.0.1", "report for c1 from 10.0.0.1, expected an address that Slurm knows"),
        ({}, "", "report for c1 from , expected an address that Slurm knows"),
    ],
)
def test_a_node_reports_from_its_own_address(addresses: Mapping[str, str] | None, host: str, refusal: str) -> None:
    believed, refused = desk(addresses=addresses).take(claim(host=host), [raw()], NOW)
    assert (bool(believed), refused) == (not refusal, [refusal] if refusal else [])


def test_a_node_that_slurm_has_learnt_of_may_report_and_one_that_it_forgot_may_not() -> None:
    found = desk()
    found.know(["c2"], None)
    assert found.take(claim(), [raw()], NOW)[1] == ["report for 'c1', which is no node of this cluster"]
    found.know(["c1"], None)
    assert found.take(claim(), [raw()], NOW)[1] == []


@pytest.mark.parametrize(("seq", "counts"), [(4, False), (5, False), (6, True), (7, True)])
def test_a_number_must_be_above_the_last_one(seq: int, counts: bool) -> None:
    found = desk()
    found.take(claim(), [raw(seq=5)], NOW)
    believed, refused = found.take(claim(), [raw(seq=seq)], NOW)
    assert bool(believed) is counts
    assert refused == ([] if counts else [f"report {seq} of c1 is not newer than 5"])


def test_the_same_report_twice_in_one_message_counts_once() -> None:
    believed, refused = desk().take(claim(), [raw(seq=5), raw(seq=5), raw(seq=6)], NOW)
    assert ([report.seq for report in believed], len(refused)) == ([5, 6], 1)


def test_numbers_outlive_a_restart_of_the_controller() -> None:
    store = FakeStore()
    desk(store).take(claim(), [raw(seq=5)], NOW)
    believed, refused = desk(store).take(claim(), [raw(seq=5)], NOW)
    assert (believed, refused) == ([], ["report 5 of c1 is not newer than 5"])


@pytest.mark.parametrize(
    "item",
    [
        None,
        [],
        "c1",
        {},
        {"node": "c1"},
        raw(seq=0),
        raw(seq=-1),
        raw(seq=1 << 63),
        raw(seq=1.5),
        raw(seq="5"),
        raw(seq=float("inf")),
        raw(seq=float("nan")),
        raw(node=7),
        raw(boot_id=None),
        raw(at="soon"),
        raw(results=None),
        raw(results=[{}]),
        raw(results=["gpu"]),
        raw(incidents=[{"cause": "x"}]),
        raw(acceptance={"repair": "r1", "passed": True, "colour": "red"}),
    ],
    ids=str,
)
def test_what_is_no_report_is_refused(item: object) -> None:
    found = desk()
    believed, refused = found.take(claim(), [item], NOW)
    assert (believed, found.latest) == ([], {})
    [why] = refused
    assert why.startswith("not a node report: ")


def test_a_full_disk_does_not_stop_reports() -> None:
    found = desk(FakeStore(full=True))
    believed, refused = found.take(claim(), [raw()], NOW)
    assert (len(believed), refused) == (1, [])
    assert found.take(claim(), [raw()], NOW)[0] == [], "within this life of the controller the number is known"


def test_a_silent_agent_says_nothing_any_more() -> None:
    found = desk()
    found.take(claim(), [raw("c1")], NOW)
    found.take(claim(), [raw("c2")], NOW + 50)
    assert set(found.fresh(NOW + 60, timeout=60)) == {"c1", "c2"}
    assert set(found.fresh(NOW + 61, timeout=60)) == {"c2"}
