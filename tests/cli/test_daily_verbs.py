"""submit, queue, nodes, logs, cancel as a user types them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


class TestAgainstRecordedSlurm:
    def test_queue_is_plain_in_a_pipe(self, hpcli: Run, recorded_slurm: dict[str, str]) -> None:
        lines = [line.split("\t") for line in hpcli("queue", "-u", "root", env=recorded_slurm).stdout.splitlines()]
        assert {len(line) for line in lines} == {10}
        assert [
            "62_[2-3]",
            "sweep",
            "root",
            "main",
            "PENDING",
            "0:00",
            "UNLIMITED",
            "1",
            "0",
            "(JobArrayTaskLimit)",
        ] in lines
        assert ["60", "train", "root", "main", "RUNNING", "0:02", "365-00:00:00", "2", "0", "c[1-2]"][:5] in [
            line[:5] for line in lines
        ]

    def test_queue_of_others_is_not_mine(self, hpcli: Run, recorded_slurm: dict[str, str]) -> None:
        found = hpcli("queue", "-u", "nobody", env=recorded_slurm)
        assert (found.stdout, found.stderr) == ("", "no jobs of nobody; all: hpcli queue --all\n")

    def test_nodes_are_folded(self, hpcli: Run, recorded_slurm: dict[str, str]) -> None:
        lines = [line.split("\t") for line in hpcli("nodes", env=recorded_slurm).stdout.splitlines()]
        assert ["mixed", "c1", "1", "2/4", "2/2", "main,debug", ""] in lines
        assert ["down", "c5", "1", "0/4", "0/2", "main", "two"] in lines
        assert [line[0] for line in lines][-3:] == ["down", "drained", "unknown*"]

    def test_a_terminal_gets_a_table(self, on_terminal: Callable[..., str], recorded_slurm: dict[str, str]) -> None:
        lines = on_terminal("nodes", "--no-color", env=recorded_slurm).splitlines()
        assert lines[0].split() == ["STATE", "NODELIST", "NODES", "CPUS", "GPUS", "PARTITION", "REASON"]
        assert lines[1].split() == ["mixed", "c1", "1", "2/4", "2/2", "main,debug"]

    @pytest.mark.parametrize(
        ("env", "args"), [({"NO_COLOR": "1"}, []), ({"TERM": "dumb"}, []), ({}, ["--no-color"]), ({}, ["--json"])]
    )
    def test_no_colour_on_request(
        self, on_terminal: Callable[..., str], recorded_slurm: dict[str, str], env: dict[str, str], args: list[str]
    ) -> None:
        assert "\x1b" in on_terminal("nodes", env=recorded_slurm)
        assert "\x1b" not in on_terminal("nodes", *args, env={**recorded_slurm, **env})

    def test_submit_passes_sbatchs_options_through(
        self, hpcli: Run, recorded_slurm: dict[str, str], tmp_path: Path
    ) -> None:
        conf = tmp_path / "other.conf"
        conf.touch()
        outer = {"SLURM_JOB_ID": "1", "SBATCH_PARTITION": "x", "PMIX_RANK": "0", "SLURM_CONF": str(conf)}
        words = ["-C", "gpu", "-q", "high", "--nodes", "2", "-v", "--json", "train.sh", "--json", "-C"]
        found = hpcli("submit", *words, env={**recorded_slurm, **outer})
        assert json.loads(found.stdout)["data"] == {"job": "77"}
        passed = (tmp_path / "bin" / "sbatch.calls").read_text().splitlines()
        assert passed == ["--parsable", *words[:7], "train.sh", "--json", "-C"]
        inherited = dict(
            line.partition("=")[::2] for line in (tmp_path / "bin" / "sbatch.env").read_text().splitlines()
        )
        assert "SLURM_CONF" in inherited
        assert not {"SLURM_JOB_ID", "SBATCH_PARTITION", "PMIX_RANK", "SLURM_TIME_FORMAT"} & inherited.keys()
        assert inherited.get("LC_ALL") == os.environ.get("LC_ALL")

    def test_submit_wraps_a_command(self, hpcli: Run, recorded_slurm: dict[str, str], tmp_path: Path) -> None:
        found = hpcli("submit", "-N2", "--", "python", "-c", "print('a b')", env=recorded_slurm)
        assert found.stdout == "77\n"
        passed = (tmp_path / "bin" / "sbatch.calls").read_text()
        assert passed == "--parsable\n-N2\n--wrap\npython -c 'print('\"'\"'a b'\"'\"')'\n"

    def test_submit_reads_a_script_from_standard_input(
        self, hpcli: Run, recorded_slurm: dict[str, str], tmp_path: Path
    ) -> None:
        hpcli("submit", "-N", "2", env=recorded_slurm, stdin="#!/bin/sh\ntrue\n")
        assert (tmp_path / "bin" / "sbatch.stdin").read_text() == "#!/bin/sh\ntrue\n"

    def test_cancel_of_several_wants_yes(self, hpcli: Run, recorded_slurm: dict[str, str], tmp_path: Path) -> None:
        found = hpcli("cancel", "60", "62", env=recorded_slurm)
        assert found.returncode == 8
        assert "cancel 5 jobs" in found.stderr
        assert not (tmp_path / "bin" / "scancel.calls").exists()

    def test_cancel_dry_run_cancels_nothing(self, hpcli: Run, recorded_slurm: dict[str, str], tmp_path: Path) -> None:
        found = hpcli("cancel", "--dry-run", "60", env=recorded_slurm)
        assert (found.returncode, found.stdout) == (0, "would cancel 60\n")
        assert not (tmp_path / "bin" / "scancel.calls").exists()

    def test_cancel_names_what_was_asked_for(self, hpcli: Run, recorded_slurm: dict[str, str], tmp_path: Path) -> None:
        found = hpcli("cancel", "--yes", "60", "62", "47", env=recorded_slurm)
        assert found.returncode == 0
        assert (tmp_path / "bin" / "scancel.calls").read_text() == "-v 60 62\n"

    def test_cancel_of_an_ended_job_says_so(self, hpcli: Run, recorded_slurm: dict[str, str]) -> None:
        found = hpcli("cancel", "47", env=recorded_slurm)
        assert (found.returncode, found.stdout, found.stderr) == (0, "", "47: ended already\n")


@pytest.mark.slurm
class TestAgainstRealSlurm:
    def test_a_job_from_submit_to_its_log(self, hpcli: Run, slurm_env: dict[str, str], tmp_path: Path) -> None:
        script = tmp_path / "job.sh"
        script.write_text("#!/bin/sh\necho out $1 $SLURM_JOB_NUM_NODES\necho err >&2\n")
        submitted = hpcli("submit", "-N", "2", "-D", str(tmp_path), "-e", "err.txt", str(script), "arg", env=slurm_env)
        job = submitted.stdout.strip()
        followed = hpcli("logs", "-F", job, env=slurm_env)
        assert followed.returncode == 0
        assert "out arg 2\n" in followed.stdout
        assert f"==> {tmp_path}/err.txt <==\nerr\n" in hpcli("logs", job, env=slurm_env).stdout

    def test_following_a_failed_job_ends_with_7(self, hpcli: Run, slurm_env: dict[str, str], tmp_path: Path) -> None:
        job = hpcli("submit", "-D", str(tmp_path), "--", "sh", "-c", "echo no; exit 3", env=slurm_env).stdout.strip()
        found = hpcli("logs", "-F", job, env=slurm_env)
        assert (found.returncode, found.stdout) == (7, "no\n")
        assert f"error: job {job}: found it ended FAILED (NonZeroExitCode)" in found.stderr

    def test_submit_that_waits_ends_with_7(self, hpcli: Run, slurm_env: dict[str, str]) -> None:
        found = hpcli("submit", "-W", "-o", "/dev/null", "--", "false", env=slurm_env)
        assert (found.returncode, found.stdout.strip().isdigit()) == (7, True)

    def test_ctrl_c_while_following(self, hpcli: Run, slurm_env: dict[str, str], tmp_path: Path) -> None:
        job = hpcli("submit", "-D", str(tmp_path), "--", "sh", "-c", "echo on; sleep 600", env=slurm_env).stdout.strip()
        argv = [sys.executable, "-m", "hpcli", "logs", "-F", job]
        with subprocess.Popen(
            argv,
            env={**os.environ, **slurm_env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Whoever runs the tests in the background has it ignored, and us with it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as follower:
            assert follower.stdout
            assert follower.stdout.readline() == "on\n"
            follower.send_signal(signal.SIGINT)
            _, err = follower.communicate(timeout=20)
        assert (follower.returncode, "Traceback" in err) == (130, False)
        assert hpcli("cancel", job, env=slurm_env).stdout == f"cancelled {job}\n"

    def test_refusals(self, hpcli: Run, slurm_env: dict[str, str], tmp_path: Path) -> None:
        refused = hpcli("submit", "-p", "nope", "--", "true", env=slurm_env)
        assert (refused.returncode, "nope" in refused.stderr) == (5, True)
        assert hpcli("nodes", "c[1-9]", env=slurm_env).returncode == 3
        assert hpcli("logs", "99999", env=slurm_env).returncode == 3
        assert hpcli("logs", "-F", "no-id", env=slurm_env).returncode == 2
