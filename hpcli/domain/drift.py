"""What somebody changed by hand: files as found against files as they were left."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from typing import Protocol

from hpcli.domain.blueprint import Blueprint, ConfigFile
from hpcli.domain.change import HandEdit

MOST_HUNKS = 20
SECRET = "(secret)"
GONE = "no such file"


class Found(Protocol):
    """A file as it lies on a machine."""

    @property
    def text(self) -> str: ...

    @property
    def mode(self) -> int: ...

    @property
    def owner(self) -> str: ...

    @property
    def group(self) -> str: ...


Everything = Mapping[str, Mapping[str, Found]]
"""Files by host and path; files that do not exist are left out, and hosts that nobody looked at."""


def drift(expected: Sequence[Blueprint], found: Everything) -> tuple[HandEdit, ...]:
    """Every difference from the first of `expected`, by host and path.

    A file that is as any of the others has it is none: an apply that was interrupted wrote it.
    """
    applied, *others = expected
    edits: list[HandEdit] = []
    looked_at = (host for host in applied.files if host in found)
    for host in looked_at:
        for file in applied.files[host]:
            lies = found[host].get(file.path)
            if not any(_same(other.file(host, file.path), lies) for other in (applied, *others)):
                edits += _edits(host, file, lies)
    return tuple(edits)


def as_found(blueprint: Blueprint, found: Everything, edits: Iterable[HandEdit]) -> Blueprint:
    """The same blueprint with every edited file as it lies there; one that is gone stays as it was."""
    edited = {(edit.host, edit.path) for edit in edits}
    files = {
        host: tuple(_as_found(file, found.get(host, {}).get(file.path), (host, file.path) in edited) for file in own)
        for host, own in blueprint.files.items()
    }
    return replace(blueprint, files=files)


def _as_found(file: ConfigFile, lies: Found | None, edited: bool) -> ConfigFile:
    if not edited or lies is None:
        return file
    return ConfigFile(file.path, lies.text, lies.mode, lies.owner, lies.group, file.secret)


def _same(file: ConfigFile | None, lies: Found | None) -> bool:
    if file is None or lies is None:
        return file is None and lies is None
    return (file.text, file.mode, file.owner, file.group) == (lies.text, lies.mode, lies.owner, lies.group)


def _edits(host: str, file: ConfigFile, lies: Found | None) -> Iterator[HandEdit]:
    if lies is None:
        yield HandEdit(host, file.path, 0, "the file", GONE)
        return
    if file.text != lies.text:
        yield from _hunks(host, file, lies)
    expected, there = _rights(file), _rights(lies)
    if expected != there:
        yield HandEdit(host, file.path, 0, expected, there)


def _hunks(host: str, file: ConfigFile, lies: Found) -> Iterator[HandEdit]:
    """One per hunk: the line where it begins in the file as found. Nothing of a secret is shown."""
    old, new = file.text.splitlines(), lies.text.splitlines()
    hunks = [code for code in SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if code[0] != "equal"]
    if not hunks:
        yield HandEdit(host, file.path, max(len(new), 1), "another end of line", "this one")
    for _, i1, i2, j1, j2 in hunks[:MOST_HUNKS]:
        was, will = " / ".join(old[i1:i2]), " / ".join(new[j1:j2])
        if file.secret:
            was = will = SECRET
        # Where lines are missing, the line that now stands in their place.
        yield HandEdit(host, file.path, min(j1 + 1, max(len(new), 1)), was, will)


def _rights(file: ConfigFile | Found) -> str:
    return f"mode {file.mode:04o}, owner {file.owner}:{file.group}"
