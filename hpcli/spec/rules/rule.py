"""What a rule is: a check between the fields of a spec. It yields a finding per fault, and knows no lines.

A rule is skipped while a field that it reads is itself broken: its verdict would be about our repair
of the file, not about the file.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hpcli.errors import HpcliError
from hpcli.spec.hostlist import MAX_NODES, size_bound
from hpcli.spec.model import Spec
from hpcli.spec.problems import Finding, Loc, show

LOCAL_MAX_NODES = 256
"""slurmd processes that 2 cores carry (measured on Slurm 22.05, 24.11 and 26.05)."""

MAX_NODES_OF = {"local": LOCAL_MAX_NODES, "docker": 200, "hosts": MAX_NODES, "adopted": MAX_NODES}
"""By provider; a Docker network that is chosen for a cluster has 253 addresses."""

ON_HOSTS = ("hosts", "adopted")
"""Providers whose machines are there already, reached over SSH."""

HealthFault = Callable[[str, str, Mapping[str, object]], HpcliError | None]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the provider, the health catalogue and this machine allow.

    No `max_nodes` means the provider's own, no `known_checks` that any name will do. `health_fault` judges the
    section (`checks` or `kernel_log`), key and value of one override. With `files`, what the spec names on this
    machine must be there; the paths are absolute then.
    """

    max_nodes: int | None = None
    known_checks: frozenset[str] | None = None
    health_fault: HealthFault | None = None
    files: bool = False

    def most_nodes(self, provider: str) -> int:
        return min(MAX_NODES_OF[provider] if self.max_nodes is None else self.max_nodes, MAX_NODES)


Check = Callable[[Spec, Limits], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A check, the fields it cannot do without (dotted, list positions left out), and whether it expands names."""

    check: Check
    reads: tuple[str, ...] = ()
    expands: bool = False


NODE_NAMES = ("compute.nodes", "compute.count", "compute.prefix")
PLACE_NAMES = (*NODE_NAMES, "login", "controller.name")


def declared(spec: Spec) -> int:
    """Count the compute nodes without expanding a name."""
    return sum(size_bound(group.nodes) if group.nodes else group.count or 0 for group in spec.compute)


def doubles(loc: Loc, key: str, word: str, values: Sequence[str | int]) -> Iterator[Finding]:
    """Find each value of a list's `key` that was there before."""
    seen: set[str | int] = set()
    for i, value in enumerate(values):
        if value in seen:
            yield Finding((*loc, i, key), f"a second {word} {show(value)}", f"each {key} once")
        seen.add(value)


def close(word: str, known: Iterable[str]) -> str:
    """Give the known word that was probably meant, or ""."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), "")
