"""What a check is, which checks there are for a node, and with which parameters they run."""

import difflib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from enum import StrEnum
from typing import Any, Generic, TypeVar

from hpcli.domain.check import CheckResult
from hpcli.errors import HpcliError, UsageFault
from hpcli.ports import Host

Overrides = Mapping[str, Mapping[str, object]]
"""Parameters by check name, as a site writes them. `enabled: false` turns a check off."""


Evidence = TypeVar("Evidence")
Parameters = TypeVar("Parameters")


class Scope(StrEnum):
    """Several local nodes can share one machine; what is the machine's is gathered once for all."""

    NODE = "node"
    MACHINE = "machine"


class Context(StrEnum):
    CONTINUOUS = "continuous"
    ACCEPTANCE = "acceptance"


@dataclass(frozen=True, slots=True)
class Check(Generic[Evidence, Parameters]):
    """One check: gather evidence through the Host port, judge it purely.

    `strikes` is how many CRITICAL samples in a row make an incident, `timeout` is in seconds.
    `judge_change` also sees the evidence of the sample before, for what only a change can tell.
    """

    name: str
    detects: str
    source: str
    scope: Scope
    parameters: type[Parameters]
    gather: Callable[[Host, Parameters], Awaitable[Evidence]]
    judge: Callable[[Evidence, Parameters], CheckResult]
    evidence: type[Evidence]
    judge_change: Callable[[Evidence, Evidence, Parameters], CheckResult] | None = None
    applies: Callable[[Parameters], bool] = lambda _: True
    contexts: frozenset[Context] = frozenset(Context)
    timeout: float = 10.0
    strikes: int = 2


AnyCheck = Check[Any, Any]


@dataclass(frozen=True, slots=True)
class ReadyCheck:
    """A check together with the parameters of one node."""

    check: AnyCheck
    parameters: Any

    @property
    def name(self) -> str:
        return self.check.name


def select(
    checks: Iterable[AnyCheck], overrides: Overrides, *, context: Context, scope: Scope | None = None
) -> tuple[ReadyCheck, ...]:
    """The checks that run in this context and scope. Raises `UsageFault` for an impossible override."""
    known = {check.name: check for check in checks}
    _refuse_unknown("check", overrides, known)
    wanted = [check for check in known.values() if context in check.contexts and scope in (None, check.scope)]
    ready = (prepare(check, overrides.get(check.name, {})) for check in wanted)
    return tuple(found for found in ready if found)


def prepare(check: AnyCheck, override: Mapping[str, object]) -> ReadyCheck | None:
    """Bind a check to its parameters; None when it is turned off or has nothing to check here.

    Raises `UsageFault` for an unknown parameter or a value of the wrong type.
    """
    given = {name: value for name, value in override.items() if name != "enabled"}
    known = {field.name: field for field in fields(check.parameters)}
    _refuse_unknown(f"parameter of check {check.name}", given, known)
    parameters = check.parameters(**{name: _convert(check, known[name], value) for name, value in given.items()})
    if override.get("enabled", True) is False or not check.applies(parameters):
        return None
    return ReadyCheck(check, parameters)


def _refuse_unknown(kind: str, given: Iterable[str], known: Iterable[str]) -> None:
    names = sorted(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(names)}"
            raise UsageFault(f"health.checks: {kind}", f"found {name!r}, expected a known one", hint)


def _convert(check: AnyCheck, field: "Field[Any]", value: object) -> object:
    """The default's type is the parameter's; an integer will do for a float."""
    assert field.default is not MISSING
    kind = type(field.default)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is kind:
        return value
    raise _wrong_type(check.name, field.name, value, kind)


def _wrong_type(check: str, name: str, value: object, kind: type) -> HpcliError:
    expected = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[kind]
    return UsageFault(f"health.checks: {check}.{name}", f"found {value!r}, expected {expected}")
