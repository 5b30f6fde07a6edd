"""Every rule on a spec, those left out that would judge a broken field."""

from collections.abc import Iterable

from hpcli.spec.hostlist import MAX_NODES
from hpcli.spec.model import Spec
from hpcli.spec.problems import Finding
from hpcli.spec.rules import (
    accounts,
    files,
    health,
    hosts,
    mounts,
    nodes,
    partitions,
    people,
    provider,
    slurm_conf,
    topology,
)
from hpcli.spec.rules.rule import Limits, Rule, declared

RULES: tuple[Rule, ...] = (
    *nodes.RULES,
    *partitions.RULES,
    *provider.RULES,
    *hosts.RULES,
    *accounts.RULES,
    *people.RULES,
    *mounts.RULES,
    *topology.RULES,
    *slurm_conf.RULES,
    *files.RULES,
    *health.RULES,
)


def judge(spec: Spec, limits: Limits, broken: Iterable[str] = ()) -> tuple[Finding, ...]:
    """Apply every rule that does not read a broken field (dotted, list positions left out)."""
    faulty = tuple(broken)
    huge = declared(spec) > MAX_NODES
    rules = (rule for rule in RULES if not (rule.expands and huge) and not _touches(rule.reads, faulty))
    return tuple(finding for rule in rules for finding in rule.check(spec, limits))


def _touches(reads: tuple[str, ...], faulty: tuple[str, ...]) -> bool:
    return any(f"{one}.".startswith(f"{two}.") or f"{two}.".startswith(f"{one}.") for one in reads for two in faulty)
