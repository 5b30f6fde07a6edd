"""The check of devices on the PCI bus against a manifest."""

from collections import Counter
from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.errors import UsageFault
from hpcli.health import sysfs
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.ports import Host

PCI = "/sys/bus/pci/devices"

ALL_ONES = 63
"""Lanes that a device seems to have when it is off the bus: each bit of its six-bit field reads as 1."""


@dataclass(frozen=True, slots=True)
class ManifestParameters:
    """`manifest`: devices with commas, as VENDOR:DEVICE, `*COUNT`, and lanes and speed of the link that each must have.

    `10de:2330*8, 15b3:1021*8 x16 32` are eight of the one, and eight of the other on 16 lanes at 32 GT/s. Speeds of
    devices that slow down when idle, as GPUs do, do not belong here.
    """

    manifest: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """`lanes` and `speed` (GT/s) are 0 where they do not matter."""

    kind: str
    count: int = 1
    lanes: int = 0
    speed: float = 0.0


@dataclass(frozen=True, slots=True)
class Device:
    """A PCI device: its address, kind (`10de:2330`), and link; 0 where the kernel does not tell."""

    address: str
    kind: str
    lanes: int = 0
    speed: float = 0.0


@dataclass(frozen=True, slots=True)
class Devices:
    """Devices of the kinds that the manifest names."""

    devices: tuple[Device, ...]


def parse_manifest(text: str) -> tuple[Entry, ...]:
    """Raises `UsageFault` for an entry that is none."""
    return tuple(_entry(word) for word in sysfs.words(text))


def _entry(word: str) -> Entry:
    first, *link = word.split()
    kind, _, count = first.lower().partition("*")
    vendor, _, device = kind.partition(":")
    lanes = link[0].removeprefix("x") if link else "0"
    speed = sysfs.quantity(link[1]) if len(link) > 1 else 0.0
    hexadecimal = all(len(part) == 4 and set(part) <= set("0123456789abcdef") for part in (vendor, device))
    if not hexadecimal or not (count or "1").isdecimal() or not lanes.isdecimal() or len(link) > 2:
        hint = "an entry is VENDOR:DEVICE, then *COUNT, xLANES and GT/s if they matter: 15b3:1021*8 x16 32"
        raise UsageFault("health.checks: pci.manifest.manifest", f"found {word!r}, expected a device", hint)
    return Entry(kind, int(count or "1"), int(lanes), speed)


async def gather_devices(host: Host, parameters: ManifestParameters) -> Devices:
    """Raises ValueError where there is no PCI bus to look at."""
    kinds = {entry.kind for entry in parse_manifest(parameters.manifest)}
    paths = host.glob(f"{PCI}/*/uevent")
    if not paths:
        raise ValueError(f"{PCI}: found no device, is /sys mounted?")
    found = [(path.removesuffix("/uevent"), _kind(sysfs.text(host, path))) for path in paths]
    return Devices(tuple(_device(host, folder, kind) for folder, kind in found if kind in kinds))


def _kind(uevent: str) -> str:
    line = next((line for line in uevent.splitlines() if line.startswith("PCI_ID=")), "")
    return line.removeprefix("PCI_ID=").lower()


def _device(host: Host, folder: str, kind: str) -> Device:
    lanes = sysfs.number(host, f"{folder}/current_link_width")
    speed = sysfs.quantity(sysfs.text(host, f"{folder}/current_link_speed"))
    return Device(folder.rpartition("/")[2], kind, lanes, speed)


def judge_devices(evidence: Devices, parameters: ManifestParameters) -> CheckResult:
    """A device that is gone, or came up on fewer lanes than its slot has."""
    entries = parse_manifest(parameters.manifest)
    counts = Counter(device.kind for device in evidence.devices)
    short = [entry for entry in entries if counts[entry.kind] < entry.count]
    if short:
        shown = sysfs.some(f"{entry.kind}: found {counts[entry.kind]}, expected {entry.count}" for entry in short)
        return _drain(shown, short[0].kind, "lspci -nn; reboot, then reseat it, if it stays away")
    slow = [(device, entry) for entry in entries for device in evidence.devices if _is_slow(device, entry)]
    if slow:
        shown = sysfs.some(
            f"{device.address}: x{device.lanes} at {device.speed:g} GT/s, expected x{entry.lanes} at {entry.speed:g}"
            for device, entry in slow
        )
        return _drain(shown, slow[0][0].address, "lspci -vv shows what both ends can do; reboot, then reseat it")
    return CheckResult("pci.manifest", Severity.OK, f"{len(evidence.devices)} devices as expected")


def _is_slow(device: Device, entry: Entry) -> bool:
    if device.kind != entry.kind or not device.lanes:
        return False
    return device.lanes == ALL_ONES or device.lanes < entry.lanes or device.speed < entry.speed


def _drain(message: str, component: str, hint: str) -> CheckResult:
    return CheckResult("pci.manifest", Severity.CRITICAL, message, Remedy.DRAIN, component=component, hint=hint)


MANIFEST = Check(
    name="pci.manifest",
    detects="a PCI device that is missing or whose link is slow",
    source="/sys/bus/pci/devices",
    scope=Scope.MACHINE,
    parameters=ManifestParameters,
    gather=gather_devices,
    judge=judge_devices,
    evidence=Devices,
    applies=lambda parameters: bool(parse_manifest(parameters.manifest)),
)

CHECKS: tuple[AnyCheck, ...] = (MANIFEST,)
