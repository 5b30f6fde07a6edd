"""What the daemons are told at their start. The spec and its heavy parser stay out of them."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from hpcli.domain.policy import Breaker, Budget, Policy
from hpcli.errors import HpcliError

log = logging.getLogger(__name__)

Part = TypeVar("Part")
Parameters = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """`agent_uid`: reports count from it and from root. `lease` lies in StateSaveLocation.

    `machines`: each node is a machine of its own, so that a report must come from its NodeAddr. `keeper` is the
    socket of the keeper, who alone may reboot and replace machines, "" where the provider needs none. A requeued job
    is released `requeue_rest` seconds after its requeue at the earliest.
    """

    cluster: str
    provider: str
    listen: Address
    munge_socket: str
    slurm_conf: str
    journal: str
    lease: str
    agent_uid: int
    interval: float = 5.0
    machines: bool = False
    keeper: str = ""
    can_replace: bool = True
    requeue_rest: float = 1.0
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class AgentNode:
    """One node that an agent serves. `folder` stands for the machine; "" is this machine itself."""

    name: str
    folder: str = ""
    verdict: str = "/run/hpcli/verdict"
    checks: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """`interval` is between two rounds of checks, in seconds; `controller_uid` may give orders.

    `gate` is how it stands until the controller says: closed to jobs on faulty nodes, unless recovery only observes.
    `release` is that of the code on this machine.
    """

    cluster: str
    controller: Address
    munge_socket: str
    slurm_conf: str
    controller_uid: int
    interval: float
    nodes: tuple[AgentNode, ...]
    kernel_log: Parameters = field(default_factory=dict)
    gate: bool = True
    release: str = ""


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What a command on a machine of the cluster needs to find its controller."""

    cluster: str
    controller: Address
    munge_socket: str
    slurm_conf: str


Settings = ControllerSettings | AgentSettings | ClientSettings


def settings_text(settings: Settings) -> str:
    return json.dumps(asdict(settings), indent=1) + "\n"


def write_settings(path: Path, settings: Settings) -> None:
    path.touch(mode=0o600)
    path.write_text(settings_text(settings))


def read_controller_settings(path: Path) -> ControllerSettings:
    """Raises `HpcliError` when the file is missing or not ours."""
    raw = _read(path)
    try:
        policy = dict(raw["policy"])
        budget, breaker = _part(Budget, policy["budget"]), _part(Breaker, policy["breaker"])
        known = _part(Policy, {**policy, "budget": budget, "breaker": breaker})
        return _part(ControllerSettings, {**raw, "listen": _part(Address, raw["listen"]), "policy": known})
    except (KeyError, TypeError) as error:
        raise _broken(path, error) from None


def read_agent_settings(path: Path) -> AgentSettings:
    """Raises `HpcliError` when the file is missing or not ours."""
    raw = _read(path)
    try:
        nodes = tuple(_part(AgentNode, node) for node in raw["nodes"])
        return _part(AgentSettings, {**raw, "controller": _part(Address, raw["controller"]), "nodes": nodes})
    except (KeyError, TypeError) as error:
        raise _broken(path, error) from None


def read_client_settings(path: Path) -> ClientSettings:
    """Raises `HpcliError` when the file is missing or not ours."""
    raw = _read(path)
    try:
        return _part(ClientSettings, {**raw, "controller": _part(Address, raw["controller"])})
    except (KeyError, TypeError) as error:
        raise _broken(path, error) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _broken(path, error) from None
    if not isinstance(raw, dict):
        raise _broken(path, TypeError("not a JSON object"))
    return raw


def _part(kind: type[Part], raw: object) -> Part:
    """Make one of what is known of it; during a rolling upgrade a newer release's settings may come before its code.

    Raises `TypeError` for what is no object or lacks a field.
    """
    if not isinstance(raw, dict):
        raise TypeError(f"found {raw!r}, expected {kind.__name__}")
    names = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    if unknown := raw.keys() - names:
        log.info("%s of a newer release are passed over: %s", kind.__name__, ", ".join(sorted(unknown)))
    return kind(**{name: value for name, value in raw.items() if name in names})


def _broken(path: Path, error: Exception) -> HpcliError:
    return HpcliError(str(path), f"not usable as daemon settings: {error}", "render them anew: hpcli cluster up")
