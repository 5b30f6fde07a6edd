"""Which words are ours, which are sbatch's, and where the script begins."""

import pytest

from hpcli.errors import UsageFault
from hpcli.services.submission import parse_submission

CASES = {
    "train.sh": ("", "train.sh"),
    "--json train.sh --json": ("--json", "train.sh --json"),
    "-N 2 --json train.sh": ("--json", "-N 2 train.sh"),
    "-N2 train.sh a -C b": ("", "-N2 train.sh a -C b"),
    "-C gpu --cluster x train.sh": ("--cluster x", "-C gpu train.sh"),
    "--cluster=x --time 5 train.sh": ("--cluster=x", "--time 5 train.sh"),
    "--exclusive --json train.sh": ("--json", "--exclusive train.sh"),
    "--exclusive=user --json train.sh": ("--json", "--exclusive=user train.sh"),
    "-H -W -k --json train.sh": ("--json", "-H -W -k train.sh"),
    "-o --json train.sh": ("", "-o --json train.sh"),
    "--requeue -- python x.py --json": ("", "--requeue --wrap python x.py --json"),
    "--wrap true --json": ("--json", "--wrap true"),
}


@pytest.mark.parametrize("line", CASES)
def test_words_go_where_they_belong(line: str) -> None:
    own, sbatch = CASES[line]
    found = parse_submission(line.split(), ("--json",), ("--cluster",))
    assert (" ".join(found.own), " ".join(found.sbatch)) == (own, sbatch)
    assert not found.reads_stdin


@pytest.mark.parametrize(
    ("line", "reads"), [("", True), ("-N 2", True), ("-N 2 x.sh", False), ("--wrap=true", False), ("-- true", False)]
)
def test_a_script_comes_from_standard_input_when_nothing_else_is_there(line: str, reads: bool) -> None:
    assert parse_submission(line.split(), (), ()).reads_stdin is reads


def test_a_command_keeps_its_words() -> None:
    found = parse_submission(["--", "echo", "a b", "$HOME", "it's"], (), ())
    assert found.sbatch == ("--wrap", "echo 'a b' '$HOME' 'it'\"'\"'s'")


@pytest.mark.parametrize(("line", "waits"), [("-W x.sh", True), ("--wait x.sh", True), ("x.sh -W", False)])
def test_waiting_is_noticed(line: str, waits: bool) -> None:
    assert parse_submission(line.split(), (), ()).waits is waits


@pytest.mark.parametrize("line", ["--", "--test-only x.sh", "-V", "--usage"])
def test_what_submits_nothing_is_refused(line: str) -> None:
    with pytest.raises(UsageFault):
        parse_submission(line.split(), (), ())
