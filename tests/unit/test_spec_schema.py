import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml

from hpcli.domain.policy import Breaker, Budget, Policy
from hpcli.spec.care import BreakerSection, BudgetSection, Recovery
from hpcli.spec.load import parse_spec
from hpcli.spec.model import Spec
from hpcli.spec.problems import SpecInvalid
from hpcli.spec.schema import EXAMPLE, json_schema

PAGE = Path(__file__).parents[2] / "docs" / "cluster-yaml.md"


def described_keys(node, schema, path=""):
    """Yield (path, property schema) for every key, `[]` standing for a list position."""
    for branch in (node, *node.get("anyOf", ()), *node.get("allOf", ())):
        if "$ref" in branch:
            yield from described_keys(schema["$defs"][branch["$ref"].rsplit("/", 1)[1]], schema, path)
        if "items" in branch:
            yield from described_keys(branch["items"], schema, f"{path}[]")
        for key, inner in branch.get("properties", {}).items():
            place = f"{path}.{key}" if path else key
            yield place, inner
            yield from described_keys(inner, schema, place)


def page_keys(schema):
    """Those that the page has a row for: what a group's default is like is said where groups are."""
    return [(path, inner) for path, inner in described_keys(schema, schema) if "compute_defaults." not in path]


def test_every_key_has_a_description():
    schema = json_schema()
    found = dict(described_keys(schema, schema))
    assert len(found) > 40
    assert [path for path, inner in found.items() if not inner.get("description")] == []


def test_unknown_keys_are_refused_everywhere():
    schema = json_schema()
    sections = [schema, *schema["$defs"].values()]
    assert all(section["additionalProperties"] is False for section in sections)


def test_it_is_plain_json_with_a_title_and_an_example_that_is_valid():
    schema = json.loads(json.dumps(json_schema()))
    assert schema["title"] == "hpcli cluster.yaml"
    assert schema["required"] == ["name", "compute"]
    assert parse_spec(yaml.safe_dump(EXAMPLE), "example").node_names[-1] == "c8"


def test_sections_have_the_keys_of_the_policy():
    for section, policy in ((Recovery, Policy), (BudgetSection, Budget), (BreakerSection, Breaker)):
        assert list(section.model_fields) == [field.name for field in dataclasses.fields(policy)]


def test_the_page_describes_every_key():
    schema = json_schema()
    page = PAGE.read_text()
    assert [path for path, _ in page_keys(schema) if f"| `{path}` |" not in page] == []


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def whole(example: str) -> str:
    """Make a file of an example that shows some sections only."""
    missing = {
        "name": "name: demo\n",
        "provider": "provider: hosts\n",
        "compute": 'compute: [{name: gpu, nodes: "c[1-8]"}]\n',
    }
    given = set(re.findall(r"^(\w+):", example, re.MULTILINE))
    return example + "".join(line for key, line in missing.items() if key not in given and "name" not in given)


def test_the_examples_of_the_page_are_valid():
    *examples, _ = blocks("yaml")
    specs = [parse_spec(whole(example), "cluster.yaml") for example in examples]
    assert {spec.provider for spec in specs} == {"local", "docker", "hosts", "adopted"}


def test_there_is_an_example_of_every_section():
    *examples, _ = blocks("yaml")
    shown = {key for example in examples for key in re.findall(r"^(\w+):", example, re.MULTILINE)}
    assert set(Spec.model_fields) - shown == set()


def test_the_page_shows_the_real_problems():
    with pytest.raises(SpecInvalid) as invalid:
        parse_spec(blocks("yaml")[-1], "cluster.yaml")
    assert blocks("text") == ["".join(f"{problem}\n" for problem in invalid.value.problems)]


def written(default: object) -> tuple[str, ...]:
    if default is None:
        return ("", "none", "`null`", "all", "`c`")
    if default == {}:
        return ("`{}`",)
    if isinstance(default, float) and default < 1:
        return (f"`{default:.0%}`",)
    if isinstance(default, float):
        return (f"`{default:.0f}s`", f"`{default / 60:.0f}m`")
    return (f"`{json.dumps(default)}`", f"`{default}`")


def test_the_page_shows_the_real_defaults():
    schema = json_schema()
    page = dict(re.findall(r"^\| `([^`]+)` \| *([^|]*?) *\|", PAGE.read_text(), re.MULTILINE))
    plain = {
        path: inner
        for path, inner in page_keys(schema)
        if not isinstance(inner.get("default"), dict) or inner["default"] == {}
    }
    special = {"compute[].memory": "`1G`", "partitions": "one, `main`"}
    wrong = {
        path: page[path]
        for path, inner in plain.items()
        if page[path] != special.get(path)
        and page[path] not in (written(inner["default"]) if "default" in inner else ("required",))
    }
    assert wrong == {}
