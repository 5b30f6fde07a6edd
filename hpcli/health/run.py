"""Running checks: in parallel, each with a hard timeout, failing open."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpcli.domain.check import CheckResult, Severity
from hpcli.errors import HpcliError
from hpcli.health.check import AnyCheck, Overrides, ReadyCheck, prepare
from hpcli.ports import Host


async def run_check(check: AnyCheck, host: Host, override: Mapping[str, object]) -> CheckResult | None:
    """Run one check now; None when it is turned off or has nothing to check here.

    What cannot be gathered in time is UNKNOWN, never CRITICAL. Raises `UsageFault` for an
    impossible parameter.
    """
    ready = prepare(check, override)
    return (await CheckRound(host, (ready,))())[0] if ready else None


async def run_checks(checks: Iterable[AnyCheck], host: Host, overrides: Overrides) -> tuple[CheckResult, ...]:
    """Run checks in parallel, once; results in the order of `checks`."""
    ready = (prepare(check, overrides.get(check.name, {})) for check in checks)
    return await CheckRound(host, tuple(found for found in ready if found))()


@dataclass(slots=True)
class CheckRound:
    """The same checks on the same host, round after round.

    A child that even SIGKILL cannot end (a stale mount) is left behind and its check not started
    again while it lasts, so that hung checks never pile up.
    """

    host: Host
    checks: tuple[ReadyCheck, ...]
    _running: dict[str, "asyncio.Task[Any]"] = field(default_factory=dict)
    _hung: set[str] = field(default_factory=set)
    _before: dict[str, Any] = field(default_factory=dict)

    async def __call__(self) -> tuple[CheckResult, ...]:
        return tuple(await asyncio.gather(*(self._run(ready) for ready in self.checks)))

    async def _run(self, ready: ReadyCheck) -> CheckResult:
        if ready.name in self._hung:
            return _unknown(ready.name, "still hangs since an earlier round")
        # Two rounds at the same time share one look.
        task = self._running.get(ready.name) or self._start(ready)
        done, _ = await asyncio.wait({task}, timeout=ready.check.timeout)
        if done:
            return self._judge(ready, task)
        self._hung.add(ready.name)
        task.cancel()
        return _unknown(ready.name, f"no answer within {ready.check.timeout:g} s")

    def _start(self, ready: ReadyCheck) -> "asyncio.Task[Any]":
        task = asyncio.ensure_future(ready.check.gather(self.host, ready.parameters))
        self._running[ready.name] = task
        task.add_done_callback(lambda done: self._finished(ready.name, done))
        return task

    def _finished(self, name: str, task: "asyncio.Task[Any]") -> None:
        del self._running[name]
        self._hung.discard(name)
        # Looking at the exception keeps asyncio from complaining about a task that nobody awaits.
        if not task.cancelled():
            task.exception()

    def _judge(self, ready: ReadyCheck, task: "asyncio.Task[Any]") -> CheckResult:
        try:
            evidence = task.result()
        except (HpcliError, OSError, ValueError, LookupError, ArithmeticError, TypeError, AttributeError) as error:
            return _unknown(ready.name, str(error) or type(error).__name__)
        except asyncio.CancelledError:
            return _unknown(ready.name, "cancelled")
        before = self._before.get(ready.name)
        self._before[ready.name] = evidence
        if before is not None and ready.check.judge_change:
            return ready.check.judge_change(before, evidence, ready.parameters)
        return ready.check.judge(evidence, ready.parameters)


def _unknown(check: str, why: str) -> CheckResult:
    return CheckResult(check, Severity.UNKNOWN, f"could not be checked: {why}")
