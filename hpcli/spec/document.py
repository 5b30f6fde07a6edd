"""YAML text to plain values, with the line of each.

Scalars are read as YAML 1.2 does (`yes` is text, `12:00:00` is not a number), keys are always text,
a key given twice is a problem, and anchors are expanded only up to a limit.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from hpcli.spec.problems import Loc, Problem, where

MAX_VALUES = 200_000
MAX_DEPTH = 12

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]

_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,30})")
_NUMBER = re.compile(r"[-+]?[0-9]{1,30}\.[0-9]{1,30}")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
_PLAIN_TAGS = frozenset({"map", "seq", "str"})
_UNPRINTABLE = re.compile("[^\\t\\n\\r\x20-\x7e\\x85\\xa0-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Builds the node tree only; values are read here."""

    yaml_implicit_resolvers: dict[str, object] = {}


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: its values, the line of each place, and what was wrong with it as YAML."""

    value: Value
    lines: dict[Loc, int]
    problems: tuple[Problem, ...]

    def line(self, loc: Loc) -> int:
        """Give the line of a place, or of the nearest thing around it."""
        while loc and loc not in self.lines:
            loc = loc[:-1]
        return self.lines.get(loc, 1)


class _OvergrownError(Exception):
    def __init__(self, found: yaml.Node | yaml.Event, most: str) -> None:
        super().__init__(f"at most {most}")
        self.line = _line(found)


def read_document(text: str, source: str) -> Document:
    """Parse one YAML document. Syntax errors come back as the document's only problem."""
    control = _UNPRINTABLE.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        return _broken(source, line, f"the control character {control[0]!a}", "printable text")
    reader = _Reader(source)
    try:
        _check_depth(text)
        node = yaml.compose(text, Loader=_Loader)
        value = None if node is None else reader.value(node, ())
    except _OvergrownError as error:
        return _broken(source, error.line, "more", str(error))
    except yaml.MarkedYAMLError as error:
        return _broken(source, *_syntax(error, text))
    return Document(value, reader.lines, tuple(reader.problems))


def _check_depth(text: str) -> None:
    """Building nodes is recursive in libyaml's binding, which crashes where Python would raise; events are not."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _OvergrownError(event, f"{MAX_DEPTH} levels of nesting")


def _broken(source: str, line: int, found: str, expected: str, suggestion: str = "") -> Document:
    return Document(None, {}, (Problem(source, line, "", found, expected, suggestion),))


def _syntax(error: yaml.MarkedYAMLError, text: str) -> tuple[int, str, str, str]:
    mark = error.problem_mark or error.context_mark
    lines = text.splitlines()
    line = min(mark.line + 1 if mark else 1, max(len(lines), 1))
    cause = " ".join(part for part in (error.context, error.problem) if part)
    here = lines[line - 1] if lines else ""
    bare = re.search(r"\{.*?([A-Za-z][\w.-]*\[[0-9,-]+\])", here)
    suggestion = f'"{bare[1]}" in quotes' if bare else "spaces instead of the tab" if "\t" in here else ""
    return line, f"broken YAML ({cause})", "valid YAML", suggestion


@dataclass(slots=True)
class _Reader:
    source: str
    lines: dict[Loc, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    left: int = MAX_VALUES

    def value(self, node: yaml.Node, loc: Loc) -> Value:
        self.left -= 1
        if self.left < 0:
            raise _OvergrownError(node, f"{MAX_VALUES} values, anchors expanded")
        if len(loc) > MAX_DEPTH:
            raise _OvergrownError(node, f"{MAX_DEPTH} levels of nesting")
        self.lines.setdefault(loc, _line(node))
        tag = node.tag.removeprefix(_TAG)
        if tag not in _PLAIN_TAGS:
            self.problem(node, loc, f"the YAML tag {tag}", "a value without a tag")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*loc, i)) for i, child in enumerate(node.value)]
        quoted = isinstance(node, yaml.ScalarNode) and node.style
        return str(node.value) if quoted else _plain(str(node.value))

    def mapping(self, node: yaml.MappingNode, loc: Loc) -> Value:
        result: dict[str, Value] = {}
        for key, child in self.pairs(node, loc):
            self.lines[(*loc, key.value)] = _line(key)
            result[key.value] = self.value(child, (*loc, key.value))
        return result

    def pairs(self, node: yaml.MappingNode, loc: Loc) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """Yield a mapping's own pairs, then those merged in with `<<` that it does not have itself."""
        seen: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.problem(key, loc, "a list or mapping as a key", "text as a key")
            elif key.value == "<<" and not key.style:
                merged += child.value if isinstance(child, yaml.SequenceNode) else [child]
            elif key.value in seen:
                place = (*loc, key.value)
                self.problem(key, place, f"the key a second time (first on line {seen[key.value]})", "each key once")
            else:
                seen[key.value] = _line(key)
                yield key, child
        for other in merged:
            yield from self.inherited(other, loc, seen)

    def inherited(self, node: yaml.Node, loc: Loc, seen: dict[str, int]) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self.problem(node, loc, "<< with something else", "<< with a mapping or an anchor of one")
            return
        if len(loc) > MAX_DEPTH:
            raise _OvergrownError(node, f"{MAX_DEPTH} levels of nesting")
        for key, child in self.pairs(node, (*loc, "<<")):
            if key.value not in seen:
                seen[key.value] = _line(key)
                yield key, child

    def problem(self, node: yaml.Node, loc: Loc, found: str, expected: str) -> None:
        self.problems.append(Problem(self.source, _line(node), where(loc), found, expected))


def _plain(text: str) -> Value:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    return text


def _line(found: yaml.Node | yaml.Event) -> int:
    return int(found.start_mark.line) + 1 if found.start_mark else 1
