"""From check results and kernel-log lines to the faults that stand on a node. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from hpcli.domain.check import CheckResult, Incident, Remedy, Severity

EVICTING = frozenset({Remedy.EVICT, Remedy.RESET, Remedy.REBOOT, Remedy.REPLACE})
STRIKE_PAUSE = 3.0
"""Seconds between two samples that count as separate strikes; a sample that follows a fault at once is none."""

MAX_INCIDENTS = 16
MAX_EVIDENCE = 3
MAX_TEXT = 200
"""Bounds of a report: a flood of log lines must not make it too long to be taken."""

_ORDER = tuple(Remedy)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a kernel-log line means. Not `urgent`: whatever the remedy, running jobs may finish first."""

    cause: str
    meaning: str
    remedy: Remedy
    line: str
    component: str = ""
    urgent: bool = True


@dataclass(frozen=True, slots=True)
class Strike:
    """CRITICAL samples in a row; times in seconds since the epoch."""

    count: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Faults:
    """What stands on one boot of one machine. A new boot starts with none.

    `latched` comes from the kernel log and stays for the boot; `checked` goes when its check passes.
    """

    boot_id: str = ""
    instance_id: str = ""
    strikes: Mapping[str, Strike] = field(default_factory=dict)
    checked: Mapping[str, Incident] = field(default_factory=dict)
    latched: Mapping[tuple[str, str], Incident] = field(default_factory=dict)

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """The worst first; one per cause and component."""
        merged = {(i.cause, i.component): i for i in self.checked.values()} | dict(self.latched)
        return tuple(sorted(merged.values(), key=_worst_first))

    @property
    def awaiting(self) -> bool:
        """A check is CRITICAL, but not often enough yet to count."""
        return any(check not in self.checked for check in self.strikes)


def evicts(remedy: Remedy, urgent: bool = True) -> bool:
    """Whether a fault makes the node unusable now, so that jobs cannot be left to finish."""
    return urgent and remedy in EVICTING


def of_boot(faults: Faults, boot_id: str, instance_id: str) -> Faults:
    """The same faults in the same boot of the same machine; none in a new one."""
    if (faults.boot_id, faults.instance_id) == (boot_id, instance_id):
        return faults
    return Faults(boot_id, instance_id)


def fold_results(faults: Faults, results: Iterable[CheckResult], needed: Mapping[str, int], at: float) -> Faults:
    """Take in one round of results. `needed`: strikes by check (1 if not named); `at`: seconds since the epoch."""
    for result in results:
        faults = _fold_result(faults, result, needed.get(result.check, 1), at)
    return faults


def _fold_result(faults: Faults, result: CheckResult, needed: int, at: float) -> Faults:
    if result.severity is Severity.UNKNOWN:
        # Neither a fault nor a recovery was seen.
        return faults
    strikes, checked = dict(faults.strikes), dict(faults.checked)
    if result.severity is not Severity.CRITICAL:
        strikes.pop(result.check, None)
        checked.pop(result.check, None)
        return replace(faults, strikes=strikes, checked=checked)
    strike = strikes[result.check] = _struck(strikes.get(result.check), at)
    if strike.count >= needed:
        checked[result.check] = _from_result(result, strike)
    return replace(faults, strikes=strikes, checked=checked)


def _struck(strike: Strike | None, at: float) -> Strike:
    if strike is None:
        return Strike(1, at, at)
    if at - strike.last < STRIKE_PAUSE:
        return strike
    return Strike(strike.count + 1, strike.first, at)


def _from_result(result: CheckResult, strike: Strike) -> Incident:
    return Incident(
        cause=result.check,
        message=_clean(result.message),
        remedy=result.remedy,
        evict=evicts(result.remedy),
        latched=False,
        first_seen=strike.first,
        component=_clean(result.component),
    )


def fold_findings(faults: Faults, findings: Iterable[Finding], at: float) -> Faults:
    """Take in kernel-log findings; those that ask for nothing are left out."""
    latched = dict(faults.latched)
    for finding in findings:
        if finding.remedy is not Remedy.NONE:
            key = (finding.cause, _clean(finding.component))
            latched[key] = _latch(latched.get(key), finding, at)
            latched = _bounded(latched)
    return replace(faults, latched=latched)


def _latch(known: Incident | None, finding: Finding, at: float) -> Incident:
    line = _clean(finding.line)
    fresh = Incident(
        cause=finding.cause,
        message=_clean(finding.meaning),
        remedy=finding.remedy,
        evict=evicts(finding.remedy, finding.urgent),
        latched=True,
        first_seen=at,
        component=_clean(finding.component),
        evidence=(line,),
    )
    if known is None:
        return fresh
    evidence = known.evidence if line in known.evidence else (*known.evidence, line)[:MAX_EVIDENCE]
    # Xid 154 may ask for more the second time.
    worse = min(known, fresh, key=_worst_first)
    return replace(worse, first_seen=known.first_seen, evidence=evidence)


def _bounded(latched: dict[tuple[str, str], Incident]) -> dict[tuple[str, str], Incident]:
    if len(latched) <= MAX_INCIDENTS:
        return latched
    kept = sorted(latched.items(), key=lambda pair: _worst_first(pair[1]))[:MAX_INCIDENTS]
    return dict(kept)


def _worst_first(incident: Incident) -> tuple[bool, int, float, bool, str, str]:
    """What the kernel said goes before the check that saw the consequence at the same moment."""
    rank = -_ORDER.index(incident.remedy)
    return not incident.evict, rank, incident.first_seen, not incident.latched, incident.cause, incident.component


def _clean(text: str) -> str:
    """One printable line, not too long."""
    return "".join(char if char.isprintable() else "?" for char in text[:MAX_TEXT])
