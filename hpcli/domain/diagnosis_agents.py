"""hpcli's own daemons judged by what the controller says of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hpcli.domain.diagnosis import Finding, note, ok, wrong
from hpcli.domain.names import fold

SILENT = 60.0
"""Seconds: recovery.report_timeout's default."""


@dataclass(frozen=True, slots=True)
class Care:
    """What the controller told. `heard_at`: its own time of each node's newest report."""

    heard_at: Mapping[str, float]
    breaker_open: str = ""
    paused: str = ""


def judge_agents(care: Care, nodes: tuple[str, ...], now: float) -> Iterator[Finding]:
    """`now` in seconds since the epoch, by a clock of the cluster."""
    silent = [node for node in nodes if now - care.heard_at.get(node, 0.0) > SILENT]
    if 2 * (len(nodes) - len(silent)) < len(nodes):
        cost = "more than half are silent: recovery is blind and does nothing at all"
        yield wrong("agents", f"{len(silent)} of {len(nodes)} silent: {fold(silent)}", cost, _FIX)
    elif silent:
        cost = "nothing is known of their faults; jobs start there whatever stands on them"
        yield wrong("agents", f"{len(silent)} of {len(nodes)} silent: {fold(silent)}", cost, _FIX)
    else:
        yield ok("agents", f"{len(nodes)} report")
    if care.breaker_open:
        yield note("breaker", care.breaker_open, "nothing new is repaired", "look why, then hpcli recovery reset")
    if care.paused:
        yield note("recovery", f"paused: {care.paused}", "no step is taken", "hpcli recovery resume")


_FIX = "systemctl status hpcli-agent there; its log says why"
