"""Checks of what the board's management controller (BMC) knows: its event log, fans, power supplies."""

import re
from dataclasses import dataclass
from datetime import datetime

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.errors import HpcliError
from hpcli.health import sysfs
from hpcli.health.check import AnyCheck, Check, Context, Scope
from hpcli.ports import Host

IPMI_TIMEOUT = 12.0
"""Seconds for one answer; a BMC is a slow machine behind a slow bus."""

NEWEST = 64
"""Entries of the event log that are read, from its end."""

SERIOUS = (
    "power supply ac lost",
    "ac lost",
    "failure detected",
    "power supply failure",
    "uncorrectable",
    "fatal",
    "pci serr",
    "pci perr",
    "thermal trip",
    "ierr",
    "machine check",
)
"""Parts of event texts (sensor-specific offsets of the IPMI 2.0 specification, table 42-3) that ask for a drain."""

_NOT_SERIOUS = ("non-fatal", "nonfatal", "predictive")
_BAD_FAN = frozenset({"cr", "nr", "lcr", "lnr", "ucr", "unr"})
_BAD_SUPPLY = ("failure", "ac lost", "out-of-range", "config error")
_TIME = "%m/%d/%Y %H:%M:%S"
_YEAR = re.compile(r"(\d\d/\d\d)/(\d\d)(?!\d)")


@dataclass(frozen=True, slots=True)
class EventParameters:
    """`hours`: how far back an event still counts, by the BMC's own clock (ours)."""

    hours: float = 24.0


@dataclass(frozen=True, slots=True)
class SensorParameters:
    """`exclude`: sensors that are not looked at, globs with commas."""

    exclude: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """`age`: seconds by the BMC's clock, -1 when the entry carries no time. Not `raised`: its end was recorded."""

    sensor: str
    text: str
    raised: bool
    age: float


@dataclass(frozen=True, slots=True)
class Events:
    """Entries in the order of the log; none where there is no BMC."""

    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Sensor:
    """`status` in ipmitool's letters ("ok", "cr", "ns"), `reading` in its words."""

    name: str
    status: str
    reading: str


@dataclass(frozen=True, slots=True)
class Sensors:
    fans: tuple[Sensor, ...]
    supplies: tuple[Sensor, ...]


async def gather_events(host: Host, _: EventParameters) -> Events:
    """Starts ipmitool twice; where there is no BMC, not at all."""
    clock = await _ipmitool(host, "sel", "time", "get")
    listed = await _ipmitool(host, "sel", "list", "last", str(NEWEST)) if clock else ""
    return parse_events(listed, clock)


async def gather_sensors(host: Host, _: SensorParameters) -> Sensors:
    """Starts ipmitool twice; where there is no BMC, not at all."""
    fans = await _ipmitool(host, "sdr", "type", "Fan")
    supplies = await _ipmitool(host, "sdr", "type", "Power Supply")
    return Sensors(parse_sensors(fans), parse_sensors(supplies))


async def _ipmitool(host: Host, *words: str) -> str:
    """What ipmitool says, "" where it has nobody to ask."""
    if not any(host.glob(path) for path in ("/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0")):
        return ""
    try:
        answer = await host.run(["ipmitool", *words], timeout=IPMI_TIMEOUT)
    except HpcliError:
        return ""
    return "" if answer.code else answer.out


def parse_events(listed: str, clock: str) -> Events:
    """Parse `ipmitool sel list` and `ipmitool sel time get`: both in the BMC's own time, whatever zone that is."""
    now = _moment(clock)
    rows = [[cell.strip() for cell in line.split("|")] for line in listed.splitlines()]
    return Events(tuple(_event(row, now) for row in rows if len(row) >= 5))


def _event(row: list[str], now: datetime | None) -> Event:
    """`1 | 11/23/2026 | 22:10:05 | Power Supply #0x63 | Power Supply AC lost | Asserted`; some leave the end away."""
    at = _moment(f"{row[1]} {row[2]}")
    age = (now - at).total_seconds() if now and at else -1.0
    return Event(row[3], row[4], "Deasserted" not in row[5:], max(age, -1.0))


def _moment(text: str) -> datetime | None:
    """ipmitool's time; newer ones write the year with two digits and add a zone, and Pre-Init is no time at all."""
    words = _YEAR.sub(r"\1/20\2", text).split()
    try:
        return datetime.strptime(" ".join(words[:2]), _TIME)
    except ValueError:
        return None


def parse_sensors(text: str) -> tuple[Sensor, ...]:
    """Parse `ipmitool sdr type`: `FAN1 | 41h | ok | 29.1 | 5000 RPM`."""
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()]
    return tuple(Sensor(row[0], row[2], row[4]) for row in rows if len(row) >= 5)


def judge_events(evidence: Events, parameters: EventParameters) -> CheckResult:
    """An event counts while it is fresh and nothing says that it passed; what is years old was dealt with."""
    standing: dict[tuple[str, str], Event] = {}
    for event in evidence.events:
        standing.pop((event.sensor, event.text), None)
        if event.raised and 0 <= event.age <= parameters.hours * 3600 and _is_serious(event.text):
            standing[event.sensor, event.text] = event
    if not standing:
        message = f"{len(evidence.events)} entries, none that is fresh and serious"
        return CheckResult("bmc.sel", Severity.OK, message if evidence.events else "no event log here")
    shown = sysfs.some(f"{each.sensor}: {each.text}, {each.age / 3600:.1f} h ago" for each in standing.values())
    hint = "ipmitool sel elist; keep the log for the vendor before anything clears it"
    first = next(iter(standing.values())).sensor
    return CheckResult("bmc.sel", Severity.CRITICAL, shown, Remedy.DRAIN, component=first, hint=hint)


def _is_serious(text: str) -> bool:
    lower = text.lower()
    return any(word in lower for word in SERIOUS) and not any(word in lower for word in _NOT_SERIOUS)


def judge_sensors(evidence: Sensors, parameters: SensorParameters) -> CheckResult:
    """Without a fan the machine overheats; with one power supply of two it goes on."""
    fans = [fan for fan in evidence.fans if not sysfs.matches(fan.name, parameters.exclude)]
    still = [fan for fan in fans if fan.status in _BAD_FAN]
    if still:
        shown = sysfs.some(f"{fan.name}: {fan.reading} ({fan.status})" for fan in still)
        hint = "change the fan; until then the machine throttles or switches itself off"
        message = f"{shown}, expected ok"
        return CheckResult("bmc.sensors", Severity.CRITICAL, message, Remedy.DRAIN, component=still[0].name, hint=hint)
    supplies = [each for each in evidence.supplies if not sysfs.matches(each.name, parameters.exclude)]
    bad = [each for each in supplies if any(word in each.reading.lower() for word in _BAD_SUPPLY)]
    if bad:
        shown = sysfs.some(f"{each.name}: {each.reading}" for each in bad)
        hint = "look at its cable and its circuit, then change it"
        return CheckResult("bmc.sensors", Severity.WARN, shown, component=bad[0].name, hint=hint)
    message = f"{len(fans)} fans and {len(supplies)} sensors of power supplies well"
    return CheckResult("bmc.sensors", Severity.OK, message if fans or supplies else "no sensors here")


SEL = Check(
    name="bmc.sel",
    detects="a serious event that the BMC recorded",
    source="ipmitool sel list",
    scope=Scope.MACHINE,
    parameters=EventParameters,
    gather=gather_events,
    judge=judge_events,
    evidence=Events,
    contexts=frozenset({Context.ACCEPTANCE}),
    timeout=30.0,
)

SENSORS = Check(
    name="bmc.sensors",
    detects="a fan or power supply that fails",
    source="ipmitool sdr type",
    scope=Scope.MACHINE,
    parameters=SensorParameters,
    gather=gather_sensors,
    judge=judge_sensors,
    evidence=Sensors,
    contexts=frozenset({Context.ACCEPTANCE}),
    timeout=30.0,
)

CHECKS: tuple[AnyCheck, ...] = (SEL, SENSORS)
