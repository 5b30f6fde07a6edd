"""Output files of jobs as they grow, on a login node: read there by tail, at the byte where we are.

One round trip asks for all files at once, waits there for something new, and brings it as base64, whole or not at all:
what a broken connection has swallowed is asked for again. Nothing stays there for longer than it was told to wait.
"""

import base64
import codecs
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hpcli.errors import HpcliError
from hpcli.ports import Transport
from hpcli.services.log_files import CHUNK, unreadable

INTERVAL = 0.25
LEAST = 1 << 16
WHOLE = 1 << 23
PATIENCE = 60.0
"""Seconds beyond its waiting in which the login node must have answered."""

SCRIPT = r"""
LC_ALL=C; export LC_ALL
IFS=' ' read -r turns limit
known='' expected=''
while IFS= read -r line; do
    known="$known$line
"
    set -- "$@" "${line#* * }"
    case $line in '0 '*|-*) ;; *) expected="${expected:+$expected
}$line" ;; esac
done
refuse() { printf '! %s %s\n' "$1" "$2"; }
position() { while read -r key value; do [ "$key" != pos: ] || echo "= $value"; done </proc/self/fdinfo/3; }
grow() {
    set -- "$1" "$2" "$3" $(stat -L -c '%i %s' /proc/self/fd/3)
    from=$3
    case $from in -*)
        printf '@ %s %s 0 %s\n' "$1" "$4" "$5"
        tail -n "${from#-}" <&3 | base64
        position
        return ;;
    esac
    if [ "$2" != 0 ] && { [ "$2" != "$4" ] || [ "$5" -lt "$from" ]; }; then from=0; fi
    printf '@ %s %s %s %s\n' "$1" "$4" "$from" "$5"
    [ "$5" -le "$from" ] || tail -c "+$((from + 1))" /proc/self/fd/3 | head -c "$limit" | base64
}
look() {
    if [ ! -e "$4" ]; then
        case $(stat -L -- "$4" 2>&1) in *'Permission denied'*) refuse "$1" 'Permission denied' ;; esac
    elif [ ! -f "$4" ]; then refuse "$1" 'something else than a file'
    elif [ ! -r "$4" ]; then refuse "$1" 'Permission denied'
    else grow "$1" "$2" "$3" 3<"$4"
    fi
}
while [ "$turns" -gt 0 ] && [ "$(stat -L -c '%i %s %n' -- "$@" 2>/dev/null)" = "$expected" ]; do
    sleep 0.25
    turns=$((turns - 1))
done
number=0
printf %s "$known" | while IFS= read -r line; do
    rest=${line#* }
    inode=${line%% *}
    look "$number" "${inode#-}" "${rest%% *}" "${rest#* }"
    number=$((number + 1))
done
"""
"""Input: how often to look, the most bytes of a file; then per file INODE FROM PATH. Inode 0 is one not yet seen, a
minus before it one that has gone; FROM is the byte to begin at, or -N for the last N lines. Output per file that is
there: `@ NUMBER INODE FROM SIZE` and the bytes from there on; behind last lines `= END`, the byte where they end,
counts in place of FROM. Or `! NUMBER WHY`.
"""


@dataclass(slots=True)
class _Place:
    """Where we are in one file."""

    path: str
    start: int
    inode: int = 0
    size: int = 0
    gone: bool = False
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )

    @property
    def line(self) -> str:
        return f"{'-' if self.gone else ''}{self.inode} {self.start} {self.path}\n"

    def take(self, inode: int, start: int, size: int, content: bytes) -> str:
        if start != self.start:
            self._decoder.reset()
        self.inode, self.size, self.start, self.gone = inode, size, start + len(content), False
        return self._decoder.decode(content)

    def miss(self) -> None:
        """It is not there: one that comes is new, unless it is the same again."""
        self.start, self.gone = max(self.start, 0), self.inode != 0


class RemoteFiles:
    """Files on the machine of a transport, which may run what only reads a second time. Implements `LogFiles`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._places: list[_Place] = []

    async def last(self, paths: Sequence[str], lines: int) -> Mapping[str, str]:
        there = RemoteFiles(self._transport)
        there.watch(paths, lines)
        return await there._whole()

    def watch(self, paths: Sequence[str], lines: int) -> None:
        known = {place.path for place in self._places}
        self._places += [_Place(path, -lines) for path in dict.fromkeys(paths) if path not in known]

    async def news(self, seconds: float) -> Sequence[tuple[str, str]]:
        share = max(CHUNK // max(len(self._places), 1), LEAST)
        return [(place.path, text) for place, text in await self._look(seconds, share) if text]

    async def _whole(self) -> dict[str, str]:
        """Up to where the files ended when we came."""
        found = await self._look(0, WHOLE)
        texts, ends = {place.path: text for place, text in found}, {place.path: place.size for place, _ in found}
        while any(text and place.start < ends[place.path] for place, text in found):
            found = [(place, text) for place, text in await self._look(0, WHOLE) if place.path in ends]
            for place, text in found:
                texts[place.path] += text
        return texts

    async def _look(self, seconds: float, limit: int) -> list[tuple[_Place, str]]:
        asked = "".join(place.line for place in self._places)
        stdin = f"{math.ceil(seconds / INTERVAL)} {limit}\n{asked}"
        done = await self._transport.run(["sh", "-c", SCRIPT], stdin=stdin, timeout=seconds + PATIENCE)
        if done.code:
            words = (done.err.strip() or f"its shell ended with {done.code}").splitlines()[-1]
            raise HpcliError("login node", f"found {words}, expected it to read output files there")
        found = [self._taken(lines) for lines in _records(done.out)]
        there = {place.path for place, _ in found}
        for place in self._places:
            if place.path not in there:
                place.miss()
        return found

    def _taken(self, record: Sequence[str]) -> tuple[_Place, str]:
        kind, number, rest = record[0].split(" ", 2)
        place = self._places[int(number)]
        if kind == "!":
            raise unreadable(place.path, rest)
        inode, start, size = (int(word) for word in rest.split(" "))
        content = base64.b64decode("".join(line for line in record[1:] if line[0] != "="))
        if record[-1][0] == "=":
            start = int(record[-1][2:]) - len(content)
        return place, place.take(inode, start, size, content)


def _records(text: str) -> Iterator[list[str]]:
    record: list[str] = []
    for line in text.splitlines():
        if line[0] in "@!" and record:
            yield record
            record = []
        record.append(line)
    if record:
        yield record
