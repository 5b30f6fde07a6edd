"""slurm.conf and gres.conf by their meaning: parameters, nodes one by one, partitions. See slurm.conf(5)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hpcli.domain.names import expand, fold

Line = Mapping[str, str]
"""Values of one node or partition by key, the key in lower case."""

_PAIR = re.compile(r"([A-Za-z]\w*)\s*=\s*(\"[^\"]*\"|\S+)")
_PER_NODE = frozenset({"nodehostname", "nodeaddr", "port"})
_UNTIL_COMMENT = re.compile(r"(?<!\\)#.*")


@dataclass(frozen=True, slots=True)
class SlurmConf:
    """`parameters` by name in lower case; `spelling` gives each key as the file writes it."""

    parameters: Line = field(default_factory=dict)
    nodes: Mapping[str, Line] = field(default_factory=dict)
    partitions: Mapping[str, Line] = field(default_factory=dict)
    spelling: Line = field(default_factory=dict)


def parse_slurm_conf(text: str) -> SlurmConf:
    """Read any text; what is no `Name=value` becomes a parameter of that name without a value."""
    parameters: dict[str, str] = {}
    nodes: dict[str, Line] = {}
    partitions: dict[str, Line] = {}
    spelling: dict[str, str] = {}
    defaults: dict[str, dict[str, str]] = {"nodename": {}, "partitionname": {}}
    for line in _lines(text):
        pairs = _PAIR.findall(line) or [(line, "")]
        spelling.update((key.lower(), key) for key, _ in pairs)
        values = {key.lower(): value for key, value in pairs}
        subject = pairs[0][0].lower()
        if subject not in defaults:
            _add(parameters, subject, values)
            continue
        names = values.pop(subject)
        if names.upper() == "DEFAULT":
            defaults[subject].update(values)
        elif subject == "nodename":
            nodes.update(_nodes(names, {**defaults[subject], **values}))
        else:
            partitions.update((name, {**defaults[subject], **values}) for name in names.split(","))
    return SlurmConf(parameters, nodes, partitions, spelling)


def parse_gres_conf(text: str) -> Mapping[str, str]:
    """What gres.conf says of each node, as one text per node; lines without NodeName stand under ""."""
    found: dict[str, list[str]] = {}
    for line in _lines(text):
        values = {key.lower(): value for key, value in _PAIR.findall(line)}
        names = values.pop("nodename", "")
        said = " ".join(f"{key}={value}" for key, value in sorted(values.items()))
        for name in expand(names) or ("",):
            # A folder of devices per node may carry the node's own name; it is the same on all of them.
            found.setdefault(name, []).append(said)
    return {name: "; ".join(sorted(lines)) for name, lines in found.items()}


def nodes_of(partition: Line) -> frozenset[str]:
    return frozenset(expand(partition.get("nodes", "")))


def shown(line: Line, spelling: Line) -> str:
    """A node's or partition's values as the file would write them; long hostlists are folded."""
    return " ".join(f"{spelling.get(key, key)}={_folded(key, value)}" for key, value in line.items())


def _folded(key: str, value: str) -> str:
    return fold(expand(value)) if key == "nodes" else value


def _add(parameters: dict[str, str], subject: str, values: Mapping[str, str]) -> None:
    if subject in ("nodeset", "downnodes", "frontendname"):
        name = values[subject]
        parameters[f"{subject} {name}"] = " ".join(f"{k}={v}" for k, v in values.items() if k != subject)
        return
    for key, value in values.items():
        # Several lines of one name add up, as those of SlurmctldHost; else Slurm takes the last.
        again = key == "slurmctldhost" and key in parameters
        parameters[key] = f"{parameters[key]},{value}" if again else value


def _nodes(names: str, values: dict[str, str]) -> Iterator[tuple[str, Line]]:
    """One line may stand for many nodes; a hostlist among its addresses runs along with the names."""
    each = expand(names)
    lists = {key: expand(value) for key, value in values.items() if key in _PER_NODE}
    along = {key: names for key, names in lists.items() if len(names) == len(each)}
    for i, name in enumerate(each):
        own = {key: names[i] for key, names in along.items()}
        # Slurm takes the name itself where these are left out.
        own = {key: value for key, value in own.items() if key == "port" or value != name}
        shared = {key: value for key, value in values.items() if key not in along}
        yield name, {**shared, **own}


def _lines(text: str) -> Iterator[str]:
    joined = text.replace("\\\n", "")
    for raw in joined.splitlines():
        line = _UNTIL_COMMENT.sub("", raw).strip()
        if line:
            yield line
