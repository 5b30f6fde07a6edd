"""What daemons are told at their start, and read back exactly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcli.domain.policy import Breaker, Budget, Policy
from hpcli.domain.settings import (
    Address,
    AgentNode,
    AgentSettings,
    ControllerSettings,
    read_agent_settings,
    read_controller_settings,
    write_settings,
)
from hpcli.errors import HpcliError

CONTROLLER = ControllerSettings(
    cluster="it",
    provider="local",
    listen=Address("127.0.0.1", 6000),
    munge_socket="/run/m.sock",
    slurm_conf="/etc/slurm.conf",
    journal="/j.sqlite",
    lease="/lease",
    agent_uid=500,
    policy=Policy(enabled=False, evict_grace=3.5, budget=Budget(7, 0.2), breaker=Breaker(3, 0.3, 60.0)),
)
AGENT = AgentSettings(
    cluster="it",
    controller=Address("127.0.0.1", 6000),
    munge_socket="/run/m.sock",
    slurm_conf="/etc/slurm.conf",
    controller_uid=500,
    interval=2.5,
    nodes=(AgentNode("c1", "/n/c1", "/n/c1/verdict", {"gpu.count": {"expected": 8}}), AgentNode("c2")),
    kernel_log={"79": {"remedy": "reboot"}},
)
READ: dict[str, Callable[[Path], Any]] = {"controller": read_controller_settings, "agent": read_agent_settings}


@pytest.mark.parametrize(("settings", "kind"), [(CONTROLLER, "controller"), (AGENT, "agent")])
def test_what_is_written_is_read(tmp_path: Path, settings: Any, kind: str) -> None:
    path = tmp_path / "settings.json"
    write_settings(path, settings)
    assert READ[kind](path) == settings
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_address_is_shown_as_people_write_it() -> None:
    assert str(CONTROLLER.listen) == "127.0.0.1:6000"


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", "{}", '{"cluster": "it"}', '"listen"'])
def test_settings_that_are_damaged(tmp_path: Path, kind: str, text: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(HpcliError, match="not usable as daemon settings") as caught:
        READ[kind](path)
    assert caught.value.subject == str(path)


@pytest.mark.parametrize(("settings", "kind"), [(CONTROLLER, "controller"), (AGENT, "agent")])
@pytest.mark.parametrize("change", [{"colour": "red"}, {"nodes": 3}, {"policy": 3}, {"listen": 3}, {"controller": 3}])
def test_settings_of_another_shape(tmp_path: Path, settings: Any, kind: str, change: dict[str, object]) -> None:
    path = tmp_path / "settings.json"
    write_settings(path, settings)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(HpcliError, match="not usable as daemon settings"):
        READ[kind](path)


@pytest.mark.parametrize("kind", READ)
def test_settings_that_are_missing(tmp_path: Path, kind: str) -> None:
    with pytest.raises(HpcliError, match="not usable as daemon settings"):
        READ[kind](tmp_path / "none.json")
