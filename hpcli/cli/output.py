"""One result, three forms: a table on a terminal, tab-separated text in a pipe, the JSON envelope."""

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Generic, TypeVar

from hpcli.cli.options import Options
from hpcli.errors import Exit, HpcliError

if TYPE_CHECKING:
    from rich.console import Console

ENVELOPE_VERSION = 1
MAX_ROWS = 200

Row = TypeVar("Row")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column: its head, a row's text, and how the terminal shows it. `style` takes the text."""

    head: str
    text: Callable[[Row], str]
    right: bool = False
    fold: bool = False
    style: Callable[[str], str] | None = None


class Output:
    """Where a command's results and talk go. `code` is the exit code that it will end with."""

    def __init__(
        self, options: Options, stdout: IO[str] | None = None, stderr: IO[str] | None = None, *, code: int = Exit.OK
    ) -> None:
        self.options = options
        self.code = code
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr

    @property
    def on_terminal(self) -> bool:
        return self.stdout.isatty()

    def rows(self, rows: Sequence[Row], columns: Sequence[Column[Row]], empty: str = "nothing to show") -> None:
        """Show rows (dataclasses). A pipe gets no header line; a terminal at most 200 rows."""
        if self.options.json:
            self._envelope([to_plain(row) for row in rows])
        elif not rows:
            self.note(empty)
        elif self.on_terminal:
            self._table(rows, columns)
        else:
            lines = ("\t".join(clean(column.text(row)) for column in columns) for row in rows)
            self.stdout.writelines(f"{line}\n" for line in lines)

    def result(self, data: object, text: str) -> None:
        """Show one thing: `data` (a dataclass, or plain values) for programs, `text` for people."""
        if self.options.json:
            self._envelope(to_plain(data))
        elif text:
            self.stdout.write(f"{text}\n")

    def write(self, text: str) -> None:
        """Pass text through as it is; with --json it is talk, since stdout carries the envelope alone."""
        stream = self.stderr if self.options.json else self.stdout
        stream.write(text)
        stream.flush()

    def note(self, text: str) -> None:
        """Say something on stderr, unless -q."""
        if not self.options.quiet and not self.options.json:
            self.stderr.write(f"{text}\n")

    def detail(self, text: str) -> None:
        """Say something on stderr with -v only."""
        if self.options.verbose:
            self.stderr.write(f"{text}\n")

    def console(self) -> "Console":
        """A rich console on stdout that honours the options."""
        from rich.console import Console

        return Console(
            file=self.stdout,
            color_system="auto" if self.options.color else None,
            highlight=False,
            emoji=False,
            markup=False,
        )

    def _table(self, rows: Sequence[Row], columns: Sequence[Column[Row]]) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in columns:
            table.add_column(
                column.head,
                justify="right" if column.right else "left",
                no_wrap=not column.fold,
                overflow="fold" if column.fold else "ellipsis",
            )
        for row in rows[:MAX_ROWS]:
            table.add_row(*(Text(text, style=style) for text, style in (_cell(column, row) for column in columns)))
        console = self.console()
        console.print(table)
        if len(rows) > MAX_ROWS:
            console.print(f"… and {len(rows) - MAX_ROWS} more: use a pipe or --json to see all", style="dim")

    def _envelope(self, data: object) -> None:
        self.stdout.write(_envelope(self.options.command, self.code, data, []))


def error_envelope(error: HpcliError, command: str) -> str:
    """Give the envelope of a command that failed."""
    shown = {"code": error.code, "message": error.message, "hint": error.hint, "subject": error.subject}
    return _envelope(command, error.exit_code, None, [shown])


def clean(text: str) -> str:
    """Write control characters as escapes: a job's name must not move the cursor or forge a column."""
    return _CONTROL.sub(lambda found: _NAMED.get(found[0], f"\\x{ord(found[0]):02x}"), text)


def to_plain(value: object) -> object:
    """Turn dataclasses into what JSON knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value


def _envelope(command: str, code: int, data: object, errors: list[dict[str, str]]) -> str:
    status = "error" if errors else "ok"
    whole = {
        "version": ENVELOPE_VERSION,
        "command": command,
        "status": status,
        "exit_code": int(code),
        "data": data,
        "errors": errors,
    }
    return json.dumps(whole, default=_listed) + "\n"


def _listed(value: object) -> object:
    """Give sets an order that is the same every time."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)


def _cell(column: Column[Row], row: Row) -> tuple[str, str]:
    text = clean(column.text(row))
    return text, column.style(text) if column.style else ""
