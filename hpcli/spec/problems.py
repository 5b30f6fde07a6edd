"""What is wrong with a spec, all of it at once."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from hpcli.errors import UsageFault

Loc = tuple[str | int, ...]
"""A place in the file: keys and list positions from the top."""

_LONGEST = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem before its line is known. `found` and `expected` are phrases ready to print."""

    loc: Loc
    found: str
    expected: str
    suggestion: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend in a spec file. Lines count from 1."""

    source: str
    line: int
    where: str
    found: str
    expected: str
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        ending = f" (did you mean {self.suggestion}?)" if self.suggestion else ""
        return f"{self.source}:{self.line}: {place}found {self.found}, expected {self.expected}{ending}"


class SpecInvalid(UsageFault):
    """The spec has problems; `problems` lists every one, in the order of the file, those of its defaults behind."""

    code = "invalid_spec"

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda one: (one.source != source, one.source, one.line)))
        count = len(self.problems)
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        hint = "every key is described by: hpcli cluster schema"
        super().__init__(source, f"{count} problem{'s' if count > 1 else ''}{lines}", hint)


def show(value: object) -> str:
    """Write a value from the file so that it is safe to print and short, and no secret."""
    if isinstance(value, str) and "PRIVATE KEY-" in value:
        return "a private key"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = json.dumps(value, ensure_ascii=False, default=str)
    if not text.isprintable():
        text = json.dumps(value, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def where(loc: Loc) -> str:
    """Write a place as a person would: `compute[0].cpus`."""
    return "".join(_step(part) for part in loc).removeprefix(".")


def _step(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    return f".{part}" if part.isidentifier() else f"[{show(part)}]"
