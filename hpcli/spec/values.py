"""The values a spec is made of: names, memory, durations, shares. Each says what it expected."""

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from hpcli.spec.hostlist import expand

REFUSED = "refused"
"""The error type of every value refused by us; its context carries `expected`, `suggestion` and `found`."""

_MEMORY = re.compile(r"([0-9]{1,9})([MGT])", re.IGNORECASE)
_MIB = {"M": 1, "G": 1024, "T": 1024 * 1024}
_MAX_MEMORY = 1 << 30
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")
_MAX_TIME = r"[0-9]{1,7}(:[0-5]?[0-9]){0,2}|[0-9]{1,5}-[0-9]{1,2}(:[0-5]?[0-9]){0,2}|UNLIMITED"

MEMORY_FORM = "memory such as 4G or 4096M, or MiB as a plain number"
SHARE_FORM = "a share such as 10% or 0.1"
TIME_FORM = "a Slurm time such as 1-00:00:00 or 12:00:00, minutes as a plain number, or UNLIMITED"


def refuse(expected: str, suggestion: str = "", found: str = "") -> PydanticCustomError:
    """Make the error that says what was expected; `found` stands for a value that is not to be shown."""
    context = {"expected": expected, "suggestion": suggestion, "found": found}
    return PydanticCustomError(REFUSED, "expected {expected}", context)


def matching(pattern: str, expected: str, reserved: frozenset[str] = frozenset()) -> Callable[[str], str]:
    """Make the check that the whole text matches; a lower-case form that would is suggested."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            lowered = value.lower().replace("_", "-")
            raise refuse(expected, lowered if compiled.fullmatch(lowered) and lowered not in reserved else "")
        if value.lower() in reserved:
            raise refuse(f"a name other than {' or '.join(sorted(reserved))}, which Slurm reserves")
        return value

    return check


def _memory(value: object) -> int:
    mib = value if isinstance(value, int) and not isinstance(value, bool) else None
    if isinstance(value, str) and (found := _MEMORY.fullmatch(value)):
        mib = int(found[1]) * _MIB[found[2].upper()]
    if mib is None:
        trimmed = re.sub(r"\s|i?b$", "", str(value), flags=re.IGNORECASE)
        raise refuse(MEMORY_FORM, trimmed.upper() if _MEMORY.fullmatch(trimmed) else "")
    if not 1 <= mib <= _MAX_MEMORY:
        raise refuse("memory between 1M and 1024T")
    return mib


def _seconds(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return float(found[1]) * _SECONDS[found[2]] if found else None


def duration_between(low: str, high: str) -> BeforeValidator:
    """Accept a duration in seconds, or with a unit, within these limits; the value is seconds."""
    least, most = _seconds(low), _seconds(high)
    assert least is not None and most is not None
    form = f"a duration from {low} to {high} such as 10m, 2s, 1h, or plain seconds"

    def check(value: object) -> float:
        seconds = _seconds(value)
        if seconds is None or not least <= seconds <= most:
            raise refuse(form)
        return seconds

    return BeforeValidator(check)


def _share(value: object) -> float:
    found = _SHARE.fullmatch(value) if isinstance(value, str) else None
    share = float(found[1]) / 100 if found else value
    if isinstance(share, bool) or not isinstance(share, int | float):
        raise refuse(SHARE_FORM)
    if not 0 <= share <= 1:
        raise refuse(f"{SHARE_FORM}, at most 100%", f"{value}%" if not found and 1 < share <= 100 else "")
    return float(share)


def _hostlist(value: str) -> str:
    try:
        expand(value)
    except ValueError as error:
        raise refuse(str(error)) from None
    return value


def _max_time(value: object) -> str:
    text = str(value).upper()
    if isinstance(value, bool | float) or not re.fullmatch(_MAX_TIME, text):
        raise refuse(TIME_FORM)
    if not re.search("[1-9U]", text):
        raise refuse(f"{TIME_FORM}, above zero")
    return text


def _scalar(value: object) -> bool | int | float | str:
    if not isinstance(value, bool | int | float | str):
        raise refuse("a number, text, true or false")
    return value


_DURATION_SCHEMA = WithJsonSchema(
    {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": f"^{_DURATION.pattern}$"}]}
)
_CLUSTER = r"[a-z][a-z0-9-]{0,30}"
_WORD = r"[A-Za-z][A-Za-z0-9_.-]{0,62}"
_PREFIX = r"[A-Za-z](?:[A-Za-z0-9_.-]{0,55}[A-Za-z_.-])?"
_CHECK = r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*"


def text_schema(pattern: str) -> WithJsonSchema:
    """Make the JSON Schema of a text that matches."""
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern})$"})


ClusterName = Annotated[
    str, AfterValidator(matching(_CLUSTER, "1 to 31 of a-z, 0-9 and -, a letter first")), text_schema(_CLUSTER)
]
Word = Annotated[
    str, AfterValidator(matching(_WORD, "1 to 63 letters, digits, _, . and -, a letter first")), text_schema(_WORD)
]
PartitionName = Annotated[
    str,
    AfterValidator(matching(_WORD, "1 to 63 letters, digits, _, . and -, a letter first", frozenset({"default"}))),
    text_schema(_WORD),
]
GpuType = Annotated[
    str,
    AfterValidator(matching(_WORD, "a GPU type such as h100, a letter first", frozenset({"no_consume"}))),
    text_schema(_WORD),
]
NodePrefix = Annotated[
    str,
    AfterValidator(matching(_PREFIX, "a name to put numbers behind, such as gpu (no digit at the end)")),
    text_schema(_PREFIX),
]
Hostlist = Annotated[str, AfterValidator(_hostlist)]
CheckName = Annotated[str, AfterValidator(matching(_CHECK, "a check name such as disk.free")), text_schema(_CHECK)]
Memory = Annotated[
    int,
    BeforeValidator(_memory),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[0-9]+[MGTmgt]$"}]}),
]
Share = Annotated[
    float,
    BeforeValidator(_share),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1},
                {"type": "string", "pattern": f"^{_SHARE.pattern}$"},
            ]
        }
    ),
]
MaxTime = Annotated[
    str,
    BeforeValidator(_max_time),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": f"^(?:{_MAX_TIME})$"}]}),
]
Interval = Annotated[float, duration_between("1s", "1d"), _DURATION_SCHEMA]
Grace = Annotated[float, duration_between("0s", "1d"), _DURATION_SCHEMA]
Timeout = Annotated[float, duration_between("1s", "30d"), _DURATION_SCHEMA]
Scalar = Annotated[
    bool | int | float | str, PlainValidator(_scalar), WithJsonSchema({"type": ["number", "string", "boolean"]})
]
