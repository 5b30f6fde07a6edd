"""cluster.yaml to a Spec, or every problem it has."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hpcli.errors import NotFound, UsageFault
from hpcli.spec.document import Document, Value, read_document
from hpcli.spec.explain import explain, mend
from hpcli.spec.model import Spec
from hpcli.spec.problems import Finding, Loc, Problem, SpecInvalid, show, where
from hpcli.spec.rules import LOCAL_MAX_NODES, HealthFault, Limits, judge

MAX_BYTES = 1 << 20


def load_spec(
    path: Path,
    *,
    max_nodes: int = LOCAL_MAX_NODES,
    known_checks: Iterable[str] | None = None,
    health_fault: HealthFault | None = None,
) -> Spec:
    """Read a spec file. Raises `NotFound`, `UsageFault` if it cannot be read, or `SpecInvalid`."""
    text = _text(path)
    return parse_spec(text, str(path), max_nodes=max_nodes, known_checks=known_checks, health_fault=health_fault)


def parse_spec(
    text: str,
    source: str,
    *,
    max_nodes: int = LOCAL_MAX_NODES,
    known_checks: Iterable[str] | None = None,
    health_fault: HealthFault | None = None,
) -> Spec:
    """Parse a spec. `max_nodes` is the provider's; without `known_checks` any name will do. Raises `SpecInvalid`."""
    limits = Limits(max_nodes, None if known_checks is None else frozenset(known_checks), health_fault)
    document = read_document(text, source)
    if not isinstance(document.value, dict):
        raise SpecInvalid(source, document.problems or (_not_a_mapping(document, source),))
    spec, findings = _validate(document.value, limits)
    problems = [*document.problems, *(_located(finding, document, source) for finding in findings)]
    if problems or spec is None:
        raise SpecInvalid(source, problems)
    return spec


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(str(path), "found no such file, expected a cluster spec", "name one with --file") from None
    except OSError as error:
        raise UsageFault(str(path), f"found {error.strerror}, expected a readable file") from None
    if len(content) > MAX_BYTES:
        raise SpecInvalid(str(path), [Problem(str(path), 1, "", "more than 1 MiB", "at most 1 MiB")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{content[error.start]:02x}, which is not UTF-8"
        raise SpecInvalid(str(path), [Problem(str(path), line, "", found, "UTF-8 text")]) from None


def _not_a_mapping(document: Document, source: str) -> Problem:
    found = "an empty file" if document.value is None else show(document.value)
    return Problem(source, document.line(()), "", found, "a mapping with name and compute")


def _validate(data: dict[str, Value], limits: Limits) -> tuple[Spec | None, list[Finding]]:
    spec, errors = _build(data)
    findings = [explain(error, data) for error in errors]
    if spec is None:
        spec = _build(mend(data, errors))[0]
    if spec is None:
        return None, findings
    return spec, [*findings, *judge(spec, limits, {_dotted(finding.loc) for finding in findings})]


def _build(data: object) -> tuple[Spec | None, list[ErrorDetails]]:
    try:
        return Spec.model_validate(data), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _dotted(loc: Loc) -> str:
    return ".".join(part for part in loc if isinstance(part, str))


def _located(finding: Finding, document: Document, source: str) -> Problem:
    line = document.line(finding.loc)
    return Problem(source, line, where(finding.loc), finding.found, finding.expected, finding.suggestion)
