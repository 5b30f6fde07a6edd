"""Each tests/cases/plan/difference/NAME.yaml has the changes in NAME.txt: sign, what, before, after, cost, hosts.

After a wanted change: HPCLI_UPDATE_GOLDEN=1 pytest tests/unit/test_difference.py, then read the diff.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hpcli.domain.blueprint import Blueprint, ConfigFile, Place, Role
from hpcli.domain.change import Change, Disruption, Part
from hpcli.domain.difference import difference, merged

CASES = Path(__file__).parent.parent / "cases" / "plan" / "difference"
SECRETS = ("slurmdbd.conf",)


def blueprint(text: str, name: str = "slurm.conf", version: str = "22.05", nodes: str = "") -> Blueprint:
    places = (Place("ctl", Role.CONTROLLER, "10.0.0.1"), *(Place(n, Role.COMPUTE, n) for n in nodes.split()))
    file = ConfigFile(f"/etc/slurm/{name}", text, secret=name in SECRETS)
    return Blueprint("it", "hosts", version, "", places, {place.name: (file,) for place in places})


def told(change: Change) -> str:
    pair = f"{change.before or '-'} -> {change.after or '-'}"
    return f"{change.what} | {pair} | {change.disruption.words} | {change.hosts or '-'} | {change.part}\n"


@pytest.mark.parametrize("case", sorted(CASES.glob("*.yaml")), ids=lambda case: case.stem)
def test_changes_of(case: Path) -> None:
    raw = yaml.safe_load(case.read_text())
    nodes = "c1 c2 c3 c4"
    sides = [blueprint(raw[side], raw["file"], raw["version"], nodes) for side in ("before", "after")]
    found = "".join(told(change) for change in difference(*sides))
    wanted = case.with_suffix(".txt")
    if os.environ.get("HPCLI_UPDATE_GOLDEN"):
        wanted.write_text(found)
    assert found == wanted.read_text()


def test_every_expectation_has_its_case() -> None:
    assert all(wanted.with_suffix(".yaml").exists() for wanted in CASES.glob("*.txt"))


class TestMachines:
    OLD = blueprint("", nodes="c1 c2")

    def test_of_no_cluster_at_all(self) -> None:
        changes = difference(None, self.OLD)
        assert [(change.what, change.before) for change in changes][:2] == [("cluster it", ""), ("machine ctl", "")]

    def test_added_gone_and_moved(self) -> None:
        new = blueprint("", nodes="c2 c3")
        new = replace(new, places=(new.places[0], replace(new.places[1], address="10.0.9.9"), new.places[2]))
        changes = {change.what: change for change in difference(self.OLD, new)}
        assert changes["machine c3"].disruption is Disruption.NONE
        assert changes["machine c1"].disruption is Disruption.DRAIN
        assert (changes["machine c2"].disruption, changes["machine c2"].after) == (Disruption.REBUILD, "10.0.9.9")

    def test_a_spare_machine_disturbs_nobody(self) -> None:
        spare = Place("spare-1", Role.SPARE, "10.0.0.9")
        more = replace(self.OLD, places=(*self.OLD.places, spare))
        other = replace(self.OLD, places=(*self.OLD.places, replace(spare, address="10.0.0.8")))
        for before, after in ((self.OLD, more), (more, self.OLD), (more, other)):
            assert [change.disruption for change in difference(before, after)] == [Disruption.NONE]

    def test_another_slurm_on_the_same_machines_and_on_new_ones(self) -> None:
        [change] = difference(self.OLD, replace(self.OLD, slurm_version="24.11"))
        assert (change.what, change.disruption, change.part) == ("Slurm", Disruption.RESTART, Part.SLURM)
        new = tuple(replace(place, base="another") for place in self.OLD.places)
        changes = difference(self.OLD, replace(self.OLD, slurm_version="24.11", places=new))
        assert changes[0].disruption is Disruption.REBUILD


class TestFiles:
    def test_the_same_change_on_many_machines_is_one_line(self) -> None:
        old, new = (blueprint(text, "users.tsv", nodes="c1 c2 c3") for text in ("a\n", "b\n"))
        [change] = difference(old, new)
        assert (change.what, change.hosts) == ("file users.tsv", "c[1-3],ctl")

    def test_mode_and_owner_count(self) -> None:
        old = blueprint("a\n", "users.tsv")
        new = replace(old, files={"ctl": (replace(old.files["ctl"][0], mode=0o600),)})
        [change] = difference(old, new)
        assert (change.before, change.after) == ("0644 root:root", "0600 root:root")

    def test_nothing_of_a_secret_is_shown(self) -> None:
        old, new = (blueprint(f"StoragePass={word}\n", "slurmdbd.conf") for word in ("hunter1", "hunter2"))
        [change] = difference(old, new)
        assert "hunter" not in repr(change)

    def test_a_hand_edit_on_one_machine_alone_is_seen(self) -> None:
        old = blueprint("MessageTimeout=10\n", nodes="c1 c2")
        edited = replace(old.files["c2"][0], text="MessageTimeout=99\n")
        [change] = difference(replace(old, files={**old.files, "c2": (edited,)}), old)
        assert (change.what, change.before, change.after) == ("parameter MessageTimeout", "99", "10")


def test_changes_from_two_states_are_told_once_and_nothing_is_lost() -> None:
    first, second, goal = (
        blueprint(f"MessageTimeout={n}\n{more}") for n, more in ((1, ""), (2, "Prolog=/x\n"), (3, ""))
    )
    changes = merged([difference(first, goal), difference(second, goal)])
    assert [(change.what, change.before) for change in changes] == [
        ("parameter MessageTimeout", "1"),
        ("parameter Prolog", "/x"),
    ]


def test_ten_thousand_nodes_in_good_time() -> None:
    def large(count: int) -> Blueprint:
        nodes = f"c[1-{count}]"
        address = f"10.0.[1-100].[1-{count // 100}]"
        conf = f"NodeName={nodes} NodeAddr={address} CPUs=64\nPartitionName=main Nodes={nodes}\n"
        names = [f"c{number}" for number in range(1, count + 1)]
        places = (Place("ctl", Role.CONTROLLER, "a"), *(Place(name, Role.COMPUTE, name) for name in names))
        file = ConfigFile("/etc/slurm/slurm.conf", conf)
        return Blueprint("it", "hosts", "24.11", "", places, {place.name: (file,) for place in places})

    old, new = large(10_000), large(10_100)
    began = time.monotonic()
    changes = difference(old, new)
    assert "node c[10001-10100]" in [change.what for change in changes]
    assert time.monotonic() - began < 5
