"""Every check's judgement, case by case, from tests/cases/health."""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from hpcli.health.check import prepare
from hpcli.health.registry import CHECKS, check_names

CASES = Path(__file__).parents[1] / "cases" / "health"
BY_NAME = {check.name: check for check in CHECKS}
FILES = sorted(CASES.glob("*/*.json"))


def build(kind: Any, raw: Any) -> Any:
    """Evidence from JSON, by the types of its fields."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        assert raw.keys() == {field.name for field in fields(kind)}
        return kind(**{name: build(hints[name], value) for name, value in raw.items()})
    if isinstance(raw, list):
        return tuple(build(get_args(kind)[0], item) for item in raw)
    return raw


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_judgement(path: Path) -> None:
    case = json.loads(path.read_text())
    check = BY_NAME[path.parent.name]
    ready = prepare(check, case["parameters"])
    assert ready is not None, "these parameters turn the check off"
    evidence = build(check.evidence, case["evidence"])
    if "before" in case:
        assert check.judge_change
        result = check.judge_change(build(check.evidence, case["before"]), evidence, ready.parameters)
    else:
        result = check.judge(evidence, ready.parameters)
    expected = case["expected"]
    assert (result.check, result.severity, result.remedy) == (check.name, expected["severity"], expected["remedy"])
    assert expected["contains"] in result.message
    if result.severity in ("warn", "critical"):
        assert result.hint, "whoever reads of a fault needs a next step"


@pytest.mark.parametrize("check", sorted(check_names()))
def test_each_check_has_three_cases_and_an_ugly_one(check: str) -> None:
    names = [path.stem for path in FILES if path.parent.name == check]
    assert len(names) >= 3
    assert any(name.startswith("ugly") for name in names)
