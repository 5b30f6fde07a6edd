"""Watching one node: its kernel log, its checks, what stands on it, and the verdict for the gate."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.domain.incident import Faults, Finding, fold_findings, fold_results, of_boot
from hpcli.domain.report import Acceptance, NodeReport
from hpcli.health.check import AnyCheck, Context, Overrides, ReadyCheck, Scope, select
from hpcli.health.kernel_line import Table
from hpcli.health.run import CheckRound
from hpcli.ports import Clock, Host, LogRecord

log = logging.getLogger(__name__)

OPEN_GATE = "ok\n"


@dataclass(slots=True)
class NodeWatch:
    """One node's watch. `parameters` are the site's overrides by check name.

    The caller polls the log about ten times a second. When that says True it reports, and samples
    the node's own checks at once, since a fault in the log seldom comes alone. Raises `UsageFault`
    for impossible parameters.
    """

    host: Host
    checks: Sequence[AnyCheck]
    parameters: Overrides
    table: Table
    clock: Clock
    _ready: tuple[ReadyCheck, ...] = field(init=False)
    _continuous: CheckRound = field(init=False)
    _strikes: dict[str, int] = field(init=False)
    _faults: Faults = field(default_factory=Faults)
    _results: dict[str, CheckResult] = field(default_factory=dict)
    _shared: Sequence[CheckResult] | None = None
    _complete: bool = False
    _acceptance: Acceptance | None = None
    _seq: int = 0

    def __post_init__(self) -> None:
        self._ready = select(self.checks, self.parameters, context=Context.CONTINUOUS, scope=Scope.NODE)
        self._continuous = CheckRound(self.host, self._ready)
        self._strikes = {check.name: check.strikes for check in self.checks}

    @property
    def unsettled(self) -> bool:
        """The node is on, but not every check has had its say since its boot."""
        return bool(self._faults.boot_id) and not self._complete

    def poll_log(self) -> bool:
        """Read what is new in the kernel log and whether the node booted; True when that changes the report."""
        changed = self._enter(self.host.boot_id())
        if not self._faults.boot_id:
            return False
        known = self._faults.incidents
        for record in self.host.kernel_log().poll():
            changed |= self._take_line(record)
        return changed or self._faults.incidents != known

    async def sample(self, shared: Sequence[CheckResult]) -> None:
        """Run the node's own checks; `shared` are the newest results of its machine's checks."""
        self._enter(self.host.boot_id())
        before = self._generation
        results = await self._continuous()
        self._enter(self.host.boot_id())
        if before != self._generation or not self._faults.boot_id:
            # Half of this was seen in the old boot.
            return
        self._take(results)
        if shared is not self._shared:
            self._take(shared)
            self._shared = shared
        self._complete = self._complete or not self._faults.awaiting

    async def accept(self, repair: str) -> None:
        """Run every check of the acceptance suite afresh; later reports carry the outcome.

        It fails on a CRITICAL result and on any fault that stands. What cannot be checked does not fail it.
        """
        self._enter(self.host.boot_id())
        before = self._generation
        ready = select(self.checks, self.parameters, context=Context.ACCEPTANCE)
        results = await CheckRound(self.host, ready)()
        self._enter(self.host.boot_id())
        if before != self._generation or not self._faults.boot_id:
            return
        faults = [f"{r.check}: {r.message}" for r in results if r.severity is Severity.CRITICAL]
        faults += [f"{i.cause}: {i.message}" for i in self._faults.incidents if i.remedy is not Remedy.NONE]
        message = "; ".join(dict.fromkeys(faults)) or f"{len(results)} checks passed"
        self._acceptance = Acceptance(repair, not faults, message[:500])

    def report(self) -> NodeReport | None:
        """What there is to tell now; None while the node is off."""
        self._enter(self.host.boot_id())
        if not self._faults.boot_id:
            return None
        now = self.clock.now()
        # An agent that is started again must not fall behind the numbers it gave before.
        self._seq = self._seq + 1 if self._seq else int(now * 1_000_000)
        return NodeReport(
            node=self.host.name,
            boot_id=self._faults.boot_id,
            instance_id=self._faults.instance_id,
            seq=self._seq,
            at=now,
            complete=self._complete,
            results=tuple(self._results.values()),
            incidents=self._faults.incidents,
            acceptance=self._acceptance,
        )

    @property
    def _generation(self) -> tuple[str, str]:
        return self._faults.boot_id, self._faults.instance_id

    def _enter(self, boot_id: str) -> bool:
        """Forget everything of an earlier boot or machine; True when another one has begun."""
        faults = of_boot(self._faults, boot_id, self.host.instance_id() if boot_id else "")
        if faults is self._faults:
            return False
        self._faults = faults
        self._results, self._shared = {}, None
        # A round that still runs looks at the old boot.
        self._continuous = CheckRound(self.host, self._ready)
        self._complete, self._acceptance = False, None
        return bool(boot_id)

    def _take(self, results: Sequence[CheckResult]) -> None:
        self._results.update((result.check, result) for result in results)
        self._faults = fold_results(self._faults, results, self._strikes, self.clock.now())

    def _take_line(self, record: LogRecord) -> bool:
        booted = self._enter(record.boot_id)
        finding = self.table.match(record.text)
        if finding:
            self._latch(finding)
        return booted

    def _latch(self, finding: Finding) -> None:
        self._faults = fold_findings(self._faults, (finding,), self.clock.now())


def verdict(report: NodeReport, gate: bool) -> str:
    """Text of the verdict file. With the gate open every job may start, whatever stands on the node."""
    fault = next((incident for incident in report.incidents if incident.evict), None)
    if fault is None or not gate:
        return OPEN_GATE
    return f"fail {fault.cause}\n{fault.message}\n"


def write_verdict(path: Path, text: str) -> bool:
    """Replace the file in one step, only when it changes; True when it now says `text`.

    A folder that is gone (the node is being replaced) or full is logged: the gate fails open.
    """
    try:
        if path.is_file() and path.read_text(errors="replace") == text:
            return True
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(text)
        fresh.replace(path)
    except OSError as error:
        log.warning("verdict not written: %s", error)
        return False
    return True
