"""docs/health-checks.md says what the checks are and do."""

import re
from pathlib import Path

import yaml

from hpcli.health.check import Context, select
from hpcli.health.kernel_log import load_table
from hpcli.health.registry import CHECKS

DOC = (Path(__file__).parents[2] / "docs" / "health-checks.md").read_text()
ROWS = dict(re.findall(r"^\| `([a-z._]+)` \| (.*) \|$", DOC, re.MULTILINE))


def test_every_check_has_its_row() -> None:
    documented = [name for name in ROWS if "." in name or name in ("munge", "swap")]
    assert documented == [check.name for check in CHECKS]
    for check in CHECKS:
        cells = [cell.strip() for cell in ROWS[check.name].split("|")]
        assert cells[0] == check.detects
        assert cells[-1] in (str(check.strikes), "")


def test_the_example_of_overrides_is_accepted() -> None:
    example = yaml.safe_load(DOC.split("```yaml\n")[1].split("```")[0])["health"]
    chosen = {ready.name: ready.parameters for ready in select(CHECKS, example["checks"], context=Context.CONTINUOUS)}
    assert chosen["disk.free"].critical == 90 and "time.sync" not in chosen
    load_table(example["kernel_log"])


def test_every_default_is_documented() -> None:
    for check in CHECKS:
        for name in check.parameters.__dataclass_fields__:
            assert f"`{name}`" in ROWS[check.name], f"{check.name}.{name}"
