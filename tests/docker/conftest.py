"""Tests that need a Docker engine: `./run test docker` fails when one of them is skipped."""

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from lab import SERIES, Container, Lab, containers, image, network, push

LONG = ("test_faults", "test_bare", "test_systemd")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`./run test docker` leaves these out unless HPCLI_LONG=1 asks for them."""
    for item in items:
        if item.path.name.startswith(LONG):
            item.add_marker(pytest.mark.long)


def engine_answers() -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def engine() -> None:
    if not engine_answers():
        pytest.skip("skipped: no Docker engine answers here")


@pytest.fixture
def net(engine: None) -> Iterator[str]:
    with network(f"c-{secrets.token_hex(3)}") as name:
        yield name


def install(lab: Lab, name: str) -> dict[str, str]:
    """Push, write and run the scripts on one machine: what became of each step."""
    push(lab.machines[name])
    lab.machines[name].write(lab.files(name))
    return lab.machines[name].bootstrap()


@pytest.fixture(scope="module", params=SERIES)
def standing(engine: None, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Four machines from the image of a series, set up and started by the scripts alone."""
    names = ("ctl", "login", "c1", "c2")
    with network(f"c-{secrets.token_hex(3)}") as own, containers(image(request.param), names, own) as machines:
        lab = Lab(request.param, machines)
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(lambda name: install(lab, name), names))
        start(machines)
        yield lab


def start(machines: dict[str, Container]) -> None:
    for service in ("munge", "mariadb", "slurmdbd"):
        machines["ctl"].lifecycle("service", "start", service)
    machines["ctl"].lifecycle("accounts")
    for machine in machines.values():
        machine.lifecycle("service", "start", "all")
