"""The trust rules at the desk: whose reports count, and for which node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from hpcli.domain.ledger import Entry
from hpcli.domain.report import Acceptance, NodeReport, Sender, report_message, sender_of, to_dict
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


DEBIAN = "127.0.1.1"


@pytest.mark.parametrize(
    ("host", "peer", "believed"),
    [
        (DEBIAN, "10.0.0.1", True),
        ("127.0.0.1", "10.0.0.1", True),
        (DEBIAN, "::ffff:10.0.0.1", True),
        ("::1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", True),
        (DEBIAN, "10.0.0.2", False),
        (DEBIAN, "127.0.0.1", False),
        (DEBIAN, "", False),
        (DEBIAN, "nobody", False),
        ("10.0.0.2", "10.0.0.1", False),
        ("0.0.0.0", "10.0.0.1", False),
        ("128.0.0.1", "10.0.0.1", False),
        ("localhost", "10.0.0.1", False),
        ("", "10.0.0.1", False),
    ],
)
def test_a_loopback_name_counts_only_over_a_connection_from_the_node(host: str, peer: str, believed: bool) -> None:
    found = desk(addresses={"c1": "10.0.0.1", "c2": "10.0.0.2"})
    reports, refused = found.take(claim(host=host), [raw()], NOW, peer)
    assert bool(reports) is believed
    if not believed:
        told = f"{host} (connected from {peer})" if host.startswith("127") else host
        assert refused == [f"report for c1 from {told}, expected 10.0.0.1"]


def test_a_forged_report_over_ones_own_connection() -> None:
    """c2, whose name is a loopback one too, speaks for c1."""
    found = desk(addresses={"c1": "10.0.0.1", "c2": "10.0.0.2"})
    believed, refused = found.take(claim(host=DEBIAN), [raw("c1"), raw("c2")], NOW, "10.0.0.2")
    assert [report.node for report in believed] == ["c2"]
    assert refused == ["report for c1 from 127.0.1.1 (connected from 10.0.0.2), expected 10.0.0.1"]


def test_who_reports_is_remembered_until_another_does_or_the_node_goes() -> None:
    found = desk()
    old, new = Sender("0.1.0", "", 1), Sender("0.2.0", "abc", 2)
    found.take(claim(), [raw("c1"), raw("c2")], NOW, "", old)
    found.take(claim(), [raw("c1", seq=6)], NOW, "", new)
    found.take(claim(), [raw("c2", seq=5)], NOW, "", new)
    assert found.senders == {"c1": new, "c2": old}
    found.know(["c2"], None)
    assert found.senders == {"c2": old}


@pytest.mark.parametrize(("uid", "peer", "noted"), [(AGENT, "10.0.0.1", True), (STRANGER, "10.0.0.1", False)])
def test_whose_reports_are_not_understood_is_noted_if_it_may_speak(uid: int, peer: str, noted: bool) -> None:
    found = desk(addresses={"c1": "10.0.0.1", "c2": "10.0.0.2"})
    far = Sender("0.4.0", "xyz", 4)
    items = [{"node": "c1"}, {"node": "c2"}, {"node": "n9"}, {"node": ["c1"]}, 7, None]
    found.turn_away(claim(uid, "10.0.0.1"), items, peer, far)
    assert found.senders == ({"c1": far} if noted else {})
    assert found.latest == {}


@pytest.mark.parametrize(
    ("message", "sender"),
    [
        ({"protocol": 1, "version": "9"}, Sender("0.1.0", "", 1)),
        ({"protocol": 2, "version": "0.2.0", "release": "abc"}, Sender("0.2.0", "abc", 2)),
        ({"protocol": 3, "version": "0.3.0", "colour": "red"}, Sender("0.3.0", "", 3)),
        ({"protocol": 4, "version": ["x"], "release": "y" * 100}, Sender("", "y" * 64, 4)),
    ],
)
def test_who_sent_it(message: dict[str, object], sender: Sender) -> None:
    assert sender_of(message) == sender
    assert sender.understood is (sender.protocol <= 3)


@pytest.mark.parametrize("protocol", [None, "2", True, 2.0, [2]], ids=str)
def test_who_sent_it_must_say_its_protocol(protocol: object) -> None:
    with pytest.raises(ValueError, match=r"report of protocol .*, expected a number"):
        sender_of({"protocol": protocol} if protocol is not None else {})


def test_a_message_of_either_protocol() -> None:
    one = NodeReport("c1", "b1", "i1", 1, NOW, complete=True)
    assert report_message([one], Sender("0.2.0", "abc", 1)) == {
        "kind": "report",
        "protocol": 1,
        "reports": [to_dict(one)],
    }
    new = report_message([one], Sender("0.2.0", "abc"))
    assert (new["protocol"], new["version"], new["release"]) == (2, "0.2.0", "abc")
    assert sender_of(new) == Sender("0.2.0", "abc", 2)


def test_fields_of_a_newer_protocol_are_passed_over() -> None:
    acceptance = {"repair": "r1", "passed": True, "message": "", "colour": "red"}
    [report], _ = desk().take(claim(), [raw(acceptance=acceptance, mood="good")], NOW)
    assert report.acceptance == Acceptance("r1", True)


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
        raw(acceptance={"repair": "r1", "colour": "red"}),
        raw(acceptance={"repair": 1, "passed": True}),
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
