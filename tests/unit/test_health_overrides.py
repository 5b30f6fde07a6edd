"""Overrides of checks and kernel-log rows are judged with the spec, each with its line."""

import pytest

from hpcli.health.overrides import fault_of
from hpcli.spec.load import parse_spec
from hpcli.spec.problems import SpecInvalid

SPEC = """name: demo
compute: [{name: a, count: 1}]
health:
  checks:
    disk.free: {critcal: 95}
    gpu.count: {expected: many}
    munge: {enabled: false}
  kernel_log:
    "79": {remedy: rebot}
    "31": {remedy: reboot}
    nvme_deed: {remedy: drain}
    ext4_error: {remedy: drain}
"""


def test_every_impossible_override_is_a_problem_of_its_line() -> None:
    with pytest.raises(SpecInvalid) as caught:
        parse_spec(SPEC, "cluster.yaml", health_fault=fault_of)
    found = {(problem.line, problem.where): problem.suggestion for problem in caught.value.problems}
    assert found == {
        (5, 'health.checks["disk.free"]'): "critical",
        (6, 'health.checks["gpu.count"]'): "",
        (9, 'health.kernel_log["79"]'): "reboot",
        (10, 'health.kernel_log["31"]'): "",
        (11, "health.kernel_log.nvme_deed"): "nvme_dead",
    }


def test_sound_overrides_are_taken() -> None:
    text = SPEC.replace("critcal", "critical").replace("many", "8").replace("rebot", "reboot")
    text = "\n".join(line for line in text.splitlines() if "31" not in line and "deed" not in line)
    assert parse_spec(text, "cluster.yaml", health_fault=fault_of).health.kernel_log["79"] == {"remedy": "reboot"}
