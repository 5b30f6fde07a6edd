"""Repairs as people ask for them: one line each, or everything that was seen and done."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hpcli.domain.check import Remedy, Severity
from hpcli.domain.journal import KINDS
from hpcli.domain.ledger import Entry, Kind, Outcome
from hpcli.errors import HpcliError
from hpcli.ports import Controller


@dataclass(frozen=True, slots=True)
class RepairRow:
    """One repair of one node; times are seconds since the epoch, `took` in seconds."""

    repair: str
    node: str
    cause: str
    message: str
    opened_at: float
    took: float
    steps: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a repair's history: `at` is in seconds since the repair was opened."""

    repair: str
    nodes: str
    at: float
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class RecoveryStatus:
    """Repairs, the newest last; faults that stand now; why the breaker is open or recovery paused."""

    repairs: tuple[RepairRow, ...]
    faults: tuple[str, ...]
    breaker_open: str
    paused: str


async def recovery_status(controller: Controller, now: float) -> RecoveryStatus:
    answer = await controller.ask("status")
    rows = tuple(_row(repair, now) for repair in answer["repairs"])
    return RecoveryStatus(rows, standing_faults(answer), str(answer["breaker_open"]), str(answer["paused"]))


def standing_faults(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """What stands on each faulty node, as `c3: xid79, gpu.count`; also where the breaker lets nothing begin."""
    found = {
        node: [incident["cause"] for incident in report["incidents"] if incident["remedy"] != Remedy.NONE]
        for node, report in answer["nodes"].items()
    }
    return tuple(f"{node}: {', '.join(causes)}" for node, causes in sorted(found.items()) if causes)


async def check_counts(controller: Controller) -> tuple[int, int]:
    """How many checks passed, and on how many nodes. Raises `HpcliError` naming one that did not."""
    reports = (await controller.ask("status"))["nodes"]
    results = [(node, result) for node, report in reports.items() for result in report["results"]]
    for node, result in results:
        if result["severity"] == Severity.CRITICAL:
            raise HpcliError(f"node {node}", f"{result['check']}: {result['message']}", str(result["hint"]))
    return len(results), len(reports)


async def history(controller: Controller, node: str = "") -> tuple[Step, ...]:
    """Every step of every repair, of one node if it is named, in the order of the journal."""
    entries: list[Entry] = []
    while page := await controller.ask("journal", since=entries[-1][0] if entries else 0):
        entries += [(number, at, kind, body) for number, at, kind, body in page]
    return tuple(_steps(entries, node))


def _row(raw: Mapping[str, Any], now: float) -> RepairRow:
    end = raw["closed_at"] or now
    steps = " ".join(dict.fromkeys(raw["steps"]))
    outcome = raw["outcome"] or "under way"
    took = round(end - raw["opened_at"], 2)
    return RepairRow(raw["repair"], raw["node"], raw["cause"], raw["message"], raw["opened_at"], took, steps, outcome)


def _steps(entries: Iterable[Entry], node: str) -> Iterable[Step]:
    opened: dict[tuple[str, str], float] = {}
    for _number, at, kind, body in entries:
        raw: Mapping[str, Any] = body
        nodes = [raw["node"]] if kind == Kind.OPENED else list(raw.get("nodes", ()))
        # A newer controller may write kinds that this command does not know.
        if "repair" not in raw or kind not in KINDS or (node and node not in nodes):
            continue
        for name in nodes:
            start = opened.setdefault((raw["repair"], name), at)
            yield Step(raw["repair"], name, round(at - start, 2), _what(kind, raw), _why(kind, raw))


def _what(kind: str, body: Mapping[str, Any]) -> str:
    job = f" job {body['job']}" if body.get("job") else ""
    if kind == Kind.OPENED:
        return f"{'observed' if body.get('observed') else 'found'} {body['cause']}"
    if kind == Kind.PLANNED:
        return f"would {body['steps'][0]}"
    if kind == Kind.REACHED:
        return f"job {body['job']} runs again" if body.get("job") else str(body["milestone"])
    if kind == Kind.CLOSED:
        return "over, nothing was done" if body["outcome"] == Outcome.OBSERVED else str(body["outcome"])
    verb = {Kind.INTENT: "", Kind.DONE: " done", Kind.FAILED: " failed"}[Kind(kind)]
    return f"{body['step']}{job}{verb}"


def _why(kind: str, body: Mapping[str, Any]) -> str:
    if kind == Kind.PLANNED and body["steps"][1:]:
        return f"{body['why']}; then at most: {', '.join(body['steps'][1:])}"
    key = {Kind.OPENED: "message", Kind.FAILED: "error"}.get(Kind(kind), "why")
    return str(body.get(key, ""))


def clock_time(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
