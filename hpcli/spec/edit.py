"""Change one number of nodes in the text of a cluster.yaml, and not a character more."""

import re
from dataclasses import dataclass

import yaml

from hpcli.errors import UsageFault
from hpcli.spec.hostlist import MAX_NODES, expand, fold

_COUNT = re.compile(r"(\+?)([0-9]{1,6})")
_NUMBER = re.compile(r"(.*?)([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Edit:
    """The new text, and how many nodes the group had and has."""

    text: str
    before: int
    after: int


def scale_group(text: str, source: str, group: str, wanted: str) -> Edit:
    """Give a compute group `wanted` nodes, as "6", or more by "+2". Raises `UsageFault`.

    Of a group with `nodes:` the last ones go, and new ones count on from the last.
    """
    fields = _group(text, source, group)
    for key in ("count", "nodes"):
        if key in fields:
            scalar = fields[key]
            break
    else:
        raise UsageFault(
            f"{source}: group {group}",
            "found neither count nor nodes in it, expected one of them written there",
            "edit the file by hand: the number may come from an anchor",
        )
    old = str(scalar.value)
    before = int(old) if key == "count" else len(expand(old))
    after = _wanted(wanted, before)
    new = str(after) if key == "count" else _resized(old, after, f"{source}: group {group}")
    return Edit(_replaced(text, scalar, new), before, after)


def _wanted(wanted: str, before: int) -> int:
    found = _COUNT.fullmatch(wanted)
    number = before + int(found[2]) if found and found[1] else int(found[2]) if found else 0
    if not 1 <= number <= MAX_NODES:
        raise UsageFault("COUNT", f"found {wanted!r}, expected a number of nodes from 1 to {MAX_NODES}, or +N")
    return number


def _resized(hostlist: str, count: int, subject: str) -> str:
    names = list(expand(hostlist))[:count]
    last = _NUMBER.fullmatch(names[-1])
    if len(names) < count and last is None:
        raise UsageFault(subject, f"found the last node named {names[-1]}, expected a number at its end to count on")
    taken = set(names)
    number = int(last[2]) if last else 0
    while last and len(names) < count:
        number += 1
        name = f"{last[1]}{number:0{len(last[2])}d}"
        if name not in taken:
            names.append(name)
    return fold(names)


def _group(text: str, source: str, group: str) -> dict[str, yaml.ScalarNode]:
    """The scalars that are written in the group itself."""
    # The pure loader: its marks count characters, which libyaml's do not in every version.
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    compute = _scalars_and_more(root).get("compute")
    groups = compute.value if isinstance(compute, yaml.SequenceNode) else []
    names: list[str] = []
    for node in groups:
        fields = {key: value for key, value in _scalars_and_more(node).items() if isinstance(value, yaml.ScalarNode)}
        name = str(fields["name"].value) if "name" in fields else ""
        if name == group:
            return fields
        names.append(name)
    raise UsageFault(f"group {group}", f"found no such group in {source}, expected one of {', '.join(names) or 'none'}")


def _scalars_and_more(node: yaml.Node | None) -> dict[str, yaml.Node]:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {str(key.value): value for key, value in pairs if isinstance(key, yaml.ScalarNode)}


def _replaced(text: str, scalar: yaml.ScalarNode, new: str) -> str:
    """Quotes stay as they are written; a name that becomes a hostlist gets them, for a flow mapping needs them."""
    start, end = scalar.start_mark.index, scalar.end_mark.index
    quote = scalar.style if scalar.style in ("'", '"') else ""
    if not quote and "[" in new and "[" not in str(scalar.value):
        quote = '"'
    return f"{text[:start]}{quote}{new}{quote}{text[end:]}"
