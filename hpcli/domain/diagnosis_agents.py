"""hpcli's own daemons judged by what the controller says of them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpcli.domain.diagnosis import Finding, Severity, note, ok, wrong
from hpcli.domain.names import fold
from hpcli.domain.policy import Mode
from hpcli.domain.report import PROTOCOL, UNTOLD, Sender, near
from hpcli.version import __version__

ADOPTED = "adopted"
SILENT = 60.0
"""Seconds: recovery.report_timeout's default."""

_LOG = "systemctl status hpcli-agent there; its log says why"
_UPGRADE = "hpcli cluster upgrade"
_ACT = "recovery: {mode: act} in cluster.yaml, then hpcli cluster apply"


@dataclass(frozen=True, slots=True)
class Care:
    """What the controller told. `heard_at`: its own time of each node's newest report; `agents`: who sent it.

    `adopted`: the site owns slurm.conf, and adds hpcli's lines to it.
    """

    heard_at: Mapping[str, float]
    breaker_open: str = ""
    paused: str = ""
    mode: str = Mode.ACT
    version: str = __version__
    protocol: int = PROTOCOL
    agents: Mapping[str, Sender] = field(default_factory=dict)
    adopted: bool = False


@dataclass(frozen=True, slots=True)
class OneAgent(Finding):
    """One node's agent, for programs that read the findings; people read of them by hostlist."""

    node: str = ""
    version: str = ""
    release: str = ""
    protocol: int = 0


def care_of(status: Mapping[str, Any]) -> Care:
    """Parse a controller's answer to `status`; one of 0.1.0 says neither its version nor that of its agents."""
    agents = status.get("agents", {}).items()
    return Care(
        heard_at=dict(status["received_at"]),
        breaker_open=str(status["breaker_open"]),
        paused=str(status["paused"]),
        mode=str(status.get("mode", Mode.ACT)),
        version=str(status.get("version", UNTOLD)),
        protocol=int(status.get("protocol", 1)),
        agents={node: Sender(one["version"], one["release"], one["protocol"]) for node, one in agents},
        adopted=status.get("provider") == ADOPTED,
    )


def judge_controller(care: Care) -> Iterator[Finding]:
    """That it answers, in which version, and what it is let do."""
    found = f"answers; hpcli {care.version}"
    if _number(care.version) < _number(__version__):
        yield note("controller", f"{found}, here {__version__}", "what is new here it does not know", _UPGRADE)
    elif care.version != __version__:
        fix = f"install hpcli {care.version} here"
        yield note("controller", f"{found}, here {__version__}", "what is new there is not seen from here", fix)
    else:
        yield ok("controller", found)
    if care.mode == Mode.OBSERVE:
        cost = "decides and journals, does nothing: faulty nodes stay in service"
        yield note("recovery", "mode observe", cost, _ACT)
    elif care.mode == Mode.OFF:
        yield note("recovery", "mode off", "decides nothing, does nothing: faulty nodes stay in service", _ACT)
    if care.breaker_open:
        yield note("breaker", care.breaker_open, "nothing new is repaired", "look why, then hpcli recovery reset")
    if care.paused:
        yield note("recovery", f"paused: {care.paused}", "no step is taken", "hpcli recovery resume")


def judge_agents(care: Care, nodes: Sequence[str], now: float) -> Iterator[Finding]:
    """Who is heard, and in which version. `now` in seconds since the epoch, by a clock of the cluster."""
    far = [node for node in nodes if _is_far(care, node)]
    silent = [node for node in nodes if node not in far and now - care.heard_at.get(node, 0.0) > SILENT]
    heard = [node for node in nodes if node not in far and node not in silent]
    if 2 * len(heard) < len(nodes):
        cost = "more than half are not heard: recovery is blind and does nothing at all"
    else:
        cost = "nothing is known of their faults; jobs start there whatever stands on them"
    if silent:
        yield wrong("agents", f"{len(silent)} of {len(nodes)} silent: {fold(silent)}", cost, _LOG)
    for sender, names in _by_version(care, far):
        found = f"hpcli {sender.version or 'of unknown version'} on {fold(names)}"
        protocols = f"speaks protocol {sender.protocol}, the controller {care.protocol}"
        yield wrong("agents", f"{found} {protocols}", f"their reports are refused: {cost}", _UPGRADE)
    yield from _judge_versions(care, heard, everyone=not silent and not far)


def each_agent(care: Care, nodes: Sequence[str]) -> Iterator[OneAgent]:
    """One line for each agent whose version is known."""
    for node in nodes:
        if sender := care.agents.get(node):
            severity = Severity.WRONG if _is_far(care, node) else _severity(care, sender)
            found = f"hpcli {sender.version} on {node}, protocol {sender.protocol}"
            told = (node, sender.version, sender.release, sender.protocol)
            yield OneAgent("agent", severity, found, "", "" if severity is Severity.OK else _UPGRADE, *told)


def _judge_versions(care: Care, heard: Sequence[str], *, everyone: bool) -> Iterator[Finding]:
    groups = _by_version(care, heard)
    alike = len(groups) == 1 and groups[0][0].version == care.version
    if everyone or alike:
        yield ok("agents", f"{len(heard)} report" + (f", hpcli {care.version}" if alike else ""))
    if alike:
        return
    for sender, names in groups:
        found = f"hpcli {sender.version} on {fold(names)}"
        if _severity(care, sender) is Severity.OK:
            yield ok("agents", found)
        elif _number(sender.version) < _number(care.version):
            cost = f"older than the controller ({care.version}): they count, but miss what is new since"
            yield note("agents", found, cost, _UPGRADE)
        else:
            cost = f"newer than the controller ({care.version}): what is new in them is passed over"
            yield note("agents", found, cost, _UPGRADE)


def _severity(care: Care, sender: Sender) -> Severity:
    return Severity.OK if sender.version == care.version else Severity.NOTE


def _is_far(care: Care, node: str) -> bool:
    sender = care.agents.get(node)
    return sender is not None and not near(sender.protocol, care.protocol)


def _by_version(care: Care, nodes: Sequence[str]) -> list[tuple[Sender, list[str]]]:
    """Nodes by version, the newest first; releases of one version are not told apart."""
    found: dict[tuple[str, int], list[str]] = {}
    for node in nodes:
        if sender := care.agents.get(node):
            found.setdefault((sender.version, sender.protocol), []).append(node)
    newest = sorted(found.items(), key=lambda item: _number(item[0][0]), reverse=True)
    return [(Sender(version, "", protocol), names) for (version, protocol), names in newest]


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
