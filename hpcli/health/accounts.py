"""The check of account lookups: whom a node does not know, it cannot run jobs for."""

import asyncio
from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.errors import TimedOut
from hpcli.health import sysfs
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.ports import Host


@dataclass(frozen=True, slots=True)
class LookupParameters:
    """`users` that must be found, with commas: one per source of accounts. `limit`: seconds for each (ours)."""

    users: str = ""
    limit: float = 2.0


@dataclass(frozen=True, slots=True)
class Lookup:
    user: str
    found: bool
    hung: bool = False


@dataclass(frozen=True, slots=True)
class Lookups:
    lookups: tuple[Lookup, ...]


async def gather_lookups(host: Host, parameters: LookupParameters) -> Lookups:
    """Starts getent once per user."""
    asked = [_look_up(host, user, parameters.limit) for user in sysfs.words(parameters.users)]
    return Lookups(tuple(await asyncio.gather(*asked)))


async def _look_up(host: Host, user: str, limit: float) -> Lookup:
    try:
        answer = await host.run(["getent", "passwd", "--", user], timeout=limit)
    except TimedOut:
        return Lookup(user, found=False, hung=True)
    return Lookup(user, found=answer.code == 0 and bool(answer.out.strip()))


def judge_lookups(evidence: Lookups, parameters: LookupParameters) -> CheckResult:
    """Where an account cannot be looked up, slurmd cannot start its owner's job."""
    hung = [lookup.user for lookup in evidence.lookups if lookup.hung]
    hint = "is the directory service (sssd, nslcd) up, and its server in reach?"
    if hung:
        message = f"{sysfs.some(hung)}: no answer within {parameters.limit:g} s"
        return _drain(message, hung[0], hint)
    unknown = [lookup.user for lookup in evidence.lookups if not lookup.found]
    if unknown:
        return _drain(f"{sysfs.some(unknown)}: not found, expected an account", unknown[0], hint)
    return CheckResult("auth.lookup", Severity.OK, f"{len(evidence.lookups)} accounts found")


def _drain(message: str, component: str, hint: str) -> CheckResult:
    return CheckResult("auth.lookup", Severity.CRITICAL, message, Remedy.DRAIN, component=component, hint=hint)


LOOKUP = Check(
    name="auth.lookup",
    detects="accounts that cannot be looked up",
    source="getent passwd",
    scope=Scope.MACHINE,
    parameters=LookupParameters,
    gather=gather_lookups,
    judge=judge_lookups,
    evidence=Lookups,
    applies=lambda parameters: bool(parameters.users),
)

CHECKS: tuple[AnyCheck, ...] = (LOOKUP,)
