"""In which order a cluster's machines get something new: the controller, one canary, batches, and who is left."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpcli.domain.blueprint import Blueprint, ConfigFile, Place, Role
from hpcli.domain.change import Change, Disruption, Part
from hpcli.domain.drift import Found
from hpcli.domain.report import PROTOCOL, UNTOLD, near
from hpcli.errors import Unsafe

SHARE = 10
"""Percent of the nodes in one batch, unless somebody says how many."""
MOST = 100
CODE = "/opt/hpcli/release"
"""Names the code on a machine, as /etc/hpcli/release names that which it is to have."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """Who gets it when; each waits until those before are well. `controller` and `canary` are "" for nobody.

    `late` are machines that were out of touch from the start: what becomes of them holds nobody up.
    """

    controller: str = ""
    canary: str = ""
    batches: tuple[tuple[str, ...], ...] = ()
    login: tuple[str, ...] = ()
    late: tuple[str, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        return (*(host for turn in self.turns() for host in turn), *self.late)

    def turns(self) -> Iterator[tuple[str, ...]]:
        """Those who get it at one time, in order; without the late ones."""
        if self.controller:
            yield (self.controller,)
        if self.canary:
            yield (self.canary,)
        yield from self.batches
        if self.login:
            yield self.login


def rollout(places: Sequence[Place], done: Collection[str], absent: Collection[str], size: int = 0) -> Rollout:
    """The order for those that are not `done`; `absent` ones come last. `size` 0: a tenth of the nodes, 1 to 100.

    Nodes that have it already have proved it: no canary is needed then.
    """
    todo = [place for place in places if place.role is not Role.SPARE and place.name not in done]
    here = [place for place in todo if place.name not in absent]
    compute = [place.name for place in places if place.role is Role.COMPUTE]
    nodes = _named(here, Role.COMPUTE)
    proven = any(name in done for name in compute)
    canary = "" if proven or not nodes else nodes[0]
    rest = nodes[1:] if canary else nodes
    step = size or batch_size(len(compute))
    return Rollout(
        controller="".join(_named(todo, Role.CONTROLLER)),
        canary=canary,
        batches=tuple(rest[start : start + step] for start in range(0, len(rest), step)),
        login=_named(here, Role.LOGIN),
        late=tuple(place.name for place in todo if place not in here and place.role is not Role.CONTROLLER),
    )


def batch_size(nodes: int) -> int:
    return min(MOST, max(1, nodes * SHARE // 100))


def _named(places: Sequence[Place], role: Role) -> tuple[str, ...]:
    return tuple(place.name for place in places if place.role is role)


@dataclass(frozen=True, slots=True)
class Release:
    """An hpcli: its version, and the id of its code as pushed."""

    version: str
    id: str

    def __str__(self) -> str:
        return f"hpcli {self.version} ({self.id})"


@dataclass(frozen=True, slots=True)
class Heard:
    """What the controller says of itself and of the agents: a release by node, and when each was heard of last.

    `version` is "" while the controller does not answer.
    """

    version: str = ""
    protocol: int = 0
    agents: Mapping[str, Release] = field(default_factory=dict)
    protocols: Mapping[str, int] = field(default_factory=dict)
    at: Mapping[str, float] = field(default_factory=dict)

    def has(self, node: str, release: Release) -> bool:
        """Whether the node's agent is of this release; one that was not told its id goes by its version."""
        agent = self.agents.get(node)
        return agent is not None and agent.version == release.version and agent.id in ("", release.id)

    def anew(self, node: str, before: "Heard") -> bool:
        """Whether it was heard of since."""
        return node in self.at and self.at[node] != before.at.get(node)


def heard_of(status: Mapping[str, Any]) -> Heard:
    """From a controller's answer to `status`; the first release gave neither versions nor protocols."""
    agents = status.get("agents", {})
    return Heard(
        version=status.get("version", UNTOLD),
        protocol=status.get("protocol", 1),
        agents={node: Release(one["version"], one["release"]) for node, one in agents.items()},
        protocols={node: one["protocol"] for node, one in agents.items()},
        at=status.get("received_at", {}),
    )


def refuse_far(heard: Heard) -> None:
    """Raises `Unsafe` where controller and agents would not understand each other on the way."""
    found = {heard.protocol, *heard.protocols.values()} if heard.version else set()
    far = sorted(one for one in found if not near(one, PROTOCOL))
    if far:
        raise Unsafe(
            "upgrade",
            f"found protocol {far[0]} (hpcli {heard.version}) there, expected {PROTOCOL - 1} to {PROTOCOL + 1}",
            "go by a release that speaks one between: install that hpcli here, cluster upgrade, then the next",
        )


def refuse_disturbing(changes: Iterable[Change]) -> None:
    """Raises `Unsafe` for what would need more than new files and hpcli's own daemons to restart."""
    for change in changes:
        if change.disruption is not Disruption.NONE or change.part is Part.MACHINE:
            raise Unsafe(
                change.what,
                f"found {change.before!r}, which this hpcli would make {change.after!r} ({change.disruption.words})",
                "more than an upgrade may do, nothing was touched: hpcli cluster plan, then apply, which brings both",
            )


def refuse_pending(applied: Blueprint, pending: Iterable[Blueprint]) -> None:
    """Raises `Unsafe` for an apply that did not end; an earlier upgrade is gone on with."""
    for one in pending:
        if (one.spec_text, one.places, one.slurm_version) != (applied.spec_text, applied.places, applied.slurm_version):
            raise Unsafe(
                f"cluster {applied.cluster}",
                "found an apply that did not end, expected none: its spec is another one",
                "finish it first: hpcli cluster apply",
            )


def has_file(blueprint: Blueprint, host: str, name: str) -> bool:
    return any(file.name == name for file in blueprint.files.get(host, ()))


def has_all(goal: Blueprint, host: str, lies: Mapping[str, Found], release: Release, heard: Heard) -> bool:
    """Whether a machine has code and files of this release, and the daemon that runs there is of it."""
    code = lies.get(CODE)
    if code is None or code.text.strip() != release.id:
        return False
    place = goal.place(host)
    if place and place.role is Role.CONTROLLER and heard.version != release.version:
        return False
    if has_file(goal, host, "agent.json") and not heard.has(host, release):
        return False
    return all(_lies_so(file, lies.get(file.path)) for file in goal.files[host])


def _lies_so(file: ConfigFile, lies: Found | None) -> bool:
    wanted = (file.text, file.mode, file.owner, file.group)
    return lies is not None and (lies.text, lies.mode, lies.owner, lies.group) == wanted
