"""`hpcli doctor` against recorded Slurm output, and without any Slurm."""

import json

from tests.cli.conftest import Run


def test_all_is_well(hpcli: Run, recorded_slurm: dict[str, str]) -> None:
    found = hpcli("doctor", "--json", env=recorded_slurm)
    findings = json.loads(found.stdout)["data"]
    assert found.returncode == 0, found.stdout + found.stderr
    assert [one["subject"] for one in findings] == ["Slurm", "slurmctld", "gateway"]
    assert "nodes in service" in findings[1]["found"] and findings[2]["found"].startswith("cli: ")


def test_no_slurm_is_a_finding_with_a_next_step(hpcli: Run, tmp_path: object) -> None:
    found = hpcli("doctor", "--json", env={"PATH": str(tmp_path)})
    findings = json.loads(found.stdout)["data"]
    assert found.returncode == 1
    assert (findings[0]["fine"], bool(findings[0]["fix"])) == (False, True)
