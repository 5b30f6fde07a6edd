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
    settings_text,
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
NEW = ("gate", "release")
"""Fields that 0.1.0 did not have."""

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


@pytest.mark.parametrize(
    ("settings", "kind", "change"),
    [
        (CONTROLLER, "controller", {"policy": 3}),
        (CONTROLLER, "controller", {"policy": {"budget": {}}}),
        (CONTROLLER, "controller", {"listen": 3}),
        (AGENT, "agent", {"nodes": 3}),
        (AGENT, "agent", {"nodes": ["c1"]}),
        (AGENT, "agent", {"nodes": [{"folder": "/"}]}),
        (AGENT, "agent", {"controller": 3}),
        (AGENT, "agent", {"controller": {"host": "c"}}),
    ],
)
def test_settings_of_another_shape(tmp_path: Path, settings: Any, kind: str, change: dict[str, object]) -> None:
    path = changed(tmp_path / "settings.json", settings, change)
    with pytest.raises(HpcliError, match="not usable as daemon settings"):
        READ[kind](path)


def changed(path: Path, settings: Any, change: dict[str, object]) -> Path:
    write_settings(path, settings)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    return path


@pytest.mark.parametrize(
    ("settings", "kind", "change", "words"),
    [
        (CONTROLLER, "controller", {"colour": "red", "shape": 1}, "ControllerSettings of a newer release"),
        (CONTROLLER, "controller", {"listen": {"host": "127.0.0.1", "port": 6000, "tls": True}}, "passed over: tls"),
        (AGENT, "agent", {"colour": "red"}, "AgentSettings of a newer release are passed over: colour"),
    ],
)
def test_what_only_a_newer_release_knows_is_passed_over(
    tmp_path: Path,
    settings: Any,
    kind: str,
    change: dict[str, object],
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    assert READ[kind](changed(tmp_path / "settings.json", settings, change)) == settings
    assert words in caplog.text


def test_so_it_is_in_policy_and_nodes(tmp_path: Path) -> None:
    raw = json.loads(settings_text(CONTROLLER))
    policy = {**raw["policy"], "ai": 1, "budget": {**raw["policy"]["budget"], "racks": 2}}
    assert read_controller_settings(changed(tmp_path / "c.json", CONTROLLER, {"policy": policy})) == CONTROLLER
    nodes = [{**node, "rack": "r1"} for node in json.loads(settings_text(AGENT))["nodes"]]
    assert read_agent_settings(changed(tmp_path / "a.json", AGENT, {"nodes": nodes})) == AGENT


def test_agent_settings_of_the_release_before(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(settings_text(AGENT)).items() if k not in NEW}))
    found = read_agent_settings(path)
    assert (found, found.gate, found.release) == (AGENT, True, "")


@pytest.mark.parametrize("kind", READ)
def test_settings_that_are_missing(tmp_path: Path, kind: str) -> None:
    with pytest.raises(HpcliError, match="not usable as daemon settings"):
        READ[kind](tmp_path / "none.json")
