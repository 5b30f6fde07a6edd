"""What every command has in common: start-up, help, errors, exit codes, the envelope."""

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from hpcli.cli import main
from hpcli.version import __version__

Run = Callable[..., "subprocess.CompletedProcess[str]"]
HEAVY = {"paramiko", "rich", "pydantic", "jinja2", "click", "asyncio", "numpy", "yaml", "ClusterShell"}
ENVELOPE = ["version", "command", "status", "exit_code", "data", "errors"]


def imported(*args: str) -> set[str]:
    argv = [sys.executable, "-X", "importtime", "-m", "hpcli", *args]
    err = subprocess.run(argv, capture_output=True, text=True, check=True).stderr
    return {line.rpartition("|")[2].strip() for line in err.splitlines()}


def test_version_is_exact_and_costs_no_import(hpcli: Run) -> None:
    assert hpcli("--version").stdout == f"hpcli {__version__}\n"
    assert not {name.partition(".")[0] for name in imported("--version")} & HEAVY


def test_version_with_other_options(hpcli: Run) -> None:
    assert hpcli("-C", "x", "--version").stdout == f"hpcli {__version__}\n"


def test_help_imports_no_command(hpcli: Run) -> None:
    assert not {name for name in imported("--help") if name.startswith(("hpcli.services", "hpcli.app", "rich"))}
    text = hpcli("--help").stdout
    assert all(f"  {name} " in text for name, lazy in main.COMMANDS.items() if not lazy.hidden)
    assert "agent" not in text.split("Commands:")[1]


@pytest.mark.parametrize("words", [(), ("job",), ("node",)])
def test_a_group_alone_shows_its_help(hpcli: Run, words: tuple[str, ...]) -> None:
    found = hpcli(*words)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("Usage: hpcli")


@pytest.mark.parametrize("verb", ["submit", "queue", "nodes", "logs", "cancel"])
def test_each_verb_has_help_with_examples(hpcli: Run, verb: str) -> None:
    text = hpcli(verb, "--help").stdout
    assert "Examples:" in text
    assert f"hpcli {verb}" in text


def test_daily_verbs_are_the_same_commands() -> None:
    pairs = [("submit", "submit"), ("queue", "list"), ("logs", "logs"), ("cancel", "cancel")]
    assert all(main.COMMANDS[verb].load() is main.JOB[name].load() for verb, name in pairs)
    assert main.COMMANDS["nodes"].load() is main.NODE["list"].load()


def test_unknown_command_is_guessed(hpcli: Run) -> None:
    found = hpcli("qeue")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == "error: hpcli: found no command 'qeue'; did you mean queue?\nhint: see: hpcli --help\n"


def test_usage_errors_come_in_the_envelope(hpcli: Run) -> None:
    found = hpcli("queue", "--bogus", "--json")
    answer = json.loads(found.stdout)
    assert (found.returncode, found.stderr) == (2, "")
    assert list(answer) == ENVELOPE
    assert (answer["command"], answer["status"], answer["exit_code"]) == ("queue", "error", 2)
    assert answer["errors"][0]["code"] == "usage"


def test_envelope_of_a_success(hpcli: Run, recorded_slurm: dict[str, str]) -> None:
    found = hpcli("job", "list", "--user", "root", "--json", env=recorded_slurm)
    answer = json.loads(found.stdout)
    assert list(answer) == ENVELOPE
    assert {**answer, "data": len(answer["data"])} == {
        "version": 1,
        "command": "job list",
        "status": "ok",
        "exit_code": 0,
        "data": 10,
        "errors": [],
    }


def test_envelope_of_a_failure(hpcli: Run, recorded_slurm: dict[str, str]) -> None:
    found = hpcli("cancel", "99999", "--json", env=recorded_slurm)
    assert found.returncode == 3
    assert json.loads(found.stdout) == {
        "version": 1,
        "command": "cancel",
        "status": "error",
        "exit_code": 3,
        "data": None,
        "errors": [
            {
                "code": "not_found",
                "message": "found no such job, expected one that waits or runs",
                "hint": "see: hpcli queue --all",
                "subject": "job 99999",
            }
        ],
    }


def test_no_slurm_on_this_machine(hpcli: Run, tmp_path: object) -> None:
    found = hpcli("queue", env={"PATH": str(tmp_path)})
    assert found.returncode == 3
    assert "Traceback" not in found.stderr
    assert "hint: install" in found.stderr


def test_unknown_cluster(hpcli: Run, tmp_path: object) -> None:
    for args in (("-C", "nope", "queue"), ("queue", "-C", "nope"), ("submit", "--cluster", "nope", "x.sh")):
        found = hpcli(*args, env={"XDG_STATE_HOME": str(tmp_path)})
        assert (found.returncode, found.stderr.splitlines()[0].split(":")[1]) == (3, " cluster nope")


def test_a_reader_that_goes_away_is_no_error(recorded_slurm: dict[str, str]) -> None:
    argv = [sys.executable, "-m", "hpcli", "queue", "--all"]
    env = {**os.environ, **recorded_slurm}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader_gone:
        assert reader_gone.stdout
        assert reader_gone.stderr
        reader_gone.stdout.close()
        assert reader_gone.stderr.read() == b""


def test_command_name_is_read_off_the_words() -> None:
    assert main.command_name(["-C", "x", "queue", "--json"]) == "queue"
    assert main.command_name(["job", "list", "extra"]) == "job list"
    assert main.command_name(["submit", "--json", "--", "queue"]) == "submit"
    assert main.command_name([]) == ""
