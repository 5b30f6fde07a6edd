"""What an agent tells the controller about one node, and how it travels."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from hpcli.domain.check import Blame, CheckResult, Incident, Remedy, Severity
from hpcli.version import __version__

PROTOCOL = 2
"""One either side is understood as well. A protocol only adds fields to the one before, and what is not known is
passed over, so that agents and controller may be upgraded one after the other."""

UNTOLD = "0.1.0"
"""The only release that spoke protocol 1, which says no version."""

MAX_NAME = 64
MAX_REPORT = 1 << 20
MAX_SEQ = (1 << 63) - 1
"""What SQLite can hold."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The outcome of the acceptance suite that repair `repair` asked for."""

    repair: str
    passed: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node at one moment. `seq` counts up within `boot_id`; `at` is in seconds since the epoch.

    `complete` says that every check has run since this boot, so that "no incident" means healthy.
    """

    node: str
    boot_id: str
    instance_id: str
    seq: int
    at: float
    complete: bool
    results: tuple[CheckResult, ...] = ()
    incidents: tuple[Incident, ...] = ()
    acceptance: Acceptance | None = None


@dataclass(frozen=True, slots=True)
class Sender:
    """Which hpcli an agent is; `release` is that of the code pushed to its machine, "" where none was."""

    version: str = __version__
    release: str = ""
    protocol: int = PROTOCOL

    @property
    def understood(self) -> bool:
        return near(self.protocol, PROTOCOL)


def near(one: int, other: int) -> bool:
    """Whether those who speak these two protocols understand each other."""
    return abs(one - other) <= 1


def report_message(reports: Sequence[NodeReport], sender: Sender) -> dict[str, object]:
    named = {"version": sender.version, "release": sender.release} if sender.protocol > 1 else {}
    plain = [to_dict(report) for report in reports]
    return {"kind": "report", "protocol": sender.protocol, **named, "reports": plain}


def sender_of(message: Mapping[str, object]) -> Sender:
    """Who sent a message of reports. Raises ValueError when it does not say its protocol."""
    protocol = message.get("protocol")
    if not isinstance(protocol, int) or isinstance(protocol, bool):
        raise ValueError(f"report of protocol {str(protocol)[:MAX_NAME]!r}, expected a number")
    if protocol == 1:
        return Sender(UNTOLD, "", 1)
    return Sender(_name(message.get("version")), _name(message.get("release")), protocol)


def to_dict(report: NodeReport) -> dict[str, object]:
    return asdict(report)


def from_dict(raw: object) -> NodeReport:
    """Parse what came over the wire. Raises ValueError naming what is wrong."""
    try:
        assert isinstance(raw, dict)
        return NodeReport(
            node=_text(raw["node"]),
            boot_id=_text(raw["boot_id"]),
            instance_id=_text(raw["instance_id"]),
            seq=_seq(raw["seq"]),
            at=float(raw["at"]),
            complete=bool(raw["complete"]),
            results=tuple(_result(r) for r in raw["results"]),
            incidents=tuple(_incident(i) for i in raw["incidents"]),
            acceptance=_acceptance(raw["acceptance"]) if raw.get("acceptance") else None,
        )
    except (AssertionError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"not a node report: {error!r}") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, found {value!r}")
    return value


def _name(value: object) -> str:
    return value[:MAX_NAME] if isinstance(value, str) else ""


def _seq(value: object) -> int:
    if not isinstance(value, int) or not 0 < value <= MAX_SEQ:
        raise ValueError(f"expected a sequence number, found {value!r}")
    return value


def _acceptance(raw: dict[str, object]) -> Acceptance:
    return Acceptance(_text(raw["repair"]), bool(raw["passed"]), _text(raw.get("message", "")))


def _result(raw: dict[str, str]) -> CheckResult:
    return CheckResult(
        check=_text(raw["check"]),
        severity=Severity(raw["severity"]),
        message=_text(raw["message"]),
        remedy=Remedy(raw["remedy"]),
        blame=Blame(raw["blame"]),
        component=_text(raw["component"]),
        hint=_text(raw["hint"]),
    )


def _incident(raw: dict[str, object]) -> Incident:
    evidence = raw["evidence"]
    if not isinstance(evidence, list | tuple):
        raise ValueError("evidence is not a list")
    return Incident(
        cause=_text(raw["cause"]),
        message=_text(raw["message"]),
        remedy=Remedy(_text(raw["remedy"])),
        evict=bool(raw["evict"]),
        latched=bool(raw["latched"]),
        first_seen=float(str(raw["first_seen"])),
        component=_text(raw["component"]),
        evidence=tuple(_text(line) for line in evidence),
    )
