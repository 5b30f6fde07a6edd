"""What kernel-log lines mean, from tests/cases/kernel_log; and that no line can cost much."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpcli.domain.check import Remedy
from hpcli.domain.incident import evicts
from hpcli.errors import UsageFault
from hpcli.health.kernel_line import NEVER_ACT
from hpcli.health.kernel_log import TABLE, load_table

CASES = Path(__file__).parents[1] / "cases" / "kernel_log"
PATTERNS: list[dict[str, Any]] = yaml.safe_load((CASES / "patterns.yaml").read_text())
LINES: list[dict[str, Any]] = yaml.safe_load((CASES / "lines.yaml").read_text())
RAW: dict[str, Any] = yaml.safe_load(TABLE.read_text())
DEFAULT = load_table({})

EXPECTED = {
    "none": "none",
    "requeue_job": "none",
    "drain": "drain",
    "reset_gpu": "reset",
    "reboot": "reboot",
    "replace": "replace",
}


@pytest.mark.parametrize("case", PATTERNS, ids=lambda case: str(case["id"]))
def test_each_pattern_finds_its_line(case: dict[str, Any]) -> None:
    found = DEFAULT.match(case["line"])
    assert found
    assert (found.cause, found.remedy, found.component) == (case["cause"], case["remedy"], case["component"])


@pytest.mark.parametrize("case", PATTERNS, ids=lambda case: str(case["id"]))
def test_no_pattern_takes_the_near_line(case: dict[str, Any]) -> None:
    assert DEFAULT.match(case["not"]) is None


def test_every_pattern_has_a_case() -> None:
    assert {case["id"] for case in PATTERNS} == {row["id"] for row in RAW["kernel_log"]}
    assert len(PATTERNS) == 55


@pytest.mark.parametrize("case", LINES, ids=lambda case: str(case["name"]))
def test_lines(case: dict[str, Any]) -> None:
    found = DEFAULT.match(case["line"])
    if case["cause"] is None:
        assert found is None
        return
    assert found
    assert (found.cause, found.remedy, found.component) == (case["cause"], case["remedy"], case["component"])
    assert evicts(found.remedy, found.urgent) is case["evict"]


@pytest.mark.parametrize("row", RAW["xids"], ids=lambda row: str(row["xid"]))
def test_each_xid_asks_for_what_the_table_says(row: dict[str, Any]) -> None:
    found = DEFAULT.match(f"NVRM: Xid (PCI:0000:18:00): {row['xid']}, pid=1, name=python, some text")
    assert found
    assert (found.cause, found.remedy, found.meaning) == (f"xid{row['xid']}", EXPECTED[row["action"]], row["meaning"])


def test_all_76_xids_are_there() -> None:
    assert len(DEFAULT.xids) == 76


@pytest.mark.parametrize("number", sorted(NEVER_ACT))
def test_user_faults_and_followers_never_act(number: int) -> None:
    assert DEFAULT.xids[number].remedy is Remedy.NONE
    with pytest.raises(UsageFault, match=f"{number}: found remedy reboot, expected none"):
        load_table({str(number): {"remedy": "reboot"}})


def test_a_site_overrides_rows() -> None:
    table = load_table({"79": {"remedy": "drain"}, "63": {"remedy": "none"}, "blk_io": {"remedy": "evict"}})
    lost = table.match("NVRM: Xid (PCI:0000:18:00): 79, x")
    remapped = table.match("NVRM: Xid (PCI:0000:18:00): 63, x")
    broken = table.match("blk_update_request: I/O error, dev sda, sector 1")
    assert lost and lost.remedy is Remedy.DRAIN
    assert remapped and remapped.remedy is Remedy.NONE
    assert broken and broken.remedy is Remedy.EVICT and evicts(broken.remedy, broken.urgent)
    noise = load_table({"mlx5_access_reg": {"remedy": "drain"}, "nvidia_sxid": {"remedy": "drain"}})
    mild = noise.match("nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32")
    assert mild and (mild.cause, mild.remedy) == ("sxid12028", Remedy.NONE)


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        ({"nvme_ded": {"remedy": "drain"}}, "found 'nvme_ded'", "did you mean nvme_dead?"),
        ({"709": {"remedy": "drain"}}, "found '709'", "did you mean 79?"),
        ({"nvidia_xid": {"remedy": "drain"}}, "found 'nvidia_xid'", ""),
        ({"79": {"remedy": "rebot"}}, "found remedy 'rebot'", "did you mean reboot?"),
        ({"79": {"remedy": 3}}, "found remedy 3", ""),
        ({"79": {"action": "reboot"}}, "found ['action'], expected remedy alone", ""),
        ({"79": {}}, "expected remedy alone", ""),
    ],
)
def test_impossible_overrides_are_refused(overrides: dict[str, dict[str, object]], message: str, hint: str) -> None:
    with pytest.raises(UsageFault) as refused:
        load_table(overrides)
    assert message in refused.value.message
    assert hint in refused.value.hint


def hostile_lines(line: str) -> list[str]:
    """8 KiB made of a line's own pieces, so that a regex begins often and never ends."""
    words = re.findall(r"\S+\s*", line)
    pieces = (
        {line[:cut] for cut in range(1, len(line), 3)} | set(words) | {line[:-3], line.replace(" ", ""), "a:", "\\S("}
    )
    whole = [(piece * 8192)[:8192] for piece in pieces if piece]
    begun = [(line[:cut] + filler * 8192)[:8192] for cut in range(4, len(line), 9) for filler in ("a", ":", " a", "0")]
    doubled = [(first + second * 8192)[:8192] for first in words[:3] for second in words]
    return whole + begun + doubled


@pytest.mark.parametrize("case", PATTERNS, ids=lambda case: str(case["id"]))
def test_no_hostile_line_costs_50_ms(case: dict[str, Any]) -> None:
    worst = 0.0
    for line in hostile_lines(case["line"]):
        start = time.process_time()
        DEFAULT.match(line)
        worst = max(worst, time.process_time() - start)
    assert worst < 0.050


def test_healthy_noise_costs_less_than_a_tenth_of_a_millisecond_a_line() -> None:
    noise = [case["not"] for case in PATTERNS] * 20
    start = time.process_time()
    for line in noise:
        DEFAULT.match(line)
    assert (time.process_time() - start) / len(noise) < 0.0001
