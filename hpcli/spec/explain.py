"""pydantic's errors in our words, and a mended copy of the values so that the rules can still be judged."""

import copy
import difflib
import re
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from hpcli.spec.model import Spec
from hpcli.spec.problems import Finding, Loc, show
from hpcli.spec.values import REFUSED

_EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "literal_error": "one of {expected}",
}
_SWITCHES = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_WHOLE = re.compile(r"[0-9]+")

_ITEMS: dict[str | int, tuple[str, ...]] = {
    "compute": ("name",),
    "partitions": ("name",),
    "accounts": ("name",),
    "groups": ("name", "gid"),
    "users": ("name", "uid"),
    "mounts": ("path",),
}
"""Lists of mappings, with what each mapping must have."""

_NUMBERS = frozenset({"uid", "gid"})
_OPTIONAL = frozenset({"gpus", "topology", "database"})
"""Mappings that may be absent: one with a fault in it is taken out whole."""


def explain(error: ErrorDetails, data: object) -> Finding:
    """Say what was found and expected at one place of the file."""
    loc = _place(error["loc"])
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(loc)
    if kind == "missing":
        field = section_at(loc[:-1]).model_fields[str(loc[-1])]
        return Finding(loc, "nothing", f"a value: {_phrase(field.description)}")
    value = loc[-1] if error["loc"][-1] == "[key]" else value_at(data, loc)
    if kind == REFUSED:
        return Finding(loc, context["found"] or show(value), context["expected"], context["suggestion"])
    expected = _EXPECTED[kind].format_map(context) if kind in _EXPECTED else error["msg"]
    return Finding(loc, show(value), expected.replace("'", '"'), _suggest(kind, value, context))


def mend(data: object, errors: list[ErrorDetails]) -> object:
    """Copy the values with each faulty one taken out, or stood in for where it cannot be absent."""
    mended = copy.deepcopy(data)
    for error in errors:
        _mend_one(mended, _place(error["loc"]))
    return mended


def value_at(data: object, loc: Loc) -> object:
    """Give the value at a place, or None."""
    for part in loc:
        data = _inside(data, part)
    return data


def _inside(data: object, part: str | int) -> object:
    if isinstance(data, dict):
        return data.get(part)
    if isinstance(data, list) and isinstance(part, int) and part < len(data):
        return data[part]
    return None


def section_at(loc: Loc) -> type[BaseModel]:
    """Give the model of the mapping at a place. Raises KeyError inside a free map."""
    section: type[BaseModel] = Spec
    for part in loc:
        if isinstance(part, str):
            section = _section_in(section.model_fields[part].annotation, part)
    return section


def _section_in(annotation: Any, key: str) -> type[BaseModel]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    raise KeyError(key)


def _place(loc: Loc) -> Loc:
    return tuple(part for part in loc if part != "[key]")


def _unknown_key(loc: Loc) -> Finding:
    known = tuple(section_at(loc[:-1]).model_fields)
    spelled = str(loc[-1]).lower().replace("-", "_")
    near = difflib.get_close_matches(spelled, known, n=1)
    return Finding(loc, "an unknown key", f"one of {', '.join(known)}", near[0] if near else "")


def _phrase(sentence: str | None) -> str:
    text = (sentence or "").removesuffix(".")
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _suggest(kind: str, value: object, context: dict[str, Any]) -> str:
    text = str(value).strip().lower() if isinstance(value, str) else ""
    if kind == "literal_error":
        choices = re.findall(r"'([^']+)'", context["expected"])
        return next(iter(difflib.get_close_matches(text.replace("_", "-"), choices, n=1)), "")
    if kind == "bool_type":
        return _SWITCHES.get(text, text if text in ("true", "false") else "")
    if kind == "int_type" and _WHOLE.fullmatch(text):
        return str(int(text))
    return ""


def _mend_one(data: object, loc: Loc) -> None:
    parent, last = value_at(data, loc[:-1]), loc[-1]
    if isinstance(parent, list) and isinstance(last, int):
        if loc[0] in _ITEMS and len(loc) == 2:
            parent[last] = {}
            for key in _ITEMS[loc[0]]:
                _stand_in(data, parent[last], (*loc, key))
        else:
            _mend_one(data, loc[:-1])
    elif isinstance(parent, dict):
        parent.pop(str(last), None)
        _stand_in(data, parent, loc)


def _stand_in(data: object, parent: dict[str, object], loc: Loc) -> None:
    """Put something valid where a value cannot be absent; rules that read it are not asked."""
    key, position = loc[-1], next((part for part in loc if isinstance(part, int)), 0)
    whole = next((part for part in loc[:-1] if part in _OPTIONAL), None)
    if whole is not None:
        _mend_one(data, loc[: loc.index(whole) + 1])
    elif loc == ("compute",):
        parent["compute"] = [{"name": "unnamed"}]
    elif key == "name":
        parent["name"] = "-".join(["unnamed", *(str(part) for part in loc[1:-1])])
    elif key in _NUMBERS:
        parent[str(key)] = 1001 + position
    elif loc[0] == "mounts" and key == "path":
        parent["path"] = f"/unnamed/{position}"
