"""The whole life of a cluster in containers that hpcli makes, and on hosts that are there, per Slurm series."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.life import NAME, Cli, live
from tests.e2e.worlds import DockerWorld, HostsWorld

BUILD = Path(__file__).parents[2] / "docker-slurm" / "build.sh"
pytestmark = pytest.mark.docker


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    cli = Cli(tmp_path / "state")
    yield cli
    cli("cluster", "down", NAME, "--yes", code=None)


@pytest.mark.parametrize("series", ["22.05", "24.11", "26.05"])
def test_life_in_containers(series: str, cli: Cli, tmp_path: Path) -> None:
    live(DockerWorld(series), cli, tmp_path)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[HostsWorld]:
    image = subprocess.run([BUILD, "22.05", "slurm"], capture_output=True, text=True, check=True).stdout.split()[-1]
    world = HostsWorld(tmp_path, image, "hpcli-life-hosts", "172.29.78")
    world.remove()
    world.make()
    yield world
    world.remove()


def test_life_on_hosts(hosts: HostsWorld, cli: Cli, tmp_path: Path) -> None:
    live(hosts, cli, tmp_path)
