"""Nodes of a Slurm that somebody else built, as `scontrol show node -o` tells of them. Pure."""

import re
from dataclasses import dataclass

MOST_GPUS = 256
PLAIN_GPU = "gpu"
"""The type of GPUs whose type is not told, or that are of several."""

_RECORD = re.compile(r"^NodeName=(?=\S+ (?:Arch=\S+ +)?CoresPerSocket=)", re.MULTILINE)
_FIELD = re.compile(r"(?:^| )([A-Za-z]+)=(\S*)")
_KERNEL = re.compile(r" OS=.*? (?=RealMemory=)")
_FREE_TEXT = re.compile(r"[ \n](?:Reason|Comment|Extra|ResvName|InstanceId|InstanceType)=")
_NOT_FIXED = frozenset({"CLOUD", "DYNAMIC_NORM", "DYNAMIC_FUTURE", "FUTURE"})
_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9_])?")
_RESERVED = frozenset({"default", "all", "localhost"})
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f.]{0,15}){2,7}")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
_OTHER_WORD = re.compile(r"[^A-Za-z0-9_.-]")
_SLICE = re.compile(r"\d+g\.\d+gb", re.IGNORECASE)
_NO_NVIDIA = re.compile(r"mi\d{2,3}|gfx|amd|intel|max_?1[15]\d\d|pvc|gaudi", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FoundNode:
    """One node. `address` is where it answers, memory is in MiB, `gpus` are those with an own device file each."""

    name: str
    hostname: str
    address: str
    cpus: int
    memory: int
    gpu_type: str = ""
    gpus: int = 0
    partitions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What of the cluster does not come into the spec, and why."""

    what: str
    why: str


Judged = tuple[tuple[FoundNode, ...], tuple[LeftOut, ...]]


def read_nodes(text: str) -> Judged:
    """Parse `scontrol show node -o`; nodes that hpcli cannot look after are left out, each with its reason."""
    starts = [found.start() for found in _RECORD.finditer(text)]
    records = [_fields(text[a:b]) for a, b in zip(starts, [*starts[1:], len(text)], strict=False)]
    nodes: dict[str, FoundNode] = {}
    out: list[LeftOut] = []
    for fields in records:
        name = fields["NodeName"]
        if why := _unfit(fields):
            out.append(LeftOut(name, why))
            continue
        nodes.setdefault(name, _node(fields))
        if why := _uncounted(fields.get("Gres", "")):
            out.append(LeftOut(f"GPUs of {name}", why))
    return tuple(nodes.values()), tuple(out)


def is_host(text: str) -> bool:
    """Whether it looks like a host name or an address."""
    return _HOST.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether hpcli takes it for the name of a node."""
    return _NAME.fullmatch(text) is not None and text.lower() not in _RESERVED


def is_word(text: str) -> bool:
    return _WORD.fullmatch(text) is not None


def gpus_of(gres: str) -> tuple[str, int]:
    """Type and number of the GPUs in a node's Gres; shards, MPS and other kinds do not count."""
    counts: dict[str, int] = {}
    for kind, number in _gpu_entries(gres):
        counts[kind] = counts.get(kind, 0) + number
    if not sum(counts.values()) or _uncounted(gres):
        return "", 0
    return _type(next(iter(counts))) if len(counts) == 1 else PLAIN_GPU, sum(counts.values())


def _fields(record: str) -> dict[str, str]:
    """What Slurm itself says of a node; what people wrote may look like fields, and stands behind them."""
    free = _FREE_TEXT.search(record)
    head = _KERNEL.sub(" ", record[: free.start()] if free else record)
    return dict(reversed(_FIELD.findall(head.rstrip("\n"))))


def _unfit(fields: dict[str, str]) -> str:
    states = set(re.split(r"[+*~#!%$@^-]", fields.get("State", "")))
    name, address = fields["NodeName"], _known(fields, "NodeAddr")
    if states & _NOT_FIXED:
        return "a cloud, dynamic or future node: its machine comes and goes without hpcli"
    if not is_name(name):
        return "expected a name of at most 63 letters, digits, _ . and -, a letter first"
    if not is_host(address or name):
        return f"its address {_shown(address or name)} is no host name and no IP address: set NodeAddr in slurm.conf"
    return ""


def _node(fields: dict[str, str]) -> FoundNode:
    name = fields["NodeName"]
    kind, gpus = gpus_of(fields.get("Gres", ""))
    return FoundNode(
        name=name,
        hostname=_known(fields, "NodeHostName") or name,
        address=_known(fields, "NodeAddr") or name,
        cpus=_number(fields, "CPUTot", 65533),
        memory=_number(fields, "RealMemory", 1 << 30),
        gpu_type=kind,
        gpus=gpus,
        partitions=tuple(word for word in _known(fields, "Partitions").split(",") if word),
    )


def _known(fields: dict[str, str], key: str) -> str:
    value = fields.get(key, "")
    return "" if value in ("(null)", "N/A", "None") else value


def _number(fields: dict[str, str], key: str, most: int) -> int:
    found = re.match(r"\d{1,12}", fields.get(key, ""))
    return min(max(int(found[0]), 1), most) if found else 1


def _gpu_entries(gres: str) -> list[tuple[str, int]]:
    """gpu, gpu:4, gpu:h100:4, gpu:h100:no_consume:4K(S:0-1)."""
    entries: list[tuple[str, int]] = []
    for entry in re.sub(r"\([^)]*\)", "", gres).split(","):
        kind, *words = entry.split(":")
        number = re.fullmatch(r"(\d{1,6})([kK]?)", words[-1]) if words else None
        types = [word for word in (words[:-1] if number else words) if word != "no_consume"]
        if kind == "gpu":
            count = int(number[1]) * (1024 if number[2] else 1) if number else 1
            entries.append((types[0] if types else "", count))
    return entries


def _uncounted(gres: str) -> str:
    """Why these GPUs are not checked: hpcli counts the device files /dev/nvidia*."""
    entries = _gpu_entries(gres)
    if any(_SLICE.search(kind) for kind, _ in entries):
        return "MIG slices have no device file of their own: their number is not checked"
    if any(_NO_NVIDIA.match(kind) for kind, _ in entries):
        return "hpcli counts /dev/nvidia* only: their number is not checked"
    if sum(number for _, number in entries) > MOST_GPUS:
        return f"more than {MOST_GPUS} on a node cannot be devices: their number is not checked"
    return ""


def _type(kind: str) -> str:
    if not kind:
        return PLAIN_GPU
    return kind if is_word(kind) else _OTHER_WORD.sub("_", f"{PLAIN_GPU}-{kind}")[:63]


def _shown(text: str) -> str:
    return ascii(text[:60])
