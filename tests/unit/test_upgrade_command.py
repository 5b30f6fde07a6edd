"""What `hpcli cluster upgrade` takes for a cluster's name and what for a version; local clusters are refused."""

import json
from pathlib import Path

import pytest

from hpcli.cli.upgrade import upgrade
from hpcli.errors import NotFound, Unsafe, UsageFault


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("HPCLI_CLUSTER", raising=False)
    return tmp_path


def run(*words: str) -> None:
    upgrade.main([*words], standalone_mode=False)


@pytest.mark.parametrize(
    "words",
    [
        ("prod",),
        ("prod", "--slurm"),
        ("--slurm", "prod"),
        ("prod", "--slurm", "22.05.9"),
        ("--slurm", "22.05.9-1+deb12u1", "prod"),
        ("--slurm=24.11", "prod"),
    ],
)
def test_the_cluster_that_is_meant(words: tuple[str, ...]) -> None:
    with pytest.raises(NotFound, match="prod"):
        run(*words)


def test_two_names_are_one_too_many() -> None:
    with pytest.raises(UsageFault, match="found 'lab', expected a version"):
        run("prod", "--slurm", "lab")


@pytest.mark.parametrize("words", [(), ("--slurm",)])
def test_a_local_cluster_runs_this_very_code(state: Path, words: tuple[str, ...]) -> None:
    home = state / "hpcli" / "clusters" / "here"
    home.mkdir(parents=True)
    (home / "cluster.json").write_text(json.dumps({"name": "here"}))
    with pytest.raises(Unsafe, match="local cluster") as caught:
        run("here", *words)
    assert "hpcli cluster down here" in caught.value.hint
