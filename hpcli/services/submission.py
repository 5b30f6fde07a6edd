"""Take a submit command line apart as sbatch would: options, then a script or a command. Pure."""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from hpcli.errors import UsageFault

FLAGS = frozenset(
    {
        "--contiguous",
        "--exclusive",
        "--get-user-env",
        "--hold",
        "--ignore-pbs",
        "--nice",
        "--no-kill",
        "--no-requeue",
        "--overcommit",
        "--oversubscribe",
        "--parsable",
        "--propagate",
        "--quiet",
        "--reboot",
        "--requeue",
        "--spread-job",
        "--use-min-nodes",
        "--verbose",
        "--wait",
    }
)
"""sbatch's long options that take no word after them (sbatch(1)); all others do, unless written with "="."""

FLAG_LETTERS = frozenset("HkOsQvW")
ASK_SBATCH = frozenset({"--test-only", "--usage", "--version", "-V"})


@dataclass(frozen=True, slots=True)
class Submission:
    """The words of a submit command line: ours, sbatch's, and what is to run.

    `script` is the batch script and its arguments, at the end of `sbatch` too; () when there is none. `waits` says
    that sbatch was asked to stay until the job has ended.
    """

    own: tuple[str, ...]
    sbatch: tuple[str, ...]
    reads_stdin: bool
    waits: bool
    script: tuple[str, ...] = ()

    def carried(self) -> tuple[str, ...]:
        """The words for sbatch on another machine, where the script comes in on standard input."""
        if not self.script:
            return self.sbatch
        options = self.sbatch[: -len(self.script)]
        named = any(word.startswith(("--job-name", "-J")) for word in options)
        name = () if named else (f"--job-name={PurePath(self.script[0]).name}",)
        return (*name, *options, "/dev/stdin", *self.script[1:])


def parse_submission(words: Sequence[str], flags: Collection[str], with_value: Collection[str]) -> Submission:
    """Split a command line. `flags` and `with_value` are our own options; they count before the script only.

    Raises `UsageFault` for sbatch options that submit nothing.
    """
    own: list[str] = []
    options: list[str] = []
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
        mine = rest[0].partition("=")[0] in {*flags, *with_value}
        count = (2 if rest[0] in with_value else 1) if mine else _words_taken(rest[0])
        (own if mine else options).extend(rest[:count])
        del rest[:count]
    _refuse_questions(options)
    return Submission(
        own=tuple(own),
        sbatch=(*options, *_what_to_run(rest)),
        reads_stdin=not rest and not any(word.startswith("--wrap") for word in options),
        waits=any(word in ("-W", "--wait") for word in options),
        script=() if rest[:1] == ["--"] else tuple(rest),
    )


def _words_taken(option: str) -> int:
    """Count the words that an sbatch option is made of, itself included."""
    if option.startswith("--"):
        return 1 if "=" in option or option in FLAGS | ASK_SBATCH else 2
    return 1 if len(option) > 2 or option[1] in FLAG_LETTERS or option in ASK_SBATCH else 2


def _what_to_run(rest: Sequence[str]) -> tuple[str, ...]:
    if rest[:1] != ["--"]:
        return tuple(rest)
    if len(rest) == 1:
        raise UsageFault("submit", "found nothing after --, expected a command", "hpcli submit -N 2 -- python train.py")
    return ("--wrap", shlex.join(rest[1:]))


def _refuse_questions(options: Sequence[str]) -> None:
    asked = [word for word in options if word in ASK_SBATCH]
    if asked:
        raise UsageFault("submit", f"found {asked[0]}, which submits nothing", f"ask sbatch itself: sbatch {asked[0]}")
