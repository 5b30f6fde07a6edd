"""Slurm's programs on a login node: several queries in one round trip, and what may be repeated when it is cut.

Queries that are put at the same moment (by `asyncio.gather`) travel as one command: a small `sh` there runs them one
after another. It reads the mark that it sets behind each answer from its standard input, so that nobody on that
machine can see it and nothing that Slurm prints can forge it. Commands stay lists of arguments: what quotes is the
transport alone.
"""

import asyncio
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hpcli.errors import TimedOut, Unreachable
from hpcli.ports import Completed, Transport
from hpcli.slurm.environment import _LEAKS as LEAKS
from hpcli.slurm.environment import KEEP

SCRUB = f"""\
IFS='
'
set -f
for name in $(set); do
    name=${{name%%=*}}
    case $name in
        {"|".join(sorted(KEEP))}|*[!A-Za-z0-9_]*) ;;
        {"|".join(f"{leak}*" for leak in LEAKS)}) unset "$name" ;;
    esac
done
unset IFS
set +f
"""
"""As `scrub_argv` does here: what a login node's start-up files, or a job that we are in there, have set. It starts no
program.
"""

ONE = SCRUB + 'exec "$@"\n'
MANY = f"""\
IFS= read -r mark
{SCRUB}
run() {{
    left=$1 all=$(($# - 1)); shift
    while [ "$all" -gt 0 ]; do
        word=$1 all=$((all - 1)); shift
        [ "$left" -gt 0 ] || continue
        left=$((left - 1)); set -- "$@" "$word"
    done
    exec "$@"
}}
while [ $# -gt 0 ]; do
    (run "$@") </dev/null
    printf '%s %s\\n' "$mark" $?
    printf '%s' "$mark" >&2
    shift "$(($1 + 1))"
done
"""
"""Arguments: for each program the number of its words, then those."""

SIGNALS = range(129, 193)
READERS = frozenset({"squeue", "sinfo", "sacct", "sstat", "sprio", "sshare", "sreport", "id"})
READING = {"scontrol": {"show", "ping", "version"}, "sacctmgr": {"show", "list"}}
BROKEN = re.compile(r"the connection was lost|closed the connection before we were in|mux_client|Broken pipe")
"""In the words of transport/faults.py: the way was there and broke. Whatever else is wrong would be so again."""
KNOWN = {
    "sbatch": "look for the job before you submit it again: hpcli queue",
    "scancel": "see: hpcli queue; to cancel once more does no harm",
}
SETTLED = 3
"""Turns of the event loop without a new query after which those that wait set out: nested `gather`s take some."""


def is_query(argv: Sequence[str]) -> bool:
    """Whether a command changes nothing, so that it may run twice."""
    if argv[0] in READERS or "--version" in argv:
        return True
    verb = next((word for word in argv[1:] if not word.startswith("-")), "")
    return verb in READING.get(argv[0], ())


class Repeating:
    """A transport for what changes nothing: once more when the connection broke."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        try:
            return await self._transport.run(argv, stdin=stdin, env=env, cwd=cwd, timeout=timeout)
        except Unreachable as error:
            if not BROKEN.search(error.message):
                raise
        return await self._transport.run(argv, stdin=stdin, env=env, cwd=cwd, timeout=timeout)


@dataclass(slots=True)
class _Trip:
    """Commands that leave together, and their answers in the same order."""

    commands: list[tuple[str, ...]] = field(default_factory=list)
    limit: float = 0.0
    answers: "asyncio.Task[list[Completed]] | None" = None


def _mark() -> str:
    return secrets.token_hex(16)


class OneRoundTrip:
    """A Transport for Slurm's programs on a login node; variables of a job do not leak into them.

    Queries of one moment share a round trip, and are put once more when the connection broke. What changes something
    never runs twice: then the error says that its effect is not known.
    """

    def __init__(self, transport: Transport, mark: Callable[[], str] = _mark) -> None:
        self._plain = transport
        self._repeating = Repeating(transport)
        self._mark = mark
        self._leaving: dict[tuple[tuple[str, str], ...], _Trip] = {}

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        if is_query(argv) and not stdin and cwd is None:
            return await self._with_others(tuple(argv), env or {}, timeout)
        line = ["sh", "-c", ONE, "hpcli", *argv]
        try:
            done = await self._plain.run(line, stdin=stdin, env=env, cwd=cwd, timeout=timeout)
        except (Unreachable, TimedOut) as error:
            raise _unsure(error, argv[0]) from None
        return Completed(tuple(argv), done.code, done.out, done.err)

    async def _with_others(self, argv: tuple[str, ...], env: Mapping[str, str], timeout: float) -> Completed:
        key = tuple(sorted(env.items()))
        trip = self._leaving.setdefault(key, _Trip())
        trip.commands.append(argv)
        trip.limit = max(trip.limit, timeout)
        if trip.answers is None:
            trip.answers = asyncio.ensure_future(self._travel(key, trip))
        number = len(trip.commands) - 1
        try:
            # Whoever gives up does so for himself.
            return (await asyncio.shield(trip.answers))[number]
        except (Unreachable, TimedOut) as error:
            raise _named(error, argv[0]) from None

    async def _travel(self, key: tuple[tuple[str, str], ...], trip: _Trip) -> list[Completed]:
        seen = still = 0
        while still < SETTLED:
            await asyncio.sleep(0)
            still = still + 1 if len(trip.commands) == seen else 0
            seen = len(trip.commands)
        del self._leaving[key]
        if seen == 1:
            argv = trip.commands[0]
            done = await self._repeating.run(["sh", "-c", ONE, "hpcli", *argv], env=dict(key), timeout=trip.limit)
            return [Completed(argv, done.code, done.out, done.err)]
        mark = self._mark()
        words = [word for argv in trip.commands for word in (str(len(argv)), *argv)]
        line = ["sh", "-c", MANY, "hpcli", *words]
        done = await self._repeating.run(line, stdin=f"{mark}\n", env=dict(key), timeout=trip.limit)
        return _taken_apart(done, mark, trip.commands)


def _taken_apart(done: Completed, mark: str, commands: Sequence[tuple[str, ...]]) -> list[Completed]:
    """Each command's own answer. Raises `Unreachable` when the shell there ended before the last."""
    outs = re.split(rf"{mark} (\d+)\n", done.out)
    errs = done.err.split(mark)
    if len(outs) != 2 * len(commands) + 1 or len(errs) <= len(commands):
        found = f"found {len(outs) // 2} answers, expected {len(commands)}"
        raise Unreachable("login node", f"{found}: its shell ended with {done.code}", "look at the machine")
    codes = (int(code) for code in outs[1::2])
    return [
        Completed(argv, 128 - code if code in SIGNALS else code, out, err)
        for argv, code, out, err in zip(commands, codes, outs[0::2], errs, strict=False)
    ]


def _named(error: Unreachable | TimedOut, program: str) -> Unreachable | TimedOut:
    """An error of the way as of the program that was meant, not of the shell around it."""
    if isinstance(error, TimedOut):
        return TimedOut(f"{error.subject.removesuffix(': sh')}: {program}", error.message, "is slurmctld up there?")
    message = error.message.replace("while sh ran; it may still run there", f"while {program} ran")
    return Unreachable(error.subject, message, error.hint)


def _unsure(error: Unreachable | TimedOut, program: str) -> Unreachable | TimedOut:
    hint = KNOWN.get(program, "see: hpcli nodes, hpcli queue")
    if isinstance(error, TimedOut):
        subject = f"{error.subject.removesuffix(': sh')}: {program}"
        return TimedOut(subject, f"{error.message}; whether it took effect is not known", hint)
    if not BROKEN.search(error.message):
        return error
    found = f"the connection was lost while {program} ran; whether it took effect is not known"
    return Unreachable(error.subject, found, hint)
