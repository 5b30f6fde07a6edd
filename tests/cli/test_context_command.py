"""`hpcli context`, and every daily verb through a login node: a real sshd on loopback, recorded and real Slurm."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from sshd import USER, Sshd, make_key, missing_programs, running

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Site:
    """A login node on loopback, and what a laptop has: a key, known host keys, a configuration of its own."""

    folder: Path
    server: Sshd
    hpcli: Run

    @property
    def env(self) -> dict[str, str]:
        return {
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            # What the laptop itself is a part of has no meaning there.
            "SLURM_JOB_ID": "9",
            "SBATCH_PARTITION": "nope",
        }

    def __call__(self, *args: str, code: int = 0, stdin: str = "", **env: str) -> str:
        done = self.hpcli(*args, env={**self.env, **env}, stdin=stdin)
        assert done.returncode == code, f"hpcli {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    def add(self, *words: str, code: int = 0, known: str = "known_hosts") -> str:
        login = f"{USER}@127.0.0.1:{self.server.port}"
        keys = ("--identity", f"{self.folder}/key", "--known-hosts", f"{self.folder}/{known}")
        return self("context", "add", "site", "--ssh", login, *keys, *words, code=code)

    def cut(self) -> None:
        for pid in self.server.children():
            os.kill(pid, signal.SIGKILL)


def site_with(folder: Path, hpcli: Run, variables: dict[str, str]) -> Iterator[Site]:
    if missing := missing_programs():
        pytest.skip(f"skipped: not installed: {' '.join(missing)}")
    settings = " ".join(f"{name}={value}" for name, value in {**variables, "SHLVL": "2"}.items())
    server = Sshd(folder / "sshd", make_key(folder / "key"), [f"SetEnv {settings}"])
    (folder / "known_hosts").write_text(f"{server.known_line}\n")
    (folder / "nobody").touch()
    (folder / "run").mkdir(mode=0o700)
    with running(server):
        yield Site(folder, server, hpcli)


@pytest.fixture
def site(tmp_path: Path, hpcli: Run, recorded_slurm: dict[str, str]) -> Iterator[Site]:
    yield from site_with(tmp_path, hpcli, recorded_slurm)


class TestContexts:
    def test_from_add_to_remove(self, site: Site) -> None:
        assert site.add().startswith(f"context site: {USER}@127.0.0.1:{site.server.port} as {USER}, ")
        assert site("context", "use", "site") == "current context: site\n"
        (row,) = json.loads(site("context", "list", "--json"))["data"]
        assert (row["name"], row["current"], row["kind"]) == ("site", True, "ssh")
        assert "meant       yes" in site("context", "show")
        assert "site" in site("context", "remove", "site")
        assert json.loads(site("context", "list", "--json"))["data"] == []
        assert site("context", "show") == "no context: Slurm of this machine\n"

    def test_a_host_key_that_is_not_known_adds_nothing(self, site: Site) -> None:
        refused = site.add(code=4, known="nobody")
        assert "SHA256:" in refused
        assert json.loads(site("context", "list", "--json"))["data"] == []
        assert (site.folder / "nobody").read_text() == ""
        assert "(not looked at)" in site.add("--no-check", known="nobody")

    def test_a_slurm_conf_that_is_not_there_adds_nothing(self, site: Site) -> None:
        assert "/nosuch/slurm.conf" in site.add("--slurm-conf", "/nosuch/slurm.conf", code=3)
        assert json.loads(site("context", "list", "--json"))["data"] == []

    def test_unknown_names(self, site: Site) -> None:
        for words in (("context", "use", "nope"), ("context", "remove", "nope"), ("context", "show", "nope")):
            assert "context nope" in site(*words, code=3)
        assert "nope" in site("queue", "-C", "nope", code=3)
        assert "--none" in site("context", "use", code=2)

    def test_which_one_counts(self, site: Site) -> None:
        site.add("--no-check")
        site("context", "use", "site")
        jobs = site("queue", "-u", "root")
        assert jobs and site("queue", "-u", "root", "-C", "site") == jobs
        assert "nope" in site("queue", code=3, HPCLI_CLUSTER="nope")
        assert site("queue", "-u", "root", "-C", "site", HPCLI_CLUSTER="nope") == jobs

    def test_a_context_of_this_machine(self, site: Site, recorded_slurm: dict[str, str]) -> None:
        conf = site.folder / "slurm.conf"
        assert "expected one of them" in site("context", "add", "here", code=2)
        site("context", "add", "here", "--slurm-conf", str(conf), code=3, **recorded_slurm)
        conf.touch()
        site("context", "add", "here", "--slurm-conf", str(conf), **recorded_slurm)
        site("submit", "--cluster", "here", "--", "true", **recorded_slurm)
        assert f"SLURM_CONF={conf}\n" in (site.folder / "bin" / "sbatch.env").read_text()


class TestRecordedSlurmThere:
    def test_queue_and_nodes_are_as_here(self, site: Site, recorded_slurm: dict[str, str]) -> None:
        site.add("--no-check")
        for words in (("queue", "--all"), ("nodes",), ("nodes", "--json")):
            assert site(*words, "-C", "site") == site(*words, **recorded_slurm)

    def test_one_login_and_a_session_per_command(self, site: Site) -> None:
        site.add()
        before = site.server.log.read_text().count("Starting session: command")
        site("queue", "-a", "-C", "site")
        assert site.server.log.read_text().count("Starting session: command") == before + 1
        assert site.server.logins() == 1

    def test_a_script_travels(self, site: Site) -> None:
        site.add("--no-check")
        script = site.folder / "train.sh"
        script.write_text("#!/bin/sh\necho ü\n")
        assert site("submit", "--cluster", "site", "-N", "2", str(script), "a b") == "77\n"
        called = (site.folder / "bin" / "sbatch.calls").read_text().splitlines()
        assert called == ["--parsable", "--job-name=train.sh", "-N", "2", "/dev/stdin", "a b"]
        assert (site.folder / "bin" / "sbatch.stdin").read_text() == "#!/bin/sh\necho ü\n"
        there = (site.folder / "bin" / "sbatch.env").read_text()
        assert "SLURM_JOB_ID" not in there and "SBATCH_" not in there

    def test_a_submission_that_is_cut_is_not_repeated(self, site: Site) -> None:
        sbatch = site.folder / "bin" / "sbatch"
        sbatch.write_text(f"#!/bin/sh\necho >>{site.folder}/ran\nsleep 600\n")
        site.add("--no-check")
        argv = [sys.executable, "-m", "hpcli", "submit", "--cluster", "site", "--", "true"]
        env = {**os.environ, **site.env}
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            wait_for(lambda: (site.folder / "ran").exists())
            site.cut()
            out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (4, "")
        assert "whether it took effect is not known" in err and "hpcli queue" in err
        assert (site.folder / "ran").read_text() == "\n"

    def test_recovery_needs_hpcli_there(self, site: Site) -> None:
        site.add()
        assert f"hpcli on {USER}@127.0.0.1" in site("recovery", "status", "-C", "site", code=3)


def wait_for(found: Callable[[], object], limit: float = 30.0) -> None:
    deadline = time.monotonic() + limit
    while not found():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def real_site(tmp_path: Path, hpcli: Run, slurm_env: dict[str, str]) -> Iterator[Site]:
    yield from site_with(tmp_path, hpcli, {"PATH": os.environ["PATH"], **slurm_env})


@pytest.mark.slurm
class TestRealSlurmThere:
    @pytest.mark.parametrize("way", ["openssh", "paramiko"])
    def test_following_through_two_cuts(self, real_site: Site, way: str, tmp_path: Path) -> None:
        real_site.add()
        script = "#!/bin/sh\nfor n in $(seq 1 200); do echo line $n; sleep 0.03; done; exit 3\n"
        job = real_site("submit", "--cluster", "site", "-D", str(tmp_path), stdin=script).strip()
        argv = [sys.executable, "-m", "hpcli", "logs", "-F", "-n", "0", "-C", "site", job]
        env = {**os.environ, **real_site.env, "HPCLI_SSH": way}
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout and process.stderr
            lines = []
            for line in process.stdout:
                lines.append(line)
                if len(lines) in (40, 120):
                    real_site.cut()
            said = process.stderr.read()
            assert process.wait(timeout=60) == 7, said
        assert lines == [f"line {number}\n" for number in range(1, 201)]
        assert "Traceback" not in said

    def test_waiting_ends_with_7(self, real_site: Site) -> None:
        real_site.add()
        failed = real_site("submit", "--cluster", "site", "-W", "-o", "/dev/null", "--", "false", code=7)
        assert "found it ended FAILED" in failed
        assert real_site("submit", "--cluster", "site", "-W", "-o", "/dev/null", "--", "true").strip().isdigit()
