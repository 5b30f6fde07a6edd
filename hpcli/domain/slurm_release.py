"""Slurm's releases: which upgrade may be made in place, and by which way one gets from one series to another.

Sources: "Compatibility Window" of slurm.schedmd.com/upgrades.html; Debian Policy 5.6.12 for the order of versions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cmp_to_key

from hpcli.domain.blueprint import ADOPTED, Blueprint
from hpcli.domain.names import fold
from hpcli.errors import HpcliError, NotFound, Unsafe

SERIES = ("21.08", "22.05", "23.02", "23.11", "24.05", "24.11", "25.05", "25.11", "26.05")
"""Every major release, the oldest first."""
WIDER = "24.11"
"""From here on the three releases before are understood, before it two."""
DEBIAN = ("22.05", "24.11", "26.05")
GUIDE = "https://slurm.schedmd.com/upgrades.html"
_PART = re.compile(r"(\D*)(\d*)")


@dataclass(frozen=True, slots=True)
class Package:
    """One of Slurm's packages on a machine: what is installed, what apt would take, and all that is to be had."""

    name: str
    installed: str
    candidate: str
    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """What a machine says. `underway`: an upgrade was cut short there."""

    packages: tuple[Package, ...]
    underway: bool = False

    def is_at(self, version: str) -> bool:
        return not self.underway and all(package.installed == version for package in self.packages)

    @property
    def installed(self) -> str:
        """The oldest of it, should an upgrade have been cut short."""
        return min((package.installed for package in self.packages), key=order_key, default="")


def parse_offer(text: str) -> Offer:
    """What `lifecycle/upgrade look` prints. Raises ValueError for anything else."""
    lines = text.splitlines()
    rows = [line.split("\t") for line in lines if line != "underway"]
    if not rows or any(len(row) != 4 for row in rows):
        raise ValueError(f"found {text[:80]!r}, expected lines of package, installed, candidate and versions")
    packages = tuple(Package(name, have, best, tuple(all_.split(","))) for name, have, best, all_ in rows)
    return Offer(packages, "underway" in lines)


def choose(offers: Mapping[str, Offer], wanted: str = "") -> str:
    """The one version that all machines are to get; `wanted` as 22.05.9 or with Debian's revision, "" the newest.

    Raises `Unsafe` for what must not be done in place, `NotFound` for what is not to be had, `HpcliError` when
    machines are offered different ones.
    """
    found = {host: _best(host, offer, wanted) for host, offer in offers.items()}
    target = max(found.values(), key=order_key)
    newest = max((offer.installed for offer in offers.values()), key=order_key)
    for version in (wanted or target, target):
        _require_patch(newest, version)
    if len(set(found.values())) > 1:
        raise HpcliError("Slurm", f"found {_told(found)} to be had, expected one version for all machines", _ONE)
    if compare(target, newest) < 0:
        raise Unsafe("Slurm", f"found {newest} installed, expected an older one than {target}", _NO_WAY_BACK)
    return target


def refuse_adopted(applied: Blueprint) -> None:
    """Raises `Unsafe` where Slurm is somebody else's."""
    if applied.provider == ADOPTED:
        what = "found it adopted, expected one that hpcli built: Slurm there is the site's own business"
        raise Unsafe(f"cluster {applied.cluster}", what, f"upgrade it with the site's own means, as {GUIDE} has it")


def series(version: str) -> str:
    """As 22.05 of 22.05.8-4+deb12u3."""
    return ".".join(version.split(".")[:2])


def reads(newer: str, older: str) -> bool:
    """Whether the daemons of one series take over state and speak the protocol of another."""
    if newer not in SERIES or older not in SERIES:
        return newer == older
    window = 3 if SERIES.index(newer) >= SERIES.index(WIDER) else 2
    return 0 <= SERIES.index(newer) - SERIES.index(older) <= window


def supported_path(start: str, end: str) -> tuple[str, ...]:
    """The fewest series, each upgraded to from the one before, both ends included; rather Debian's own, and newer ones.

    Empty where there is none: to an older one, or to one that nobody here knows.
    """
    ways: list[tuple[str, ...]] = [(start,)]
    while ways and start in SERIES:
        ends = [way for way in ways if way[-1] == end]
        if ends:
            return max(ends, key=lambda way: (sum(one in DEBIAN for one in way), way))
        ways = [(*way, one) for way in ways for one in SERIES if one > way[-1] and reads(one, way[-1])]
    return ()


def path_words(start: str, end: str) -> str:
    """The supported way from one series to another, for a person."""
    way = supported_path(start, end)
    if not way:
        return f"Slurm has no way from {start} to {end}: {_NO_WAY_BACK}"
    between = [one for one in way[1:-1] if one not in DEBIAN]
    told = f"Slurm's own way is {' -> '.join(way)} ({GUIDE}), and none back once a slurmctld has started"
    lacking = f"; Debian has no {' or '.join(between)}" if between else ""
    return f"{told}{lacking}: build new machines with Slurm {end} (another cluster.yaml), and move users and jobs there"


def compare(one: str, other: str) -> int:
    """Debian's order of versions, as `dpkg --compare-versions`: below, at or above 0."""
    for mine, theirs in zip(_parts(one), _parts(other), strict=True):
        if found := _compare_part(mine, theirs):
            return found
    return 0


order_key = cmp_to_key(compare)

_ONE = "refresh the mirror, or name the version: hpcli cluster upgrade --slurm VERSION"
_NO_WAY_BACK = "a newer slurmctld has written its state already, and an older one cannot read it"


def _best(host: str, offer: Offer, wanted: str) -> str:
    """What apt would take for all of a machine's packages, or the newest that is meant by `wanted`."""
    if not wanted:
        return _candidate(host, offer)
    common = set.intersection(*({*package.versions, package.installed} for package in offer.packages))
    fitting = [one for one in common if one == wanted or one.startswith(f"{wanted}-")]
    if fitting:
        return max(fitting, key=order_key)
    _require_patch(offer.installed, wanted)
    seen = ", ".join(sorted(common, key=order_key)) or "none for all packages"
    raise NotFound(f"Slurm {wanted}", f"found {seen} to be had on {host}, expected {wanted}", _ONE)


def _candidate(host: str, offer: Offer) -> str:
    """apt's own choice, which minds a site's pins."""
    candidates = sorted({package.candidate for package in offer.packages}, key=order_key)
    if len(candidates) > 1:
        told = ", ".join(candidates)
        raise HpcliError(f"host {host}", f"found {told} to be had, expected one version for all of Slurm", _ONE)
    return candidates[0]


def _require_patch(installed: str, version: str) -> None:
    """Raises `Unsafe` with the supported way to another series."""
    have, want = series(installed), series(version)
    if have != want:
        what = f"found {installed} installed, expected a patch release of {have}, not {version}"
        raise Unsafe("Slurm", what, path_words(have, want))


def _told(found: Mapping[str, str]) -> str:
    by_version: dict[str, list[str]] = {}
    for host, version in found.items():
        by_version.setdefault(version, []).append(host)
    return "; ".join(f"{one} on {fold(hosts)}" for one, hosts in sorted(by_version.items()))


def _parts(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.partition(":")
    upstream, _, revision = (rest if colon else version).rpartition("-")
    return (epoch if colon else "0"), upstream or revision, revision if upstream else "0"


def _compare_part(one: str, other: str) -> int:
    """Texts and numbers in turn; a ~ sorts before everything, even the end, and letters before other signs."""
    mine, theirs = _pieces(one), _pieces(other)
    for i in range(max(len(mine), len(theirs))):
        text, number = mine[i] if i < len(mine) else ("", 0)
        other_text, other_number = theirs[i] if i < len(theirs) else ("", 0)
        pair = ([*map(_weight, text), 0], number), ([*map(_weight, other_text), 0], other_number)
        if pair[0] != pair[1]:
            return -1 if pair[0] < pair[1] else 1
    return 0


def _pieces(text: str) -> Sequence[tuple[str, int]]:
    return [(letters, int(digits or 0)) for letters, digits in _PART.findall(text) if letters or digits]


def _weight(sign: str) -> int:
    if sign == "~":
        return -1
    return ord(sign) if sign.isalpha() else ord(sign) + 256
