"""The whole life of a cluster on this machine."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcli.providers.local.layout import Layout
from hpcli.providers.local.sweep import remove
from tests.e2e.life import NAME, Cli, live
from tests.e2e.worlds import LocalWorld


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield tmp_path / "state"
    remove(Layout.of(NAME))


@pytest.mark.slurm
def test_life_on_this_machine(state: Path, tmp_path: Path) -> None:
    if not shutil.which("slurmctld", path="/usr/sbin:/usr/bin"):
        pytest.skip("no slurmctld on this machine")
    live(LocalWorld(state, str(tmp_path / "job.out")), Cli(state), tmp_path)
