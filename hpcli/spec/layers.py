"""Defaults under a spec: files of defaults, then `compute_defaults` under each group.

Mappings are merged key by key, lists and single values replaced. Every value keeps the file and line that said it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hpcli.spec.document import Document, Value
from hpcli.spec.machines import Kind
from hpcli.spec.problems import Loc, Problem, show
from hpcli.spec.rules.provider import NOT_ADOPTED, NOT_LOCAL

OWN_KEYS = frozenset({"name", "compute", "controller", "login", "partitions"})
"""What each cluster says for itself: no file of defaults may."""

DEFAULTS = "compute_defaults"

Mapping = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Layer:
    """One file: its values with what is wrong with them as YAML, and its name."""

    document: Document
    source: str

    @property
    def mapping(self) -> Mapping:
        return self.document.value if isinstance(self.document.value, dict) else {}


@dataclass(frozen=True, slots=True)
class Merged:
    """Values of several files in one. `inherited` gives the place of origin of what a group took over."""

    value: Mapping
    places: dict[Loc, tuple[str, int]]
    inherited: dict[Loc, Loc] = field(default_factory=dict)

    def place(self, loc: Loc) -> tuple[str, int]:
        """Give file and line of a place, or of the nearest thing around it."""
        loc = self.origin(loc)
        while loc and loc not in self.places:
            loc = loc[:-1]
        return self.places[loc]

    def origin(self, loc: Loc) -> Loc:
        """Give the place that said a value: another one when it was inherited."""
        for length in range(len(loc), 0, -1):
            if loc[:length] in self.inherited:
                return (*self.inherited[loc[:length]], *loc[length:])
        return loc


def merge(defaults: Sequence[Layer], main: Layer) -> Merged:
    """Lay the spec over its defaults, the later over the earlier."""
    value: Mapping = {}
    places: dict[Loc, tuple[str, int]] = {}
    for layer, own in [*_usable(defaults, main), (main, main.mapping)]:
        replaced: list[Loc] = []
        value = _overlay(value, own, (), replaced)
        places = {loc: place for loc, place in places.items() if not any(loc[: len(old)] == old for old in replaced)}
        places.update({loc: (layer.source, line) for loc, line in layer.document.lines.items() if _told(loc, own)})
    places.setdefault((), (main.source, 1))
    merged = Merged(value, places)
    _inherit(merged)
    return merged


def default_problems(layer: Layer) -> Iterator[Problem]:
    """Say what is wrong with a file of defaults as such; an empty one is fine."""
    value, lines = layer.document.value, layer.document
    yield from layer.document.problems
    if layer.document.problems or value is None:
        return
    if not isinstance(value, dict):
        yield Problem(layer.source, lines.line(()), "", show(value), "a mapping with defaults")
        return
    for key in value:
        if key in OWN_KEYS:
            expected = "it in cluster.yaml: each cluster has its own"
            yield Problem(layer.source, lines.line((key,)), key, "a key that has no default", expected)


def _usable(defaults: Sequence[Layer], main: Layer) -> Iterator[tuple[Layer, Mapping]]:
    """What the provider has no use for is left out: the files hold for clusters of every provider."""
    provider: Value = "local"
    for layer in (*defaults, main):
        provider = layer.mapping.get("provider", provider)
    for layer in defaults:
        own = {key: value for key, value in layer.mapping.items() if key not in OWN_KEYS}
        for loc in {"local": NOT_LOCAL, "adopted": NOT_ADOPTED}.get(str(provider), {}):
            own = _without(own, loc)
        yield layer, own


def _without(value: Mapping, loc: Loc) -> Mapping:
    first, rest = str(loc[0]), loc[1:]
    if first not in value:
        return value
    inner = value[first]
    kept = {key: one for key, one in value.items() if key != first}
    return {**kept, first: _without(inner, rest)} if rest and isinstance(inner, dict) else kept


def _told(loc: Loc, value: Value) -> bool:
    """Whether a place of a file is still there; a faulty one around it counts."""
    for part in loc:
        if isinstance(value, dict) and part not in value:
            return False
        value = value.get(str(part)) if isinstance(value, dict) else _at(value, part)
    return True


def _at(value: Value, part: str | int) -> Value:
    return value[part] if isinstance(value, list) and isinstance(part, int) and part < len(value) else None


def _overlay(under: Mapping, over: Mapping, loc: Loc, replaced: list[Loc]) -> Mapping:
    result = dict(under)
    for key, value in over.items():
        below = under.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            result[key] = _overlay(below, value, (*loc, key), replaced)
            continue
        if key in under:
            replaced.append((*loc, key))
        result[key] = value
    return result


def _inherit(merged: Merged) -> None:
    defaults, groups = merged.value.get(DEFAULTS), merged.value.get("compute")
    if not isinstance(defaults, dict) or not isinstance(groups, list):
        return
    known = {key: value for key, value in defaults.items() if key in Kind.model_fields}
    merged.value["compute"] = [
        _filled(known, group, ("compute", i), (DEFAULTS,), merged) if isinstance(group, dict) else group
        for i, group in enumerate(groups)
    ]


def _filled(under: Mapping, over: Mapping, loc: Loc, origin: Loc, merged: Merged) -> Mapping:
    result = dict(over)
    for key, value in under.items():
        here, there = (*loc, key), (*origin, key)
        if key not in over:
            result[key] = value
            merged.inherited[here] = there
        elif isinstance(value, dict) and isinstance(inner := over[key], dict):
            result[key] = _filled(value, inner, here, there, merged)
    return result
