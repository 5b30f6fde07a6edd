"""The starting files: valid as they stand, valid with everything switched on, and nothing missing in them."""

import re

import pytest

from hpcli.errors import UsageFault
from hpcli.spec.document import read_document
from hpcli.spec.load import parse_spec
from hpcli.spec.model import Spec
from hpcli.spec.rules.provider import NOT_LOCAL
from hpcli.spec.start import PROVIDERS, TEMPLATES, name_in, starting_text

SWITCHED_OFF = re.compile(r"^#(?! [^ ])", re.MULTILINE)
"""A setting that is off: # without a blank, or with the blanks of its indentation."""


def switched_on(provider: str) -> str:
    return SWITCHED_OFF.sub("", starting_text(provider))


def sections_of(provider: str) -> set[str]:
    others = {name for name in (*PROVIDERS, "adopted") if name != provider}
    unused = {str(loc[0]) for loc in NOT_LOCAL if loc[0] != "accounting"} | {"controller", "packages"}
    return set(Spec.model_fields) - others - (unused if provider == "local" else set())


def test_there_is_one_for_each_provider():
    assert {path.stem for path in TEMPLATES.iterdir()} == set(PROVIDERS)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_it_is_valid_as_it_stands(provider):
    spec = parse_spec(starting_text(provider), f"{provider}.yaml")
    assert spec.provider == provider
    assert spec.node_names


@pytest.mark.parametrize("provider", PROVIDERS)
def test_it_is_valid_with_everything_switched_on(provider):
    text = switched_on(provider)
    before, after = (read_document(one, "x").lines for one in (starting_text(provider), text))
    assert len(after) > len(before) + 20
    assert parse_spec(text, f"{provider}.yaml").topology is not None


@pytest.mark.parametrize("provider", PROVIDERS)
def test_it_shows_every_section(provider):
    value = read_document(switched_on(provider), "x").value
    assert isinstance(value, dict)
    assert (
        sections_of(provider) - set(value) - ({"slurm", "pam_slurm_adopt"} if provider == "docker" else set()) == set()
    )


@pytest.mark.parametrize("provider", PROVIDERS)
def test_it_shows_every_key_of_its_provider(provider):
    value = read_document(switched_on(provider), "x").value
    assert isinstance(value, dict)
    section = Spec.model_fields[provider].default
    assert set(value[provider]) == set(type(section).model_fields)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_lines_are_short_enough_to_read(provider):
    assert max(len(line) for line in starting_text(provider).splitlines()) <= 125


def test_another_name():
    text = starting_text("hosts", "lab-2")
    assert (name_in(text), parse_spec(text, "x").name) == ("lab-2", "lab-2")
    assert text.replace("lab-2", name_in(starting_text("hosts")), 1) == starting_text("hosts")


@pytest.mark.parametrize("name", ["Lab", "", "a b", "a\nprovider: docker", "x" * 32, "2", r"\1"])
def test_a_name_that_no_cluster_may_have(name):
    with pytest.raises(UsageFault, match=r"--name: found .*, expected 1 to 31 of a-z"):
        starting_text("local", name)
