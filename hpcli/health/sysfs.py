"""Reading the small files of /sys and /proc, of which any may be missing or refuse to be read."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from hpcli.ports import Host


def text(host: Host, path: str) -> str:
    """A file's content without surrounding blanks; "" when it cannot be read.

    A driver that is about to lose its device answers EIO or ENODEV, and one attribute more or less is no fault.
    """
    try:
        return host.read(path).strip()
    except OSError:
        return ""


def number(host: Host, path: str) -> int:
    """The whole number that a file begins with, 0 when there is none."""
    return whole(text(host, path))


def whole(word: str) -> int:
    """The whole number that a text begins with ("16", "4: ACTIVE"), 0 when there is none."""
    first = (word.replace(":", " ").split() or [""])[0]
    try:
        return int(first)
    except ValueError:
        return 0


def quantity(word: str) -> float:
    """The number that a text begins with ("32.0 GT/s PCIe"), 0 when there is none."""
    first = (word.split() or [""])[0]
    # float() takes "nan" and "infinity" too, which no driver means.
    if not first.replace(".", "", 1).isdecimal() or len(first) > 32:
        return 0.0
    return float(first)


def uptime(host: Host) -> float:
    """Seconds since boot. Raises OSError or ValueError when /proc/uptime is not what it should be."""
    return float(host.read("/proc/uptime").split()[0])


def wall_clock(host: Host) -> float:
    """Seconds since the epoch, to about one second. Raises OSError or ValueError."""
    lines = host.read("/proc/stat").splitlines()
    booted = next((line for line in lines if line.startswith("btime ")), "btime ?")
    return int(booted.split()[1]) + uptime(host)


def words(listed: str) -> tuple[str, ...]:
    """A parameter's list: words separated by commas."""
    return tuple(word.strip() for word in listed.split(",") if word.strip())


def matches(name: str, listed: str) -> bool:
    """Whether a name is in a parameter's list of glob patterns."""
    return any(fnmatchcase(name, pattern) for pattern in words(listed))


def growth(before: int, now: int) -> int:
    """How far a counter went up; one that went down was reset in between."""
    return now - before if now >= before else now


def some(names: Iterable[str], most: int = 4) -> str:
    """Names for a message: the first few, and how many more."""
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + rest
