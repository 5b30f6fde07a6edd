"""`hpcli recovery`: what is being repaired and why; reset the breaker; pause."""

import asyncio
import time
from dataclasses import asdict

import click

from hpcli import app
from hpcli.cli.options import Options, common_options
from hpcli.cli.output import Column, Output
from hpcli.services.history import RepairRow, Step, clock_time, history, repairs

OUTCOMES = {"returned": "green", "under way": "yellow"}

REPAIR_COLUMNS = (
    Column[RepairRow]("REPAIR", lambda row: row.repair),
    Column[RepairRow]("NODE", lambda row: row.node, style=lambda _: "bold"),
    Column[RepairRow]("CAUSE", lambda row: row.cause),
    Column[RepairRow]("OPENED", lambda row: clock_time(row.opened_at)),
    Column[RepairRow]("TOOK", lambda row: f"{row.took:.1f} s", right=True),
    Column[RepairRow]("OUTCOME", lambda row: row.outcome, style=lambda text: OUTCOMES.get(text, "red")),
    Column[RepairRow]("STEPS", lambda row: row.steps, fold=True),
)

STEP_COLUMNS = (
    Column[Step]("REPAIR", lambda row: row.repair),
    Column[Step]("NODE", lambda row: row.nodes, style=lambda _: "bold"),
    Column[Step]("AT", lambda row: f"+{row.at:.2f} s", right=True),
    Column[Step]("WHAT", lambda row: row.what),
    Column[Step]("WHY", lambda row: row.why, fold=True),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def recovery() -> None:
    """See what is being repaired and why; reset the breaker."""


@recovery.command()
@common_options
def status(options: Options) -> None:
    """List repairs, and say whether the breaker is open.

    \b
    Example:
      hpcli recovery status
    """
    rows, breaker, paused = asyncio.run(repairs(app.controller(options.cluster), time.time()))
    output = Output(options)
    if options.json:
        output.result({"repairs": [asdict(row) for row in rows], "breaker_open": breaker, "paused": paused}, "")
        return
    output.rows(rows, REPAIR_COLUMNS, empty="no repairs yet")
    if breaker:
        output.note(f"breaker open: {breaker}\nnothing new is repaired until: hpcli recovery reset")
    if paused:
        output.note(f"paused: {paused}\nno step is taken until: hpcli recovery resume")


@recovery.command("history")
@click.argument("node", required=False, default="")
@common_options
def show_history(options: Options, node: str) -> None:
    """Tell every repair step by step: what was seen, decided and done, and when.

    \b
    Examples:
      hpcli recovery history
      hpcli recovery history c3
    """
    rows = asyncio.run(history(app.controller(options.cluster), node))
    Output(options).rows(rows, STEP_COLUMNS, empty="no repairs yet")


@recovery.command()
@common_options
def reset(options: Options) -> None:
    """Close the breaker again, after you have looked at why so many nodes failed.

    \b
    Example:
      hpcli recovery reset
    """
    was_open = asyncio.run(app.controller(options.cluster).ask("reset"))
    Output(options).result({"was_open": was_open}, "breaker reset" if was_open else "the breaker was not open")


@recovery.command()
@click.option("--reason", default="paused by hand", help="Shown to whoever asks.")
@common_options
def pause(options: Options, reason: str) -> None:
    """Take no step at all until resumed; what runs already runs on.

    \b
    Example:
      hpcli recovery pause --reason "switch maintenance"
    """
    asyncio.run(app.controller(options.cluster).ask("pause", reason=reason))
    Output(options).result({"paused": reason}, f"recovery paused: {reason}")


@recovery.command()
@common_options
def resume(options: Options) -> None:
    """Go on after a pause.

    \b
    Example:
      hpcli recovery resume
    """
    asyncio.run(app.controller(options.cluster).ask("resume"))
    Output(options).result({"paused": ""}, "recovery resumed")
