"""Each tests/cases/spec/NAME.yaml has the problems in NAME.txt, word for word; no .txt means it is valid.

After a wanted change: HPCLI_UPDATE_GOLDEN=1 pytest tests/unit/test_spec_cases.py, then read the diff.
"""

import os
from pathlib import Path

import pytest

from hpcli.spec.load import parse_spec
from hpcli.spec.problems import SpecInvalid

CASES = Path(__file__).parent.parent / "cases" / "spec"
CHECKS = ("disk.free", "gpu.count", "memory.free")


def problems_of(case: Path) -> str:
    try:
        parse_spec(case.read_text(), "cluster.yaml", known_checks=CHECKS)
    except SpecInvalid as invalid:
        return "".join(f"{problem}\n" for problem in invalid.problems)
    return ""


@pytest.mark.parametrize("case", sorted(CASES.glob("*.yaml")), ids=lambda case: case.stem)
def test_problems_of(case):
    wanted = case.with_suffix(".txt")
    found = problems_of(case)
    if os.environ.get("HPCLI_UPDATE_GOLDEN"):
        wanted.write_text(found) if found else wanted.unlink(missing_ok=True)
    assert found == (wanted.read_text() if wanted.exists() else "")


def test_every_expectation_has_its_case():
    assert all(wanted.with_suffix(".yaml").exists() for wanted in CASES.glob("*.txt"))
