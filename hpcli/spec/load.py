"""cluster.yaml to a Spec, or every problem it has."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hpcli.errors import NotFound, UsageFault
from hpcli.spec.document import Document, read_document
from hpcli.spec.explain import explain, mend
from hpcli.spec.judge import judge
from hpcli.spec.layers import Layer, Merged, default_problems, merge
from hpcli.spec.model import Spec
from hpcli.spec.paths import resolve
from hpcli.spec.problems import Finding, Loc, Problem, SpecInvalid, show, where
from hpcli.spec.rules.rule import HealthFault, Limits

MAX_BYTES = 1 << 20
SITE_DEFAULTS = Path("/etc/hpcli/defaults.yaml")


def default_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Name the site's and the user's file of defaults, the weaker first; neither need be there."""
    home, given = environ.get("HOME", ""), environ.get("XDG_CONFIG_HOME", "")
    # The base directory specification has relative paths ignored.
    config = Path(given) if given.startswith("/") else Path(home) / ".config" if home else None
    return (SITE_DEFAULTS, config / "hpcli" / "defaults.yaml") if config else (SITE_DEFAULTS,)


def load_spec(
    path: Path,
    *,
    max_nodes: int | None = None,
    known_checks: Iterable[str] | None = None,
    health_fault: HealthFault | None = None,
    defaults: Sequence[Path] = (),
) -> Spec:
    """Read a spec file over files of defaults, those left out that do not exist.

    Files that the spec names are looked at, and become absolute paths. Raises `NotFound`, `UsageFault` if a file
    cannot be read, or `SpecInvalid`.
    """
    return parse_spec(
        _text(path),
        str(path),
        max_nodes=max_nodes,
        known_checks=known_checks,
        health_fault=health_fault,
        defaults=defaults,
        folder=path.parent,
    )


def parse_spec(
    text: str,
    source: str,
    *,
    max_nodes: int | None = None,
    known_checks: Iterable[str] | None = None,
    health_fault: HealthFault | None = None,
    defaults: Sequence[Path] = (),
    folder: Path | None = None,
) -> Spec:
    """Parse a spec. `max_nodes` is the provider's own if None; without `known_checks` any name will do.

    Without `folder`, files that the spec names are neither looked at nor made absolute. Raises as `load_spec`.
    """
    known = None if known_checks is None else frozenset(known_checks)
    limits = Limits(max_nodes, known, health_fault, files=folder is not None)
    main = Layer(_document(text, source, folder), source)
    if not isinstance(main.document.value, dict):
        raise SpecInvalid(source, main.document.problems or (_not_a_mapping(main.document, source),))
    layers = [layer for path in defaults if (layer := _default_layer(path))]
    merged = merge(layers, main)
    spec, findings = _validate(merged, limits)
    problems = [problem for layer in layers for problem in default_problems(layer)]
    problems += [*main.document.problems, *(_located(finding, merged) for finding in findings)]
    if problems or spec is None:
        raise SpecInvalid(source, problems)
    return spec


def _default_layer(path: Path) -> Layer | None:
    try:
        text = _text(path)
    except NotFound:
        return None
    return Layer(_document(text, str(path), path.parent), str(path))


def _document(text: str, source: str, folder: Path | None) -> Document:
    document = read_document(text, source)
    return document if folder is None else replace(document, value=resolve(document.value, folder.absolute()))


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


def _validate(merged: Merged, limits: Limits) -> tuple[Spec | None, list[Finding]]:
    spec, errors = _build(merged.value)
    explained = [explain(error, merged.value) for error in errors]
    # What a group took over is told of where it was said.
    findings = [finding for finding in explained if merged.origin(finding.loc) == finding.loc]
    if spec is None:
        spec = _build(mend(merged.value, errors))[0]
    if spec is None:
        return None, findings
    return spec, [*findings, *judge(spec, limits, {_dotted(finding.loc) for finding in explained})]


def _build(data: object) -> tuple[Spec | None, list[ErrorDetails]]:
    try:
        return Spec.model_validate(data), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _dotted(loc: Loc) -> str:
    return ".".join(part for part in loc if isinstance(part, str))


def _located(finding: Finding, merged: Merged) -> Problem:
    source, line = merged.place(finding.loc)
    return Problem(source, line, where(finding.loc), finding.found, finding.expected, finding.suggestion)
