"""One result in three forms."""

import io
import json
from dataclasses import dataclass

import pytest

from hpcli.cli.options import Options
from hpcli.cli.output import MAX_ROWS, Column, Output, clean


@dataclass(frozen=True)
class Thing:
    name: str
    states: frozenset[str] = frozenset()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


COLUMNS = (
    Column[Thing]("NAME", lambda thing: thing.name, style=lambda _: "red"),
    Column[Thing]("LENGTH", lambda thing: str(len(thing.name)), right=True),
)


def shown(stdout: io.StringIO, rows: list[Thing], options: Options | None = None) -> str:
    Output(options or Options("things"), stdout, io.StringIO()).rows(rows, COLUMNS)
    return stdout.getvalue()


def test_a_pipe_gets_tabs_and_no_header() -> None:
    assert shown(io.StringIO(), [Thing("a"), Thing("bcd")]) == "a\t1\nbcd\t3\n"


def test_a_terminal_gets_a_table() -> None:
    lines = shown(Terminal(), [Thing("a"), Thing("bcd")], Options("things", color=False)).splitlines()
    assert [line.split() for line in lines] == [["NAME", "LENGTH"], ["a", "1"], ["bcd", "3"]]


def test_json_is_one_line_with_sets_in_order() -> None:
    text = shown(Terminal(), [Thing("a", frozenset({"z", "b"}))], Options("things", json=True))
    assert text.count("\n") == 1
    assert json.loads(text)["data"] == [{"name": "a", "states": ["b", "z"]}]


@pytest.mark.parametrize("count", [MAX_ROWS, MAX_ROWS + 1, 1000])
def test_no_more_rows_than_a_person_reads(count: int) -> None:
    lines = shown(Terminal(), [Thing(str(n)) for n in range(count)], Options("things", color=False)).splitlines()
    assert len(lines) == 1 + MAX_ROWS + (count > MAX_ROWS)
    assert count == MAX_ROWS or f"and {count - MAX_ROWS} more" in lines[-1]


def test_markup_and_control_characters_are_text() -> None:
    name = "[red]x[/red]\n\t\x1b[31m\x9b\u202e"
    assert shown(io.StringIO(), [Thing(name)]).split("\t")[0] == "[red]x[/red]\\n\\t\\x1b[31m\\x9b\\x202e"
    assert "[red]x[/red]\\n" in shown(Terminal(), [Thing(name)], Options("things", color=False))


def test_clean_leaves_words_alone() -> None:
    assert clean("größe 日本 a_b") == "größe 日本 a_b"


def test_nothing_to_show_is_said_on_stderr() -> None:
    err = io.StringIO()
    Output(Options("things"), io.StringIO(), err).rows([], COLUMNS, empty="no things")
    Output(Options("things", quiet=True), io.StringIO(), err).rows([], COLUMNS, empty="not said")
    assert err.getvalue() == "no things\n"


def test_with_json_other_text_goes_to_stderr() -> None:
    out, err = io.StringIO(), io.StringIO()
    Output(Options("logs", json=True), out, err).write("line\n")
    assert (out.getvalue(), err.getvalue()) == ("", "line\n")
