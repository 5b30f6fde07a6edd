"""What of a cluster.yaml stays when its cluster is read again: the sections that are its reader's own. Pure."""

from collections.abc import Sequence

import yaml


def sections_of(text: str, wanted: Sequence[str]) -> dict[str, str]:
    """Give top-level sections of a valid spec as they are written, comments within them too."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    lines = text.splitlines()
    starts = [key.start_mark.line for key, _ in pairs] + [len(lines)]
    found: dict[str, str] = {}
    for (key, _), start, end in zip(pairs, starts, starts[1:], strict=False):
        if key.value in wanted:
            found[str(key.value)] = _section(lines, start, end)
    return found


def _section(lines: Sequence[str], start: int, end: int) -> str:
    """From the comment right above it to its last line; what comes behind belongs to the next one."""
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    while start and lines[start - 1].startswith("#"):
        start -= 1
    return "".join(f"{line}\n" for line in lines[start:end])
