"""How a list of arguments crosses SSH, and how its end comes back: the one place that quotes.

SSH carries one line for the login shell of the other side (sh, dash, bash, zsh; not csh, whose quotes mean other
things). Ours is always `exec sh -c SCRIPT hpcli TOKEN PROGRAM ARGUMENTS`, quoted once. The script reports on
standard error, behind a token that nobody else can know, the process group that it runs in and how the program
ended. So a program's own exit code 255 differs from a broken connection (which reports no end), and what runs too
long can be ended on the other side.

A shell sees a signal N as exit code 128+N; codes 129 to 192 come back as that signal, also where a program
chose them by itself.
"""

import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpcli.errors import UsageFault
from hpcli.transport.output import as_text

SCRIPT = """\
token=$1 program=$2 folder=$3; shift 3
exec 3>&2 2>/dev/null
read -r _ _ _ _ group _ </proc/self/stat
printf '%s begin %s\\n' "$token" "$group" >&3
(exec "$@") 2>&3 3>&-
code=$?
case $code in
    126|127) command -v "$program" >/dev/null || code=missing ;;
    125) [ -z "$folder" ] || [ -d "$folder" ] || code=nowhere ;;
esac
printf '%s end %s\\n' "$token" "$code" >&3
"""
KILL = 'kill -s KILL -- "-$1"'
LONGEST = 120_000
"""Bytes of one argument of a program on Linux (MAX_ARG_STRLEN is 128 KiB): the whole line is one."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SIGNALS = range(129, 193)


@dataclass(frozen=True, slots=True)
class Ending:
    """What came back. `group` 0: nothing told that it began; `code` None: nothing told how it ended.

    `fault` says why it never ran: "missing" (no such program) or "nowhere" (no such folder).
    """

    group: int
    code: int | None
    err: str
    fault: str = ""


def new_token() -> str:
    return f"hpcli-{secrets.token_hex(8)}"


def line_for(argv: Sequence[str], token: str, env: Mapping[str, str] | None = None, cwd: str | None = None) -> str:
    """The line for the other side's shell. Raises `UsageFault` for what cannot cross."""
    words = [*_surroundings(env or {}, cwd), *argv]
    line = "exec " + shlex.join(["sh", "-c", SCRIPT, "hpcli", token, argv[0], cwd or "", *words])
    if "\0" in line:
        raise UsageFault(argv[0], "found a NUL byte in its arguments", "pass it on standard input")
    if (size := len(line.encode(errors="surrogateescape"))) > LONGEST:
        found = f"found arguments of {size} bytes, expected at most {LONGEST}"
        raise UsageFault(argv[0], found, "pass them on standard input or as a file")
    return line


def _surroundings(env: Mapping[str, str], cwd: str | None) -> list[str]:
    if not env and cwd is None:
        return []
    for name in env:
        if not NAME.fullmatch(name):
            raise UsageFault(f"environment {name!r}", "expected letters, digits and _ in its name", "")
    return ["env", *([] if cwd is None else [f"--chdir={cwd}"]), *(f"{name}={value}" for name, value in env.items())]


def line_to_kill(group: int, argv: Sequence[str]) -> str:
    """What ends a process group there; what runs through sudo can be ended only through sudo."""
    through = ["sudo", "-n", "--"] if argv[0] == "sudo" else []
    return shlex.join([*through, "sh", "-c", KILL, "sh", str(group)])


def has_begun(raw: bytes | bytearray) -> bool:
    """Whether the other side's shell has said that it runs what we asked for."""
    return bool(re.search(rb"^hpcli-[0-9a-f]{16} begin \d+\n", raw, re.MULTILINE))


def read_ending(token: str, raw: bytes | bytearray) -> Ending:
    """Take our own words out of what came on standard error."""
    text = bytes(raw)
    began = re.search(rb"^%s begin (\d+)\n" % token.encode(), text, re.MULTILINE)
    if not began:
        return Ending(0, None, as_text(text))
    said = text[: began.start()] + text[began.end() :]
    ended = list(re.finditer(rb"%s end (\w+)\n" % token.encode(), said))
    if not ended:
        return Ending(int(began[1]), None, as_text(said))
    last = ended[-1]
    err = as_text(said[: last.start()] + said[last.end() :])
    word = last[1].decode()
    if not word.isdigit():
        return Ending(int(began[1]), 127, err, fault=word)
    code = int(word)
    return Ending(int(began[1]), 128 - code if code in SIGNALS else code, err)
