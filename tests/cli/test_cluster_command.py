"""hpcli cluster: what is refused before any daemon starts, and that nothing is left of it."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SPEC = """
name: it
compute: [{name: gpu, count: 2}]
"""
SLURM = pytest.mark.skipif(not shutil.which("scontrol"), reason="skipped: Slurm is not installed")


@pytest.fixture
def own(tmp_path: Path, hpcli: Run) -> Iterator[dict[str, str]]:
    """The environment of this test: its own state and runtime folder, neither made yet."""
    runtime = Path(f"/tmp/hpcli-c{os.getpid()}")
    folders = {"XDG_STATE_HOME": str(tmp_path / "state"), "HPCLI_RUNTIME_DIR": str(runtime)}
    yield dict(folders)
    if (tmp_path / "state" / "hpcli" / "clusters" / "it").exists():
        # What should have been refused came up after all.
        hpcli("cluster", "down", "it", "--yes", env=folders)
    shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "it.yaml"
    path.write_text(SPEC)
    return path


def nothing_made(own: dict[str, str]) -> bool:
    state = Path(own["XDG_STATE_HOME"])
    return not list(state.rglob("*")) and not list(Path(own["HPCLI_RUNTIME_DIR"]).glob("*"))


class TestUp:
    def test_slurm_that_is_not_installed(self, hpcli: Run, own: dict[str, str], spec: Path, tmp_path: Path) -> None:
        found = hpcli("cluster", "up", "-f", str(spec), env={**own, "PATH": str(tmp_path)})
        assert found.returncode == 1
        assert "found no scontrol, squeue, sbatch, munge, unmunge" in found.stderr.replace("slurmctld, slurmd, ", "")
        assert "hint: apt-get install slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge\n" in found.stderr
        assert nothing_made(own)

    @SLURM
    @pytest.mark.parametrize("address", ["127.0.0.1", "127.0.1.1", "0.0.0.0"])
    def test_ports_that_are_taken(self, hpcli: Run, own: dict[str, str], spec: Path, address: str) -> None:
        with socket.create_server((address, 0)) as holder:
            port = holder.getsockname()[1]
            spec.write_text(f"{SPEC}local: {{first_port: {port - 1}}}\n")
            found = hpcli("cluster", "up", "-f", str(spec), env=own)
        assert found.returncode == 1
        # Another program may have the ports around it.
        assert "error: local.first_port: found " in found.stderr
        assert str(port) in found.stderr
        assert "hint: choose another first_port" in found.stderr
        assert nothing_made(own)

    @SLURM
    def test_node_names_too_long_for_sockets(self, hpcli: Run, own: dict[str, str], spec: Path) -> None:
        name = "n" + "o" * 50
        spec.write_text(f"name: it\ncompute: [{{name: gpu, nodes: '{name}[1-2]'}}]\n")
        found = hpcli("cluster", "up", "-f", str(spec), env=own)
        assert found.returncode == 1
        assert "bytes, at most 107 work" in found.stderr
        assert "HPCLI_RUNTIME_DIR" in found.stderr
        assert nothing_made(own)

    @SLURM
    @pytest.mark.parametrize("kind", ["open to all", "a link", "somebody else's"])
    def test_a_runtime_folder_that_is_not_ours_alone(
        self, hpcli: Run, own: dict[str, str], spec: Path, tmp_path: Path, kind: str
    ) -> None:
        runtime = Path(own["HPCLI_RUNTIME_DIR"])
        target = tmp_path / "target" if kind == "a link" else runtime
        target.mkdir(mode=0o700)
        victim = target / "victim"
        victim.touch()
        try:
            trap(runtime, target, kind)
            found = hpcli("cluster", "up", "-f", str(spec), env=own)
            assert found.returncode == 1
            assert f"error: {runtime}: found it owned by uid" in found.stderr
            assert "hint: remove it, or set HPCLI_RUNTIME_DIR" in found.stderr
            assert victim.exists()
            assert not Path(own["XDG_STATE_HOME"]).exists()
        finally:
            runtime.unlink() if runtime.is_symlink() else shutil.rmtree(runtime)

    @SLURM
    @pytest.mark.parametrize("folder", ["with space", "hash#", "comma,"])
    def test_folders_that_slurm_cannot_read(self, hpcli: Run, own: dict[str, str], spec: Path, folder: str) -> None:
        own["XDG_STATE_HOME"] = f"{own['XDG_STATE_HOME']}/{folder}"
        found = hpcli("cluster", "up", "-f", str(spec), env=own)
        assert (found.returncode, "Traceback" in found.stderr) == (1, False)
        assert "which Slurm cannot read" in found.stderr
        assert "XDG_STATE_HOME" in found.stderr
        assert nothing_made(own)

    @SLURM
    def test_a_state_folder_that_cannot_be_made(
        self, hpcli: Run, own: dict[str, str], spec: Path, tmp_path: Path
    ) -> None:
        own["XDG_STATE_HOME"] = str(spec)
        found = hpcli("cluster", "up", "-f", str(spec), env=own)
        assert (found.returncode, "Traceback" in found.stderr) == (1, False)
        assert "Not a directory" in found.stderr
        assert "hint: set XDG_STATE_HOME" in found.stderr

    def test_no_spec(self, hpcli: Run, own: dict[str, str], tmp_path: Path) -> None:
        found = hpcli("cluster", "up", "-f", str(tmp_path / "none.yaml"), env=own)
        assert found.returncode in (2, 3)
        assert "none.yaml" in found.stderr
        assert "Traceback" not in found.stderr

    def test_a_spec_with_problems_lists_them_all(self, hpcli: Run, own: dict[str, str], spec: Path) -> None:
        spec.write_text("name: It\ncompute: [{name: gpu, count: 0}]\nrecovry: {}\n")
        found = hpcli("cluster", "up", "-f", str(spec), env=own)
        assert found.returncode == 2
        assert {f"it.yaml:{line}" in found.stderr for line in (1, 2, 3)} == {True}
        assert nothing_made(own)


def trap(runtime: Path, target: Path, kind: str) -> None:
    if kind == "a link":
        runtime.symlink_to(target)
    elif kind == "open to all":
        runtime.chmod(0o777)
    elif os.getuid() == 0:
        os.chown(runtime, 65_534, 65_534)
    else:
        pytest.skip("skipped: only root can give a folder away")


DAMAGED = {"cut off": '{"name": "it", "nod', "a number": "7", "not text": "\udcff\udcfe"}


class TestADamagedCluster:
    @pytest.fixture(params=DAMAGED.values(), ids=DAMAGED)
    def damaged(self, own: dict[str, str], request: pytest.FixtureRequest) -> Path:
        home = Path(own["XDG_STATE_HOME"]) / "hpcli" / "clusters" / "it"
        home.mkdir(parents=True)
        (home / "cluster.json").write_bytes(request.param.encode(errors="surrogateescape"))
        return home

    def test_is_named_in_the_error(self, hpcli: Run, own: dict[str, str], damaged: Path) -> None:
        found = hpcli("cluster", "status", "it", env=own)
        assert (found.returncode, "Traceback" in found.stderr) == (1, False)
        assert f"error: {damaged}/cluster.json: damaged cluster record" in found.stderr

    def test_is_listed_and_goes_down(self, hpcli: Run, own: dict[str, str], damaged: Path) -> None:
        [row] = json.loads(hpcli("cluster", "list", "--json", env=own).stdout)["data"]
        assert (row["name"], row["dead"]) == ("it", ["record"])
        assert hpcli("cluster", "down", "it", "--yes", env=own).returncode == 0
        assert not damaged.exists()


class TestNames:
    @pytest.mark.parametrize("name", ["../x", "/etc", "-x", "A"])
    @pytest.mark.parametrize("words", [("cluster", "down", "--yes"), ("cluster", "status"), ("demo", "--name")])
    def test_paths_and_the_like_are_no_names(
        self, hpcli: Run, own: dict[str, str], words: tuple[str, ...], name: str
    ) -> None:
        separator = () if words[0] == "demo" else ("--",)
        found = hpcli(*words, *separator, name, env=own)
        assert (found.returncode, "Traceback" in found.stderr) == (2, False)
        assert "expected a-z, 0-9 and -" in found.stderr
        assert nothing_made(own)

    @pytest.mark.parametrize("words", [("down", "nope", "--yes"), ("status", "nope"), ("up", "-f", "nope")])
    def test_a_name_that_nobody_has(self, hpcli: Run, own: dict[str, str], words: tuple[str, ...]) -> None:
        found = hpcli("cluster", *words, "--json", env=own)
        assert found.returncode == 3
        assert json.loads(found.stdout)["errors"][0]["code"] == "not_found"

    def test_with_no_cluster_at_all_one_must_be_named(self, hpcli: Run, own: dict[str, str]) -> None:
        found = hpcli("cluster", "status", env=own)
        assert (found.returncode, "found no cluster, expected the name of one" in found.stderr) == (2, True)

    def test_an_empty_list_is_no_error(self, hpcli: Run, own: dict[str, str]) -> None:
        found = hpcli("cluster", "list", env=own)
        assert (found.returncode, found.stdout) == (0, "")
        assert json.loads(hpcli("cluster", "list", "--json", env=own).stdout)["data"] == []


class TestDown:
    def test_needs_yes_where_nobody_can_be_asked(self, hpcli: Run, own: dict[str, str]) -> None:
        home = Path(own["XDG_STATE_HOME"]) / "hpcli" / "clusters" / "it"
        home.mkdir(parents=True)
        found = hpcli("cluster", "down", "it", env=own)
        assert (found.returncode, "expected --yes" in found.stderr) == (8, True)
        dry = hpcli("cluster", "down", "it", "--dry-run", env=own)
        assert (dry.returncode, str(home) in dry.stdout) == (0, True)
        assert home.exists()


@SLURM
class TestRender:
    def test_shows_what_up_would_write_and_touches_nothing(self, hpcli: Run, own: dict[str, str], spec: Path) -> None:
        files = json.loads(hpcli("cluster", "render", "-f", str(spec), "--json", env=own).stdout)["data"]
        assert {"slurm.conf", "gres.conf", "cgroup.conf"} <= set(files)
        assert "ClusterName=it" in files["slurm.conf"]
        assert nothing_made(own)

    def test_writes_the_files_on_request(self, hpcli: Run, own: dict[str, str], spec: Path, tmp_path: Path) -> None:
        found = hpcli("cluster", "render", "-f", str(spec), "-o", str(tmp_path / "conf"), env=own)
        assert found.returncode == 0
        assert "ClusterName=it" in (tmp_path / "conf" / "slurm.conf").read_text()


def test_validate_counts_what_it_found(hpcli: Run, own: dict[str, str], spec: Path) -> None:
    found = hpcli("cluster", "validate", "-f", str(spec), "--json", env=own)
    assert json.loads(found.stdout)["data"] == {"name": "it", "nodes": 2, "partitions": 1}


def test_schema_is_json(hpcli: Run) -> None:
    assert json.loads(hpcli("cluster", "schema").stdout)["type"] == "object"
