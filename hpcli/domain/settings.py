"""What the daemons are told at their start. The spec and its heavy parser stay out of them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hpcli.domain.policy import Breaker, Budget, Policy
from hpcli.errors import HpcliError

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
    """`interval` is between two rounds of checks, in seconds; `controller_uid` may give orders."""

    cluster: str
    controller: Address
    munge_socket: str
    slurm_conf: str
    controller_uid: int
    interval: float
    nodes: tuple[AgentNode, ...]
    kernel_log: Parameters = field(default_factory=dict)


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
        policy = dict(raw.pop("policy"))
        budget, breaker = Budget(**policy.pop("budget")), Breaker(**policy.pop("breaker"))
        listen = Address(**raw.pop("listen"))
        return ControllerSettings(listen=listen, policy=Policy(budget=budget, breaker=breaker, **policy), **raw)
    except (KeyError, TypeError) as error:
        raise _broken(path, error) from None


def read_agent_settings(path: Path) -> AgentSettings:
    """Raises `HpcliError` when the file is missing or not ours."""
    raw = _read(path)
    try:
        nodes = tuple(AgentNode(**node) for node in raw.pop("nodes"))
        return AgentSettings(controller=Address(**raw.pop("controller")), nodes=nodes, **raw)
    except (KeyError, TypeError) as error:
        raise _broken(path, error) from None


def read_client_settings(path: Path) -> ClientSettings:
    """Raises `HpcliError` when the file is missing or not ours."""
    raw = _read(path)
    try:
        return ClientSettings(controller=Address(**raw.pop("controller")), **raw)
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


def _broken(path: Path, error: Exception) -> HpcliError:
    return HpcliError(str(path), f"not usable as daemon settings: {error}", "render them anew: hpcli cluster up")
