"""The check of what a cloud announces for this machine: maintenance, retirement, preemption."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.errors import HpcliError, UsageFault
from hpcli.health import sysfs
from hpcli.health.check import AnyCheck, Check, Context, Scope
from hpcli.ports import Host

ADDRESS = "http://169.254.169.254"
"""The metadata service of all three clouds: link-local, reached from the machine alone."""

CURL_TIMEOUT = 2.0
GENTLE = ("freeze", "migrate")
"""Kinds of events after which the machine goes on as it was."""


@dataclass(frozen=True, slots=True)
class EventParameters:
    """`cloud`: aws, azure or gcp; "" is not checked. `hours`: an event that begins later than that only warns (ours).

    `address`: of the metadata service, "" for the cloud's own.
    """

    cloud: str = ""
    hours: float = 24.0
    address: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """`starts_in`: seconds, 0 when it has begun or may begin at any time."""

    id: str
    kind: str
    starts_in: float = 0.0


@dataclass(frozen=True, slots=True)
class Events:
    """Not `reached`: the service did not answer, which says nothing of the machine."""

    reached: bool
    events: tuple[Event, ...] = ()


async def gather_events(host: Host, parameters: EventParameters) -> Events:
    """Starts curl once to three times."""
    base = parameters.address or ADDRESS
    if parameters.cloud == "aws":
        return await _of_aws(host, f"{base}/latest")
    if parameters.cloud == "azure":
        return await _of_azure(host, f"{base}/metadata")
    headers = "Metadata-Flavor: Google"
    state = await _get(host, f"{base}/computeMetadata/v1/instance/maintenance-event", headers)
    return Events(state is not None, parse_gcp(state or ""))


async def _of_aws(host: Host, base: str) -> Events:
    """The token goes through standard input: it is a secret, and arguments are seen by everybody."""
    token = await _get(host, f"{base}/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 60", "PUT")
    headers = f"X-aws-ec2-metadata-token: {token}" if token else ""
    planned = await _get(host, f"{base}/meta-data/events/maintenance/scheduled", headers)
    spot = await _get(host, f"{base}/meta-data/spot/instance-action", headers)
    found = parse_aws(planned or "", sysfs.wall_clock(host)) + parse_spot(spot or "")
    return Events(planned is not None, found)


async def _of_azure(host: Host, base: str) -> Events:
    """The service lists what happens to the whole availability set; only our own name counts."""
    name = await _get(host, f"{base}/instance/compute/name?api-version=2021-02-01&format=text", "Metadata: true")
    planned = await _get(host, f"{base}/scheduledevents?api-version=2020-07-01", "Metadata: true")
    return Events(planned is not None, parse_azure(planned or "", name or "", sysfs.wall_clock(host)))


async def _get(host: Host, url: str, headers: str, method: str = "GET") -> str | None:
    """The body of an answer, "" when the service has none, None when it does not answer."""
    limits = ["-m", f"{CURL_TIMEOUT:g}", "--noproxy", "*", "-X", method, "-H", "@-"]
    try:
        argv = ["curl", "-s", *limits, "-w", "\n%{http_code}", url]
        answer = await host.run(argv, stdin=f"{headers}\n", timeout=CURL_TIMEOUT + 1)
    except HpcliError:
        return None
    body, _, code = answer.out.rpartition("\n")
    if answer.code or code not in ("200", "404"):
        return None
    return body if code == "200" else ""


def parse_aws(text: str, now: float) -> tuple[Event, ...]:
    """Parse meta-data/events/maintenance/scheduled: those that still stand. `now`: seconds since the epoch."""
    rows = [row for row in _rows(_parsed(text)) if row.get("State", "active") == "active"]
    return tuple(Event(_word(row, "EventId"), _word(row, "Code"), _until(_word(row, "NotBefore"), now)) for row in rows)


def parse_spot(text: str) -> tuple[Event, ...]:
    """Parse meta-data/spot/instance-action: two minutes' notice, if there is any."""
    action = _parsed(text)
    return (Event("spot", f"spot {_word(action, 'action')}"),) if isinstance(action, dict) and action else ()


def parse_azure(text: str, name: str, now: float) -> tuple[Event, ...]:
    """Parse metadata/scheduledevents: those of the machine `name`, or all when its name is unknown."""
    answer = _parsed(text)
    rows = _rows(answer.get("Events")) if isinstance(answer, dict) else []
    ours = [row for row in rows if not name or _names(row, name)]
    return tuple(
        Event(_word(row, "EventId"), _word(row, "EventType"), _until(_word(row, "NotBefore"), now)) for row in ours
    )


def parse_gcp(text: str) -> tuple[Event, ...]:
    """Parse instance/maintenance-event: one word, NONE when all is well."""
    word = text.strip().lower()[:64]
    return (Event("maintenance-event", word),) if word not in ("", "none") else ()


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _rows(listed: object) -> list[Mapping[str, object]]:
    return [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []


def _word(row: object, key: str) -> str:
    found = row.get(key) if isinstance(row, dict) else None
    return found[:128] if isinstance(found, str) else "unknown"


def _names(row: Mapping[str, object], name: str) -> bool:
    resources = row.get("Resources")
    return isinstance(resources, list) and name in resources


def _until(text: str, now: float) -> float:
    """Seconds until `21 Jan 2019 09:00:43 GMT`, with or without the day of the week; 0 for no time."""
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def judge_events(evidence: Events, parameters: EventParameters) -> CheckResult:
    """What the cloud is about to take away is drained in time; what is far off, or passes by itself, is only told."""
    if not evidence.reached:
        return CheckResult("cloud.event", Severity.OK, "the metadata service does not answer")
    if not evidence.events:
        return CheckResult("cloud.event", Severity.OK, "nothing announced")
    soon = [event for event in evidence.events if event.starts_in <= parameters.hours * 3600 and not _is_gentle(event)]
    if soon:
        hint = "let jobs finish, then stop and start or replace the machine, so that it comes up elsewhere"
        return CheckResult(
            "cloud.event", Severity.CRITICAL, _shown(soon), Remedy.DRAIN, component=soon[0].id, hint=hint
        )
    hint = "nothing to do yet; the machine is drained when the time comes, if it must be"
    first = evidence.events[0].id
    return CheckResult("cloud.event", Severity.WARN, _shown(list(evidence.events)), component=first, hint=hint)


def _is_gentle(event: Event) -> bool:
    return any(word in event.kind.lower() for word in GENTLE)


def _shown(events: list[Event]) -> str:
    return sysfs.some(f"{event.kind} ({event.id}) in {event.starts_in / 3600:.1f} h" for event in events)


def _asked(parameters: EventParameters) -> bool:
    """Raises `UsageFault` for a cloud that we do not know."""
    if parameters.cloud not in ("", "aws", "azure", "gcp"):
        expected = f"found {parameters.cloud!r}, expected aws, azure or gcp"
        raise UsageFault("health.checks: cloud.event.cloud", expected)
    return bool(parameters.cloud)


EVENT = Check(
    name="cloud.event",
    detects="maintenance or an end that the cloud announces",
    source="curl: the cloud's metadata service",
    scope=Scope.MACHINE,
    parameters=EventParameters,
    gather=gather_events,
    judge=judge_events,
    evidence=Events,
    applies=_asked,
    contexts=frozenset({Context.ACCEPTANCE}),
)

CHECKS: tuple[AnyCheck, ...] = (EVENT,)
