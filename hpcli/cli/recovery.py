"""`hpcli recovery`: what is being repaired and why; reset the breaker; pause."""

import asyncio
import time

import click

from hpcli import app
from hpcli.cli.options import Options, common_options
from hpcli.cli.output import Column, Output
from hpcli.services.history import RepairRow, Step, clock_time, history, recovery_status

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
    """See what is being repaired and why; reset the breaker; pause.

    Anybody may look; reset, pause and resume need root, SlurmUser or a Slurm operator.
    """


@recovery.command()
@common_options
def status(options: Options) -> None:
    """List repairs, the faults that stand, and say whether the breaker is open.

    \b
    Example:
      hpcli recovery status
    """
    found = asyncio.run(recovery_status(app.controller(options.cluster), time.time()))
    output = Output(options)
    if options.json:
        output.result(found, "")
        return
    output.rows(found.repairs, REPAIR_COLUMNS, empty="no repairs yet")
    for fault in found.faults:
        output.note(f"fault stands on {fault}")
    if found.breaker_open:
        output.note(f"breaker open: {found.breaker_open}\nnothing new is repaired until: hpcli recovery reset")
    if found.paused:
        output.note(f"paused: {found.paused}\nno step is taken until: hpcli recovery resume")


@recovery.command("history")
@click.argument("node", required=False, default="")
@common_options
def show_history(options: Options, node: str) -> None:
    """Tell every repair step by step, or those of one node.

    A word alone is what is about to be done, "done" that it was taken, "failed" why not. AT is seconds
    since the repair was opened.

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
    """Close the breaker, so that repairs begin again.

    First look at why so many nodes failed: if more of them than the limit still are faulty, it opens
    again at once.

    \b
    Example:
      hpcli recovery reset
    """
    was_open = asyncio.run(app.controller(options.cluster).ask("reset"))
    Output(options).result({"was_open": was_open}, "breaker reset" if was_open else "the breaker was not open")


@recovery.command()
@click.option("--reason", default="paused by hand", help="Shown by recovery status.")
@common_options
def pause(options: Options, reason: str) -> None:
    """Begin no repair and go on with none until resumed.

    A reboot or replacement that runs ends by itself; jobs that were requeued are still set going.

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
