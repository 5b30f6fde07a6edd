"""Text of scontrol and sinfo into domain nodes. Pure; hostile values cannot forge a field."""

import re
from collections.abc import Mapping
from datetime import datetime

from hpcli.domain.node import Node

SUFFIXES = {
    "*": "NOT_RESPONDING",
    "~": "POWERED_DOWN",
    "#": "POWERING_UP",
    "!": "POWER_DOWN",
    "%": "POWERING_DOWN",
    "$": "MAINTENANCE",
    "^": "REBOOT_ISSUED",
    "@": "REBOOT_REQUESTED",
    "-": "PLANNED",
}
"""Marks behind a node state (sinfo(1), NODE STATE CODES)."""

_NOTHING = frozenset({"", "(null)", "N/A", "n/a", "None", "Unknown", "NONE"})
_RECORD = re.compile(r"^NodeName=(?=\S+ (?:Arch=\S+ +)?CoresPerSocket=)", re.MULTILINE)
_FIELD = re.compile(r"(?:^| )([A-Za-z_:]+)=(\S*)")
_FREE_TEXT = re.compile(r" (?:Reason|Comment|Extra|ResvName|InstanceId|InstanceType|OS)=")
_AFTER_OS = re.compile(r" RealMemory=")
_OTHER_TEXT = re.compile(r"\s(?:Comment|Extra|ResvName|InstanceId|InstanceType)=")
_STAMPED_REASON = re.compile(r" Reason=(.*) \[[^\s\[\]]+@[\dT:-]+\]", re.DOTALL)
_BARE_REASON = re.compile(r" Reason=(.*)", re.DOTALL)
_GPU = re.compile(r"(?:^|,)gpu(?::[^,:(=]+)?[:=](\d+)(K?)")
_GPU_TRES = re.compile(r"(?:^|,)gres/gpu=(\d+)")


def parse_nodes(text: str) -> tuple[Node, ...]:
    """Parse `scontrol show node -d -o`."""
    starts = [found.start() for found in _RECORD.finditer(text)]
    ends = [*starts[1:], len(text)]
    return tuple(_node(text[a:b].rstrip("\n")) for a, b in zip(starts, ends, strict=False))


def parse_states(text: str) -> frozenset[str]:
    """Split `MIXED+DRAIN*` into Slurm's words, each mark turned into its word."""
    words: set[str] = set()
    for part in text.split("+"):
        word = part.rstrip("".join(SUFFIXES))
        words.update(SUFFIXES[mark] for mark in part[len(word) :])
        words.add(word)
    return frozenset(words - {""})


def parse_time(text: str) -> float:
    """Give seconds since the epoch; 0.0 for a time that Slurm does not know."""
    if text in _NOTHING:
        return 0.0
    if text.isdigit():
        return float(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def parse_count(text: str) -> int:
    """Give the number that `text` starts with, 0 for none."""
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 0


def known(text: str) -> str:
    """Give `text`, or "" for one of Slurm's words for nothing."""
    return "" if text in _NOTHING else text


def _node(record: str) -> Node:
    head, tail = _without_free_text(record)
    field = dict(reversed(_FIELD.findall(head)))
    return Node(
        name=field["NodeName"],
        states=parse_states(field.get("State", "UNKNOWN")),
        reason=_reason(tail),
        partitions=_names(field.get("Partitions", "")),
        features=_names(field.get("ActiveFeatures", "")),
        cpus=parse_count(field.get("CPUTot", "")),
        cpus_alloc=parse_count(field.get("CPUAlloc", "")),
        memory=parse_count(field.get("RealMemory", "")),
        memory_alloc=parse_count(field.get("AllocMem", "")),
        gpus=_gpus(field.get("CfgTRES", "")) or _gres(field.get("Gres", "")),
        gpus_alloc=_gpus_alloc(field),
        weight=parse_count(field.get("Weight", "1")),
        addr=known(field.get("NodeAddr", "")),
        boot_time=parse_time(field.get("BootTime", "")),
        slurmd_start_time=parse_time(field.get("SlurmdStartTime", "")),
    )


def _without_free_text(record: str) -> tuple[str, str]:
    """Cut the kernel's name out of the middle and what people wrote off the end."""
    os_start = record.find(" OS=")
    os_end = _AFTER_OS.search(record)
    if os_start >= 0 and os_end and os_start < os_end.start():
        record = record[:os_start] + record[os_end.start() :]
    free = _FREE_TEXT.search(record)
    cut = free.start() if free else len(record)
    return record[:cut], record[cut:]


def _reason(tail: str) -> str:
    """Take Reason without who set it when. Slurm puts that behind the first of several lines."""
    start = tail.find(" Reason=")
    if start < 0:
        return ""
    other = _OTHER_TEXT.search(tail)
    if other is None or start < other.start():
        own = tail[: other.start()] if other else tail
        found = _STAMPED_REASON.search(own) or _BARE_REASON.search(own)
    else:
        found = _STAMPED_REASON.search(tail)
    return found[1].strip() if found else ""


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in known(text).split(",") if name)


def _gpus(tres: str) -> int:
    found = _GPU_TRES.search(tres)
    return int(found[1]) if found else 0


def _gres(gres: str) -> int:
    return sum(int(count) * (1024 if kilo else 1) for count, kilo in _GPU.findall(re.sub(r"\([^)]*\)", "", gres)))


def _gpus_alloc(field: Mapping[str, str]) -> int:
    """AllocTRES, which counts however the job asked. Without slurmdbd no GPU is a TRES: then GresUsed."""
    if "gres/gpu=" in field.get("CfgTRES", ""):
        return _gpus(field.get("AllocTRES", ""))
    return _gres(field.get("GresUsed", ""))
