"""Slurm's files made harmless: the same configuration for a slurmctld that is started only to see what it says.

It talks to no machine, no database and no program of the cluster, and keeps everything below one folder.
"""

import re
from collections.abc import Iterator, Mapping

from hpcli.errors import HpcliError
from hpcli.render import safe

NOWHERE = "NodeAddr=127.0.0.1 Port=1"
"""Where a trial believes every node to be: nothing listens there, and only root could."""

_PAIR = re.compile(r"([A-Za-z][A-Za-z0-9_]*)\s*[-+*/]?=\s*(\"[^\"]*\"|\S+)")
_PLACE = re.compile(r"\s+(?:NodeAddr|BcastAddr|Port)\s*=\s*(?:\"[^\"]*\"|\S+)", re.IGNORECASE)
_DEFAULT = re.compile(r"NodeName\s*=\s*DEFAULT\b", re.IGNORECASE)
_RECORDS = ("nodename", "nodeset", "partitionname", "downnodes", "frontendname")

_OWN_PLACES = frozenset(
    {
        "slurmctldhost",
        "slurmctldaddr",
        "slurmctldport",
        "backupaddr",
        "backupcontroller",
        "controladdr",
        "controlmachine",
        "statesavelocation",
        "slurmdspooldir",
        "slurmctldpidfile",
        "slurmdpidfile",
        "slurmctldlogfile",
        "slurmdlogfile",
        "slurmschedlogfile",
        "slurmschedloglevel",
        "slurmctldsyslogdebug",
        "mailprog",
    }
)
_OUTSIDE = frozenset(
    {
        "prolog",
        "epilog",
        "prologslurmctld",
        "epilogslurmctld",
        "resvprolog",
        "resvepilog",
        "srunprolog",
        "srunepilog",
        "taskprolog",
        "taskepilog",
        "rebootprogram",
        "resumeprogram",
        "resumefailprogram",
        "suspendprogram",
        "healthcheckprogram",
        "unkillablestepprogram",
        "slurmctldprimaryonprog",
        "slurmctldprimaryoffprog",
        "jobsubmitplugins",
        "burstbuffertype",
        "burstbufferparameters",
    }
)
"""Programs, and plugins that read files or speak to services which a trial does not have."""

_SERVICES = ("accountingstor", "jobcomp")
"""How parameters about databases begin."""

_QUIET = frozenset({"quiet", "fatal", "error", "0", "1", "2"})


def trial_files(files: Mapping[str, str], folder: str, port: int, host: str, address: str) -> dict[str, str]:
    """Make a trial's files from rendered ones, by name: for slurmctld on `host`, with its port and all it writes below
    `folder`. It says "Running as primary controller" when it finds nothing wrong. Raises `HpcliError`.
    """
    others = {name: text for name, text in files.items() if name not in ("slurm.conf", "slurmdbd.conf")}
    own = "\n".join(_own_lines(safe.path("trial folder", folder), port, host, address))
    kept = "\n".join(_kept_lines(files["slurm.conf"]))
    return {**others, "slurm.conf": f"# A trial of hpcli's: not the cluster's configuration.\n{own}\n{kept}\n"}


def _own_lines(folder: str, port: int, host: str, address: str) -> tuple[str, ...]:
    return (
        f"SlurmctldHost={safe.host('trial host', host)}({safe.address('trial address', address)})",
        f"SlurmctldPort={safe.port('trial port', port)}",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/slurmd-%n.pid",
        f"SlurmctldLogFile={folder}/slurmctld.log",
        f"SlurmdLogFile={folder}/slurmd-%n.log",
        "MailProg=/bin/true",
    )


def _kept_lines(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", "").splitlines():
        stripped = line.partition("#")[0].strip()
        if not stripped:
            continue
        first = stripped.split("=")[0].split()[0].lower()
        if first == "include":
            raise HpcliError(
                "slurm.conf", f"found {stripped!r}, expected no other files", "write its lines into slurm.conf itself"
            )
        yield from _nowhere(stripped) if first in _RECORDS else _harmless(stripped)


def _nowhere(record: str) -> Iterator[str]:
    if not record.lower().startswith("nodename"):
        yield record
        return
    without = _PLACE.sub("", record)
    # Slurm refuses an address for DEFAULT.
    yield without if _DEFAULT.match(without) else f"{without} {NOWHERE}"


def _harmless(line: str) -> Iterator[str]:
    """Several parameters may share a line; what is no parameter is kept, for slurmctld to complain about."""
    pairs = [(pair[1].lower(), pair[2], pair[0]) for pair in _PAIR.finditer(line)]
    tamed = [_tamed(name, value, text) for name, value, text in pairs]
    if tamed == [text for _, _, text in pairs]:
        yield line
        return
    yield from filter(None, tamed)


def _tamed(name: str, value: str, text: str) -> str:
    if name == "slurmctlddebug" and value.lower() in _QUIET:
        return "SlurmctldDebug=info"  # else slurmctld would not say that it is up
    if name == "priorityweighttres":
        # Without a database Slurm has the TRES of its own only, and refuses weights for others.
        known = ",".join(item for item in value.strip('"').split(",") if "/" not in item)
        return f"PriorityWeightTRES={known}" if known else ""
    return "" if _is_outside(name) else text


def _is_outside(name: str) -> bool:
    return name.startswith(_SERVICES) or name in _OWN_PLACES or name in _OUTSIDE
