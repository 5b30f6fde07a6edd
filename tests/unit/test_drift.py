"""Hand edits: the line of each hunk in the file as found, what is gone, rights, and what is no drift."""

from dataclasses import replace

import pytest

from hpcli.domain.blueprint import Blueprint, ConfigFile, Place, Role
from hpcli.domain.change import HandEdit
from hpcli.domain.drift import as_found, drift
from hpcli.machines import FoundFile

PATH = "/etc/slurm/slurm.conf"
TEXT = "one\ntwo\nthree\nfour\nfive\nsix\n"


def cluster(text: str = TEXT, *, secret: bool = False) -> Blueprint:
    file = ConfigFile(PATH, text, secret=secret)
    return Blueprint("it", "hosts", "22.05", "", (Place("ctl", Role.CONTROLLER, "a"),), {"ctl": (file,)})


def lies(text: str, mode: int = 0o644, owner: str = "root") -> dict[str, dict[str, FoundFile]]:
    return {"ctl": {PATH: FoundFile("", mode, owner, "root", text)}}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (TEXT, []),
        (TEXT.replace("two", "2"), [(2, "two", "2")]),
        (TEXT.replace("two", "2").replace("five\n", ""), [(2, "two", "2"), (5, "five", "")]),
        ("zero\n" + TEXT, [(1, "", "zero")]),
        (TEXT + "seven\neight\n", [(7, "", "seven / eight")]),
        (TEXT.replace("five\nsix\n", ""), [(4, "five / six", "")]),
        (TEXT.rstrip("\n"), [(6, "another end of line", "this one")]),
        ("", [(1, "one / two / three / four / five / six", "")]),
    ],
)
def test_the_line_of_each_hunk(text: str, lines: list[tuple[int, str, str]]) -> None:
    found = drift([cluster()], lies(text))
    assert [(edit.line, edit.expected, edit.found) for edit in found] == lines


def test_a_file_that_is_gone() -> None:
    assert drift([cluster()], {"ctl": {}}) == (HandEdit("ctl", PATH, 0, "the file", "no such file"),)


def test_rights_alone() -> None:
    [edit] = drift([cluster()], lies(TEXT, 0o666, "ann"))
    assert (edit.line, edit.found) == (0, "mode 0666, owner ann:root")


def test_nothing_of_a_secret_is_shown() -> None:
    [edit] = drift([cluster("pass=hunter1\n", secret=True)], lies("pass=hunter2\n"))
    assert (edit.line, edit.expected, edit.found) == (1, "(secret)", "(secret)")


def test_what_an_interrupted_apply_wrote_is_no_drift() -> None:
    other = cluster("the goal\n")
    assert drift([cluster(), other], lies("the goal\n")) == ()
    assert len(drift([cluster(), other], lies("neither\n"))) > 0


def test_a_machine_that_nobody_looked_at_has_none() -> None:
    assert drift([cluster()], {}) == ()


def test_the_cluster_as_found_has_the_edits_and_nothing_else() -> None:
    found = lies("edited\n", 0o600)
    edits = drift([cluster()], found)
    [file] = as_found(cluster(), found, edits).files["ctl"]
    assert (file.text, file.mode) == ("edited\n", 0o600)
    assert as_found(cluster(), {"ctl": {}}, drift([cluster()], {"ctl": {}})) == replace(cluster())
