"""Folding results and kernel-log lines into what stands on a node."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.domain.incident import (
    MAX_INCIDENTS,
    STRIKE_PAUSE,
    Faults,
    Finding,
    evicts,
    fold_findings,
    fold_results,
    of_boot,
)

GPU = "0000:18:00.0"
LOST = Finding("xid79", "GPU has fallen off the bus", Remedy.REBOOT, "NVRM: Xid ... 79", GPU)
FOLLOWER = Finding("xid45", "clean-up", Remedy.NONE, "NVRM: Xid ... 45", GPU)
STRIKES = {"gpu.count": 1, "munge": 2}
MISSING = CheckResult("gpu.count", Severity.CRITICAL, "GPU 3 missing", Remedy.REBOOT, component="gpu3")
NO_MUNGE = CheckResult("munge", Severity.CRITICAL, "no munged", Remedy.DRAIN)


def causes(faults: Faults) -> list[str]:
    return [incident.cause for incident in faults.incidents]


def rounds(*results: CheckResult, pause: float = 10.0) -> Faults:
    faults = Faults("boot-1", "i-1")
    for number, result in enumerate(results):
        faults = fold_results(faults, (result,), STRIKES, 100.0 + number * pause)
    return faults


@pytest.mark.parametrize(
    ("remedy", "expected"),
    [
        (Remedy.NONE, False),
        (Remedy.DRAIN, False),
        (Remedy.EVICT, True),
        (Remedy.RESET, True),
        (Remedy.REBOOT, True),
        (Remedy.REPLACE, True),
    ],
)
def test_who_is_evicted(remedy: Remedy, expected: bool) -> None:
    assert evicts(remedy) is expected
    assert evicts(remedy, urgent=False) is False


def test_one_strike_and_two() -> None:
    assert causes(rounds(MISSING)) == ["gpu.count"]
    assert causes(rounds(NO_MUNGE)) == []
    assert rounds(NO_MUNGE).awaiting
    twice = rounds(NO_MUNGE, NO_MUNGE)
    assert (causes(twice), twice.awaiting) == (["munge"], False)
    assert twice.incidents[0].first_seen == 100.0


def test_samples_close_together_are_one_strike() -> None:
    assert causes(rounds(*[NO_MUNGE] * 5, pause=STRIKE_PAUSE / 10)) == []
    assert causes(rounds(NO_MUNGE, NO_MUNGE, pause=STRIKE_PAUSE)) == ["munge"]


@pytest.mark.parametrize("severity", [Severity.OK, Severity.WARN])
def test_a_passing_check_clears_its_fault(severity: Severity) -> None:
    fine = CheckResult("munge", severity, "fine")
    assert causes(rounds(NO_MUNGE, NO_MUNGE, fine)) == []
    assert causes(rounds(NO_MUNGE, fine, NO_MUNGE)) == []


def test_unknown_neither_raises_nor_clears() -> None:
    unknown = CheckResult("munge", Severity.UNKNOWN, "hangs")
    assert causes(rounds(unknown, unknown, unknown)) == []
    assert causes(rounds(NO_MUNGE, NO_MUNGE, unknown)) == ["munge"]


def test_a_fault_that_grows_keeps_its_beginning() -> None:
    worse = replace(MISSING, message="GPU 3, 5 missing", component="gpu3,gpu5")
    faults = rounds(MISSING, worse)
    assert [(i.component, i.first_seen) for i in faults.incidents] == [("gpu3,gpu5", 100.0)]


def test_a_log_line_is_latched_for_the_boot_of_the_machine() -> None:
    faults = fold_findings(Faults("boot-1", "i-1"), [LOST], 5.0)
    fine = replace(MISSING, severity=Severity.OK)
    faults = fold_results(faults, [fine], STRIKES, 60.0)
    assert [(i.cause, i.latched, i.evict) for i in faults.incidents] == [("xid79", True, True)]
    assert of_boot(faults, "boot-1", "i-1") is faults
    assert of_boot(faults, "boot-2", "i-1").incidents == ()
    assert of_boot(faults, "boot-1", "i-2").incidents == ()


def test_followers_and_known_noise_are_left_out() -> None:
    assert causes(fold_findings(Faults(), [LOST, FOLLOWER], 5.0)) == ["xid79"]
    assert causes(fold_findings(Faults(), [FOLLOWER], 5.0)) == []


def test_one_fault_from_both_sides_is_listed_once_per_cause_and_component() -> None:
    faults = rounds(MISSING, MISSING)
    other = replace(LOST, component="0000:3b:00.0")
    for line in ("a", "b", "b", "c", "d"):
        faults = fold_findings(faults, [replace(LOST, line=line), other], 200.0)
    assert [(i.cause, i.component) for i in faults.incidents] == [
        ("gpu.count", "gpu3"),
        ("xid79", GPU),
        ("xid79", "0000:3b:00.0"),
    ]
    assert faults.incidents[1].evidence == ("a", "b", "c")


def test_the_worst_comes_first() -> None:
    soft = Finding("edac_ue", "", Remedy.DRAIN, "x")
    hard = Finding("xid64", "", Remedy.REPLACE, "x")
    remap = Finding("xid63", "", Remedy.RESET, "x", urgent=False)
    faults = fold_findings(rounds(MISSING), [soft, remap, hard], 50.0)
    assert causes(faults) == ["xid64", "gpu.count", "xid63", "edac_ue"]


def test_a_line_that_asks_for_more_wins() -> None:
    mild = Finding("xid154", "", Remedy.DRAIN, "drain", GPU)
    grave = replace(mild, remedy=Remedy.REBOOT, line="reboot")
    for order in ([mild, grave], [grave, mild]):
        (incident,) = fold_findings(Faults(), order, 1.0).incidents
        assert (incident.remedy, incident.evict, len(incident.evidence)) == (Remedy.REBOOT, True, 2)


def test_a_flood_stays_small_and_keeps_the_worst() -> None:
    flood = [Finding("blk_io", "", Remedy.DRAIN, "x" * 9000, f"sd{n}") for n in range(500)]
    faults = fold_findings(Faults(), [*flood, LOST, *flood], 1.0)
    assert len(faults.incidents) == MAX_INCIDENTS
    assert causes(faults)[0] == "xid79"
    assert len(repr(faults.incidents)) < 20_000


def test_control_characters_do_not_reach_a_report() -> None:
    nasty = Finding("xid79", "m", Remedy.REBOOT, "a\x1b[31m\nb\x00", "c\n")
    (incident,) = fold_findings(Faults(), [nasty], 1.0).incidents
    assert (incident.evidence, incident.component) == (("a?[31m?b?",), "c?")


RESULTS = st.builds(
    CheckResult,
    check=st.sampled_from(["gpu.count", "munge"]),
    severity=st.sampled_from(Severity),
    message=st.text(max_size=5),
    remedy=st.sampled_from(Remedy),
)
FINDINGS = st.builds(
    Finding,
    cause=st.sampled_from(["xid79", "xid45"]),
    meaning=st.just(""),
    remedy=st.sampled_from(Remedy),
    line=st.text(max_size=5),
    component=st.sampled_from([GPU, ""]),
)


@given(st.lists(st.one_of(RESULTS, FINDINGS), max_size=30))
def test_never_twice_and_a_latch_never_lets_go(events: list[CheckResult | Finding]) -> None:
    faults, latched = Faults("b", "i"), set[tuple[str, str]]()
    for at, event in enumerate(events):
        if isinstance(event, Finding):
            faults = fold_findings(faults, [event], at * 10.0)
        else:
            faults = fold_results(faults, [event], STRIKES, at * 10.0)
        keys = [(i.cause, i.component) for i in faults.incidents]
        assert len(keys) == len(set(keys))
        assert latched <= set(keys)
        latched = {(i.cause, i.component) for i in faults.incidents if i.latched}
