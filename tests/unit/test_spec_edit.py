"""Each tests/cases/plan/scale/NAME.json has the edited text, or the error, in NAME.txt.

After a wanted change: HPCLI_UPDATE_GOLDEN=1 pytest tests/unit/test_spec_edit.py, then read the diff.
"""

import difflib
import json
import os
from pathlib import Path

import pytest
import yaml

from hpcli.errors import HpcliError
from hpcli.spec.edit import scale_group
from hpcli.spec.hostlist import expand

CASES = Path(__file__).parent.parent / "cases" / "plan" / "scale"


def outcome(case: Path) -> bytes:
    raw = json.loads(case.read_text())
    try:
        edit = scale_group(raw["text"], "cluster.yaml", raw["group"], raw["count"])
    except HpcliError as error:
        return f"error: {error.subject}: {error.message}\n".encode()
    return f"{edit.before} -> {edit.after}\n{edit.text}".encode()


@pytest.mark.parametrize("case", sorted(CASES.glob("*.json")), ids=lambda case: case.stem)
def test_edit_of(case: Path) -> None:
    wanted = case.with_suffix(".txt")
    found = outcome(case)
    if os.environ.get("HPCLI_UPDATE_GOLDEN"):
        wanted.write_bytes(found)
    assert found == wanted.read_bytes()


@pytest.mark.parametrize("case", sorted(CASES.glob("*.json")), ids=lambda case: case.stem)
def test_at_most_one_line_differs(case: Path) -> None:
    raw = json.loads(case.read_text())
    found = outcome(case)
    if found.startswith(b"error"):
        return
    new = found.decode().partition("\n")[2]
    [group] = [group for group in yaml.safe_load(new)["compute"] if group["name"] == raw["group"]]
    assert group.get("count", len(expand(str(group.get("nodes"))))) == int(found.decode().split()[2])
    marks = [line for line in difflib.ndiff(raw["text"].split("\n"), new.split("\n")) if line[0] in "+-"]
    assert len(marks) == 2
