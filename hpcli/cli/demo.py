"""`hpcli demo`: a real cluster loses a node in the middle of a training run, and heals."""

import sys
from dataclasses import replace
from pathlib import Path

import click

from hpcli import app
from hpcli.cli.interrupt import end_like_ctrl_c, run_or_undo
from hpcli.cli.options import Options, common_options
from hpcli.cli.output import Output
from hpcli.cli.progress import StderrProgress
from hpcli.cli.story import Story
from hpcli.domain.timeline import steps_repeated
from hpcli.providers.local.leftover import clear_leftover, mark_kept
from hpcli.services.drill import Drill, Outcome, Stock, Training, victim
from hpcli.services.history import check_counts

ROOT = Path(__file__).resolve().parents[1]
SPEC = ROOT / "templates" / "clusters" / "local.yaml"
SCRIPT = ROOT / "templates" / "jobs" / "train.sbatch"
LONG = 6000
"""Steps of the run that stock Slurm has to bring back; it is cancelled once it steps again."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--fault",
    type=click.Choice(["broken", "transient"]),
    default="broken",
    show_default=True,
    help="A broken GPU needs another machine, a transient fault only a reboot.",
)
@click.option("--compare", is_flag=True, help="Then the same fault with stock Slurm; takes two to three minutes more.")
@click.option("--keep", is_flag=True, help="Leave the cluster up and say how to use it.")
@click.option("--name", default="demo", show_default=True, metavar="NAME", help="Name of the cluster.")
@common_options
def demo(options: Options, fault: str, compare: bool, keep: bool, name: str) -> None:
    """Watch a cluster lose a node in mid-training, and heal.

    Brings up a real Slurm of eight nodes on this machine, trains on four of them, breaks a GPU, and
    shows with measured times how the run goes on and the node comes back. Nothing needs root; Ctrl-C
    at any moment leaves nothing behind.

    \b
    Examples:
      hpcli demo
      hpcli demo --fault transient
      hpcli demo --compare --json
      hpcli demo --keep
    """
    end_like_ctrl_c()
    outcome = run_or_undo(_tell(options, name, fault == "broken", compare, keep))
    Output(options).result(_summary(outcome), "")
    if not outcome.bit_equal:
        click.get_current_context().exit(1)


async def _tell(options: Options, name: str, broken: bool, compare: bool, keep: bool) -> Outcome:
    progress = StderrProgress(options)
    story = Story(Output(options), progress)
    text = SPEC.read_text().replace("name: demo", f"name: {name}", 1)
    await clear_leftover(name, progress)
    work = app.build_text(text, SPEC.name, progress, owned=True)
    try:
        story.chapter("A real Slurm cluster on this machine")
        seconds = await app.bring_up(work, progress)
        outcome = await _heal(name, story, seconds, broken)
        if compare:
            outcome = replace(outcome, stock=await _compare(name, story))
        story.summary(outcome)
        if keep:
            mark_kept(name)
            story.kept(name, str(work.layout.slurm_conf))
        return outcome
    finally:
        if not (keep and sys.exc_info()[0] is None):
            # Before any talk: the terminal may be gone.
            work.undo()
        progress.done()


async def _heal(name: str, story: Story, seconds: float, broken: bool) -> Outcome:
    controller = app.controller(name)
    checks, nodes = await check_counts(controller)
    story.up(seconds, nodes, checks)
    drill = _drill(name, story, Training(SCRIPT, sys.executable))
    run = await drill.submit("run")
    job = await drill.until_training(run)
    node = victim(job)
    story.training(job, run, drill.training)
    story.fault(node, broken)
    fault_at, timeline = await drill.heal(run, node, broken=broken)
    story.finishing()
    weights = await drill.finish(run)
    return Outcome(
        node=node,
        fault_at=fault_at,
        timeline=timeline,
        steps_repeated=steps_repeated(run.progress()),
        checkpoint_interval_steps=drill.training.checkpoint_interval,
        bit_equal=weights == await drill.reference(),
    )


async def _compare(name: str, story: Story) -> Stock:
    _, stock = app.drills(name)
    drill = _drill(name, story, Training(SCRIPT, sys.executable, steps=LONG))
    story.stock()
    async with stock.in_force():
        return await drill.stock(await drill.submit("stock"))


def _drill(name: str, story: Story, training: Training) -> Drill:
    faults, _ = app.drills(name)
    folder = app.layout_of(name).home / "runs"
    folder.mkdir(exist_ok=True)
    return Drill(app.slurm_gateway(name), app.controller(name), faults, app.clock(), training, folder, story.moment)


def _summary(outcome: Outcome) -> dict[str, object]:
    data = outcome.as_dict()
    return data if outcome.stock else {key: value for key, value in data.items() if key != "stock"}
