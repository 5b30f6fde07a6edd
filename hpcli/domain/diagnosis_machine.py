"""The machine where commands run, judged: munge, clock, hooks, permissions, disk. Texts of stat and df into values."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hpcli.domain.diagnosis import Configuration, Finding, note, ok, wrong

MUNGE_KEY = "/etc/munge/munge.key"
SKEW_NOTED, SKEW_WRONG = 2.0, 60.0
"""Seconds; munge's credentials live 300 s, and two machines may be off to either side."""

FULL_NOTED, FULL_WRONG = 85, 95
OURS = "hpcli"
_DF = re.compile(r"^\S.*?\s(\d+)%\s+(/.*)$", re.MULTILINE)
_DENIED = re.compile(r"(?:'([^']+)'|(/\S+)): Permission denied")


@dataclass(frozen=True, slots=True)
class Mode:
    """Who may do what with a file."""

    mode: int
    owner: str
    group: str


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of a machine. `munge` is its fault, "" when both halves worked and None when it was not tried.

    `before` and `after` are its clock around the moment of slurmctld's. `hooks` are Prolog scripts by path, None for
    one that cannot be read. `modes` and `filled` (percent, of space or inodes, the fuller) hold what was seen, `denied`
    what this user may not see.
    """

    user: str = ""
    munge: str | None = None
    before: float = 0.0
    after: float = 0.0
    hooks: Mapping[str, str | None] = field(default_factory=dict)
    modes: Mapping[str, Mode] = field(default_factory=dict)
    filled: Mapping[str, int] = field(default_factory=dict)
    denied: tuple[str, ...] = ()


def judge_machine(sight: Sight, conf: Configuration) -> Iterator[Finding]:
    yield from _munge(sight)
    yield from _clock(sight, conf.as_of)
    yield from _hooks(sight, conf)
    yield from _permissions(sight, conf)
    yield from _disk(sight, conf)
    if sight.denied:
        told = f"user {sight.user} may not see {', '.join(sight.denied)}"
        yield note("not seen", told, "nothing is said of them here", "run hpcli doctor as root to see them")


def _munge(sight: Sight) -> Iterator[Finding]:
    if sight.munge:
        cost = "no command, job or agent is believed from this machine"
        yield wrong("munge", sight.munge, cost, "systemctl restart munge; is its key the cluster's?")
    elif sight.munge is not None:
        yield ok("munge", "encoded and decoded a credential")


def _clock(sight: Sight, controllers: float) -> Iterator[Finding]:
    """slurmctld tells whole seconds, and so does date: 1 s either way is none."""
    if not (controllers and sight.before and sight.after):
        return
    off = max(sight.before - 1 - controllers, controllers - sight.after - 1, 0.0)
    told = f"{off:g} s from slurmctld's"
    cost = "at 300 s munge takes no credential from here, and Slurm and hpcli tell other times than logs do"
    fix = "start chrony or systemd-timesyncd on both"
    if off > SKEW_WRONG:
        yield wrong("clock", told, cost, fix)
    elif off > SKEW_NOTED:
        yield note("clock", told, cost, fix)
    else:
        yield ok("clock", "as slurmctld's")


def hook_paths(conf: Configuration) -> tuple[str, ...]:
    return tuple(path for path in conf.text("Prolog").split(",") if path.startswith("/"))


def _hooks(sight: Sight, conf: Configuration) -> Iterator[Finding]:
    cost = "a job may start on a node in the moments before hpcli drains it"
    paths = hook_paths(conf)
    if not paths:
        yield note(
            "Prolog", "none", cost, "Prolog=/etc/slurm/prolog, which hpcli puts on the nodes; see docs/doctor.md"
        )
        return
    told = ", ".join(paths)
    seen = [sight.hooks.get(path) for path in paths]
    if any(text and OURS in text for text in seen):
        yield ok("Prolog", f"{told}: has hpcli's gate")
    elif all(text is None for text in seen):
        yield ok("Prolog", f"{told}: cannot be read from this machine")
    else:
        yield note("Prolog", f"{told}: not hpcli's", cost, "call the gate in its first lines; see docs/doctor.md")


def files_to_see(conf: Configuration) -> tuple[str, ...]:
    """Files and folders whose permissions matter; munge's key only where munged is the machine's own."""
    folder = conf.text("SLURM_CONF").rpartition("/")[0]
    key = () if conf.option("AuthInfo", "socket").strip() not in ("", "/run/munge/munge.socket.2") else (MUNGE_KEY,)
    state = conf.text("StateSaveLocation")
    return (*key, *((f"{folder}/slurmdbd.conf",) if folder else ()), *((state,) if state else ()))


def _permissions(sight: Sight, conf: Configuration) -> Iterator[Finding]:
    for path in files_to_see(conf):
        mode = sight.modes.get(path)
        if mode is None:
            continue
        folder = path == conf.text("StateSaveLocation")
        told = f"{path} is {mode.mode:o} {mode.owner}:{mode.group}"
        if not mode.mode & (0o022 if folder else 0o077):
            yield ok("permissions", told)
        elif folder:
            cost = "whoever writes there can change jobs and their owners"
            yield wrong("permissions", told, cost, f"chmod go-w {path}")
        elif path == MUNGE_KEY:
            yield wrong(
                "permissions", told, "whoever reads it can be anybody, root too", f"chmod 0400 {path}; a new key"
            )
        else:
            yield wrong(
                "permissions",
                told,
                "the database's password shows, and slurmdbd refuses to start",
                f"chmod 0600 {path}",
            )


def disk_paths(conf: Configuration) -> tuple[str, ...]:
    """slurmctld's state, and slurmd's spool up to the part that differs between nodes."""
    spool = conf.text("SlurmdSpoolDir")
    shared = spool.partition("%")[0].rstrip("/") if "%" in spool else spool
    return tuple(dict.fromkeys(path for path in (conf.text("StateSaveLocation"), shared) if path))


def _disk(sight: Sight, conf: Configuration) -> Iterator[Finding]:
    for path in disk_paths(conf):
        percent = sight.filled.get(path)
        if percent is None:
            continue
        state = path == conf.text("StateSaveLocation")
        cost = "slurmctld loses what it cannot save" if state else "slurmd can launch no job, and Slurm drains its node"
        judge = wrong if percent >= FULL_WRONG else note
        told = f"{path} is on a file system {percent} % full"
        yield ok("disk", told) if percent < FULL_NOTED else judge("disk", told, cost, f"free some space: df {path}")


def parse_modes(text: str) -> dict[str, Mode]:
    """Parse `stat -c '%a %U %G %n'`."""
    found = (line.split(" ", 3) for line in text.splitlines())
    return {one[3]: Mode(int(one[0], 8), one[1], one[2]) for one in found if len(one) == 4}


def parse_filled(text: str) -> int | None:
    """Parse `df -P` of one path: percent in use, None where there is no such thing (inodes of btrfs)."""
    found = _DF.findall(text)
    return int(found[-1][0]) if found else None


def parse_denied(err: str) -> tuple[str, ...]:
    """Parse what coreutils said of files that may not be seen."""
    return tuple(dict.fromkeys(quoted or plain for quoted, plain in _DENIED.findall(err)))
