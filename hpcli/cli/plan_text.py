"""A plan, hand edits and what an apply did, as people read them: colours on a terminal, plain text in a pipe."""

from collections.abc import Iterable, Iterator

from hpcli.cli.output import Output, clean
from hpcli.domain.change import Change, Disruption, HandEdit, Plan
from hpcli.services.apply_plan import Applied

NO_CHANGES = "no changes"
LONGEST = 60
MOST_SHOWN = 200

_SIGNS = {"+": "green", "-": "red", "~": "yellow"}
_STYLES = {
    Disruption.NONE: "dim",
    Disruption.RECONFIGURE: "cyan",
    Disruption.RESTART: "yellow",
    Disruption.DRAIN: "magenta",
    Disruption.REBUILD: "bold red",
}


def show_plan(output: Output, plan: Plan) -> None:
    """Write it whole; `--json` is the caller's."""
    if not output.on_terminal:
        output.result(None, "\n".join(_plain(plan)))
        return
    from rich.text import Text

    console = output.console()
    console.print(_heading(plan), style="bold")
    said = ""
    for change in plan.changes[:MOST_SHOWN]:
        sign = _sign(change)
        line = Text(f"  {sign} {clean(change.what)}", style=_SIGNS[sign])
        line.append(f"  {_values(change)}", style="default")
        line.append(f"  {change.disruption.words}", style=_STYLES[change.disruption])
        console.print(line, soft_wrap=True)
        if change.why and change.why != said:
            console.print(f"      {clean(change.why)}", style="dim", soft_wrap=True)
        said = change.why
    if len(plan.changes) > MOST_SHOWN:
        console.print(f"  … and {len(plan.changes) - MOST_SHOWN} more: a pipe or --json shows all", style="dim")
    for remark in _remarks(plan):
        console.print(remark, style="yellow", soft_wrap=True)


def edit_lines(edits: Iterable[HandEdit]) -> Iterator[str]:
    """One line each: place, what was expected, what was found."""
    for edit in edits:
        where = f"{edit.host}:{edit.path}" + (f":{edit.line}" if edit.line else "")
        yield f"{where}: found {_short(edit.found) or 'nothing'}, expected {_short(edit.expected) or 'nothing'}"


def applied_text(applied: Applied) -> str:
    lines = [f"  {taken.seconds:7.2f} s  {taken.step}" for taken in applied.steps]
    lines += [f"  warning: {warning}" for warning in applied.warnings]
    if not applied.changes:
        return "\n".join([f"cluster {applied.cluster}: {NO_CHANGES}", *lines])
    count = len(applied.changes)
    return "\n".join([f"cluster {applied.cluster}: {_counted(count)} made in {applied.seconds:.1f} s", *lines])


def _plain(plan: Plan) -> Iterator[str]:
    """Tab-separated, one change a line; remarks go below."""
    if not plan.changes:
        yield _heading(plan)
    for change in plan.changes:
        row = (_sign(change), change.what, change.before, change.after, change.disruption.words, change.hosts)
        yield "\t".join(clean(text) for text in (*row, change.why))
    yield from _remarks(plan)


def _remarks(plan: Plan) -> Iterator[str]:
    for note in plan.notes:
        yield f"note: {note}"
    if plan.edits:
        yield f"{len(plan.edits)} hand edits; apply refuses without --on-drift keep or overwrite:"
        yield from (f"  {line}" for line in edit_lines(plan.edits))


def _heading(plan: Plan) -> str:
    if not plan.changes:
        return f"cluster {plan.cluster}: {NO_CHANGES}"
    return f"cluster {plan.cluster}: {_counted(len(plan.changes))}, at most: {plan.disruption.words}"


def _counted(count: int) -> str:
    return f"{count} change{'s' if count > 1 else ''}"


def _sign(change: Change) -> str:
    if not change.before and change.after:
        return "+"
    return "~" if change.after else "-"


def _values(change: Change) -> str:
    if change.before and change.after:
        return f"{_short(change.before)} -> {_short(change.after)}"
    return _short(change.before or change.after)


def _short(text: str) -> str:
    shown = clean(text)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"
