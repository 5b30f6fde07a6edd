"""Rules about health checks and their overrides."""

from collections.abc import Iterator

from hpcli.spec.model import Spec
from hpcli.spec.problems import Finding, show
from hpcli.spec.rules.rule import Limits, Rule, close


def _checks(spec: Spec, limits: Limits) -> Iterator[Finding]:
    for name, parameters in spec.health.checks.items():
        loc = ("health", "checks", name)
        if limits.known_checks is not None and name not in limits.known_checks:
            expected = f"one of {', '.join(sorted(limits.known_checks))}"
            yield Finding(loc, "an unknown check", expected, close(name, limits.known_checks))
        if not isinstance(parameters.get("enabled", True), bool):
            yield Finding((*loc, "enabled"), show(parameters["enabled"]), "true or false")


def _health_overrides(spec: Spec, limits: Limits) -> Iterator[Finding]:
    """The agents' own judgement, told with file and line."""
    sections = {"checks": spec.health.checks, "kernel_log": spec.health.kernel_log}
    for section, overrides in sections.items():
        for key, value in overrides.items():
            fault = limits.health_fault(section, key, value) if limits.health_fault else None
            if fault:
                found, _, expected = fault.message.removeprefix("found ").partition(", expected ")
                near = fault.hint.removeprefix("did you mean ").rstrip("?") if "did you mean" in fault.hint else ""
                yield Finding(("health", section, key), found, expected, near)


RULES = (
    Rule(_checks),
    Rule(_health_overrides, ("health.checks", "health.kernel_log")),
)
