"""hpcli cluster init: a file to start from, that no other file is lost to."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcli.spec.load import load_spec

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("provider", ["local", "docker", "hosts"])
def test_what_it_writes_is_valid(hpcli: Run, tmp_path: Path, provider: str) -> None:
    path = tmp_path / "mine.yaml"
    found = hpcli("cluster", "init", "--from", provider, str(path))
    assert (found.returncode, found.stderr) == (0, "")
    assert load_spec(path).provider == provider
    assert hpcli("cluster", "validate", "-f", str(path)).returncode == 0


def test_it_says_the_next_command(hpcli: Run, tmp_path: Path) -> None:
    path = tmp_path / "a b.yaml"
    found = hpcli("cluster", "init", "--from", "docker", str(path))
    assert found.stdout == f"wrote {path}\nnext: hpcli cluster up -f '{path}'\n"
    edited = hpcli("cluster", "init", "--from", "hosts", str(tmp_path / "h.yaml"))
    assert edited.stdout.endswith(f"machines' addresses in, then: hpcli cluster validate -f {tmp_path / 'h.yaml'}\n")


def test_the_file_and_the_provider_may_be_left_out(hpcli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path.cwd()
    monkeypatch.chdir(tmp_path)
    found = hpcli("cluster", "init", env={"PYTHONPATH": str(here)})
    assert found.stdout == "wrote cluster.yaml\nnext: hpcli cluster up\n"
    assert load_spec(tmp_path / "cluster.yaml").provider == "local"


def test_another_name(hpcli: Run, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    assert hpcli("cluster", "init", "--name", "lab", str(path)).returncode == 0
    assert load_spec(path).name == "lab"


def test_a_bad_name_writes_nothing(hpcli: Run, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    found = hpcli("cluster", "init", "--name", "My Lab", str(path))
    assert found.returncode == 2
    assert found.stderr == 'error: --name: found "My Lab", expected 1 to 31 of a-z, 0-9 and -, a letter first\n'
    assert not path.exists()


def test_a_file_that_is_there_is_kept(hpcli: Run, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("mine\n")
    found = hpcli("cluster", "init", str(path))
    assert (found.returncode, path.read_text()) == (2, "mine\n")
    assert f"error: {path}: found a file, expected none: it is not overwritten\nhint: name another file" in found.stderr


@pytest.mark.parametrize("kind", ["dangling", "folder"])
def test_nor_is_anything_else_written_through(hpcli: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "c.yaml"
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    assert hpcli("cluster", "init", str(path)).returncode == 2
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_not_there(hpcli: Run, tmp_path: Path) -> None:
    found = hpcli("cluster", "init", str(tmp_path / "none" / "c.yaml"))
    assert (found.returncode, "found No such file or directory" in found.stderr) == (2, True)


def test_a_dash_prints_it(hpcli: Run) -> None:
    found = hpcli("cluster", "init", "--from", "hosts", "--name", "lab", "-")
    assert found.stdout.startswith("# A cluster of machines that exist")
    assert "\nname: lab\n" in found.stdout


def test_json(hpcli: Run, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    found = json.loads(hpcli("cluster", "init", "--from", "docker", str(path), "--json").stdout)
    assert found["command"] == "cluster init"
    assert found["data"] == {
        "provider": "docker",
        "name": "demo",
        "file": str(path),
        "next": f"hpcli cluster up -f {path}",
    }
    printed = json.loads(hpcli("cluster", "init", "-", "--json").stdout)
    assert printed["data"]["file"] is None
    assert "name: demo" in printed["data"]["text"]
    again = json.loads(hpcli("cluster", "init", str(path), "--json").stdout)
    assert (again["status"], again["errors"][0]["code"]) == ("error", "usage")


def test_a_provider_that_does_not_exist(hpcli: Run, tmp_path: Path) -> None:
    found = hpcli("cluster", "init", "--from", "cloud", str(tmp_path / "c.yaml"))
    assert found.returncode == 2
    assert "'local', 'docker', 'hosts'" in found.stderr
