"""What machines say of themselves (recorded from real containers), and what is found wanting."""

from dataclasses import replace
from pathlib import Path

import pytest

from hpcli.domain.blueprint import Place, Role
from hpcli.errors import HpcliError
from hpcli.providers.remote.facts import Facts, complaint, parse_facts
from hpcli.spec.load import parse_spec
from hpcli.spec.model import Spec

CASES = Path(__file__).parent.parent / "cases" / "facts"
SPEC = "name: x\nprovider: hosts\ncompute: [{name: g, nodes: c1, cpus: 4, memory: 2G}]\n"
C1 = Place("c1", Role.COMPUTE, "c1")
GOOD = Facts("debian", "12", "bookworm", "x86_64", "c1", True, "3.11.2", "22.05.8", 9000, 8000, 8, 1000, True, 1000.0)


def spec(text: str = SPEC) -> Spec:
    return parse_spec(text, "cluster.yaml")


@pytest.mark.parametrize("path", sorted(CASES.glob("*.txt")), ids=lambda path: path.stem)
def test_recorded(path: Path) -> None:
    facts = parse_facts(path.read_text())
    assert facts.os_id == "debian" and facts.series == path.stem.split("-")[1]
    assert (facts.slurm != "") == path.stem.startswith("slurm-")
    assert facts.sudo and facts.cpus and facts.memory_mib > 100 and facts.hostname and not facts.systemd


@pytest.mark.parametrize("text", ["", "os_id=debian\n", "bash: command not found", "cpus=many\n"])
def test_what_is_no_list_of_facts(text: str) -> None:
    with pytest.raises(HpcliError, match="expected key=value lines"):
        parse_facts(text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"os_id": "fedora", "os_version": "40"}, "found fedora 40, expected Debian or Ubuntu"),
        ({"codename": "buster", "slurm": ""}, "found debian buster without Slurm, expected Debian 12, 13 or sid"),
        ({"sudo": False}, "found no passwordless sudo, expected root or sudo -n"),
        ({"sudo": False, "uid": 0}, ""),
        ({"disk_free_mib": 500}, "found 500 MiB free below /opt, expected at least 1024"),
        ({"epoch": 1100.0}, "found its clock +100 s off, expected at most 60 s"),
        ({"cpus": 2}, "found 2 CPUs, expected 4 as the spec says"),
        ({"memory_mib": 1900}, "found 1900 MiB of memory, expected 2048 as the spec says"),
    ],
)
def test_complaints(change: dict[str, object], words: str) -> None:
    found = complaint(C1, replace(GOOD, **change), spec(), 1000.0)  # type: ignore[arg-type]
    assert found.startswith(words) and bool(found) == bool(words)


def test_another_series_than_the_spec_wants() -> None:
    wanted = spec(SPEC + 'slurm: {version: "24.11"}\n')
    assert complaint(C1, GOOD, wanted, 1000.0) == "found Slurm 22.05 (bookworm), expected 24.11 as slurm.version says"


def test_a_container_may_claim_any_size_and_a_login_node_has_none() -> None:
    assert complaint(C1, replace(GOOD, cpus=1), spec(), 1000.0, sizes=False) == ""
    assert complaint(Place("login1", Role.LOGIN, "x"), replace(GOOD, cpus=1), spec(), 1000.0) == ""
