"""`hpcli cluster plan`, `apply`, `drift` and `scale`: see what would change, change it, see what others changed."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click

from hpcli import app, app_plan
from hpcli.app_plan import Order
from hpcli.cli.confirm import confirm
from hpcli.cli.interrupt import end_like_ctrl_c, run_or_undo
from hpcli.cli.options import Options, common_options
from hpcli.cli.output import Output
from hpcli.cli.plan_text import applied_text, edit_lines, show_plan
from hpcli.cli.progress import StderrProgress
from hpcli.domain.change import Plan
from hpcli.errors import UsageFault
from hpcli.services.apply_plan import Applied
from hpcli.services.plan import OnDrift, refuse_drift

SPEC = "cluster.yaml"
CHANGES = 2
"""Exit code of plan --detailed-exitcode when there are changes."""

_file = click.option(
    "-f", "--file", "spec", metavar="FILE", help="The spec, or a cluster's name [default: cluster.yaml]."
)
_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_dry = click.option("--dry-run", is_flag=True, help="Show the plan and change nothing.")
_wait = click.option(
    "--wait", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="Wait so long for jobs in the way."
)
_on_drift = click.option(
    "--on-drift",
    type=click.Choice([strategy.value for strategy in OnDrift]),
    default=OnDrift.REFUSE.value,
    show_default=True,
    help="What becomes of hand edits.",
)


@click.command()
@_file
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), metavar="FILE", help="Keep the plan here.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit 2 when there are changes.")
@common_options
def plan(options: Options, spec: str | None, target: Path | None, detailed_exitcode: bool) -> None:
    """Show what apply would change, and what each change disturbs. Touches nothing.

    Disruption is none, reconfigure, restart daemons (running jobs live on), drain nodes (their jobs finish
    first) or rebuild nodes. Exits 0 whether there are changes or not, unless --detailed-exitcode is given.

    \b
    Examples:
      hpcli cluster plan
      hpcli cluster plan -f big.yaml -o change.json
    """
    wanted = app_plan.order(_path(spec))
    found = _run(app_plan.make_plan, options, wanted)
    if target:
        app_plan.write_plan(target, found, wanted)
    code = CHANGES if detailed_exitcode and found.changes else 0
    _show(options, found, code)
    click.get_current_context().exit(code)


@click.command()
@_file
@click.option("--plan", "saved", type=click.Path(path_type=Path), metavar="FILE", help="A plan that plan -o kept.")
@_yes
@_dry
@_wait
@_on_drift
@common_options
def apply(
    options: Options, spec: str | None, saved: Path | None, yes: bool, dry_run: bool, wait: float, on_drift: str
) -> None:
    """Change a cluster into what its spec says; bring it up if there is none.

    The new configuration is tried on a throw-away slurmctld first. If the real one does not come up with it,
    the old configuration is put back into service. An apply that was killed is finished by the next one.

    \b
    Examples:
      hpcli cluster apply
      hpcli cluster apply --plan change.json --yes
      hpcli cluster apply --wait 600 --on-drift overwrite
    """
    if spec and saved:
        raise UsageFault("--plan", "found --file beside it, expected one of the two", "the plan has its spec in it")
    strategy = OnDrift(on_drift)
    if saved:
        made, wanted = app_plan.read_plan(saved)
    else:
        wanted = app_plan.order(_path(spec))
        made = _run(app_plan.make_plan, options, wanted, strategy)
    _carry_out(options, wanted, made, yes=yes, dry_run=dry_run, wait=wait, strategy=strategy)


@click.command()
@click.argument("name", required=False)
@click.option("-f", "--file", "spec", metavar="FILE", help="The spec whose cluster is meant.")
@common_options
def drift(options: Options, name: str | None, spec: str | None) -> None:
    """List what was changed by hand on the cluster's machines, with file and line.

    Exits 1 when there is anything. NAME may be left out when HPCLI_CLUSTER is set, or when there is only one
    cluster.

    \b
    Example:
      hpcli cluster drift demo
    """
    chosen = app.load_spec(Path(spec)).name if spec else app.cluster_name(name or options.cluster)
    edits = _run(app_plan.drift_of, options, chosen)
    text = "\n".join(edit_lines(edits)) or f"cluster {chosen}: no hand edits"
    code = 1 if edits else 0
    Output(options, code=code).result([_plain(edit) for edit in edits], text)
    click.get_current_context().exit(code)


@click.command()
@click.argument("group")
@click.argument("count")
@_file
@_yes
@_dry
@_wait
@common_options
def scale(options: Options, group: str, count: str, spec: str | None, yes: bool, dry_run: bool, wait: float) -> None:
    """Give a compute group COUNT nodes, or +N more, in the file and in the cluster.

    Only that number is changed in the file, and put back if the apply is refused or fails. Running jobs are not
    touched; nodes that go must be free of them, or become so within --wait.

    \b
    Examples:
      hpcli cluster scale gpu 6
      hpcli cluster scale gpu +2 --yes
    """
    from hpcli.spec.edit import scale_group

    path = _path(spec)
    app_plan.order(path)
    # As bytes: its line ends stay what they are.
    before = path.read_bytes().decode("utf-8-sig")
    edit = scale_group(before, str(path), group, count)
    wanted = app_plan.order_of(edit.text.replace("\r\n", "\n"), path)
    made = _run(app_plan.make_plan, options, wanted)
    written = _file_as(path, before, edit.text)
    _carry_out(options, wanted, made, yes=yes, dry_run=dry_run, wait=wait, around=written)


def change_standing(options: Options, path: Path, *, yes: bool) -> None:
    """What `up` does to a cluster that stands and was built from another spec."""
    wanted = app_plan.order(path)
    made = _run(app_plan.make_plan, options, wanted)
    _carry_out(options, wanted, made, yes=yes, dry_run=False, wait=0.0)


def _carry_out(
    options: Options,
    wanted: Order,
    made: Plan,
    *,
    yes: bool,
    dry_run: bool,
    wait: float,
    strategy: OnDrift = OnDrift.REFUSE,
    around: AbstractContextManager[None] | None = None,
) -> None:
    """Ask, then do it, `around` it what must go with it."""
    if dry_run:
        _show(options, made)
        return
    if strategy is OnDrift.REFUSE:
        refuse_drift(made.edits)
    if made.changes and not yes:
        if not options.json:
            show_plan(Output(options), made)
        confirm(f"apply that to cluster {made.cluster} (at most: {made.disruption.words})", f"cluster {made.cluster}")
    end_like_ctrl_c()
    progress = StderrProgress(options)
    try:
        with around or nullcontext():
            done: Applied = run_or_undo(app_plan.carry_out(wanted, made, progress, strategy, wait))
    finally:
        progress.done()
    Output(options).result(done, applied_text(done))


def _show(options: Options, made: Plan, code: int = 0) -> None:
    output = Output(options, code=code)
    if options.json:
        output.result(_plain_plan(made), "")
    else:
        show_plan(output, made)


def _plain_plan(made: Plan) -> dict[str, object]:
    """With the disruptions in words: programs should not have to know our numbers."""
    changes = [{**_plain(change), "disruption": change.disruption.words} for change in made.changes]
    return {**_plain(made), "changes": changes, "disruption": made.disruption.words}


def _plain(value: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(value)


def _run(work: Any, options: Options, first: object, *more: object) -> Any:
    """Run one of app_plan's coroutines with a progress line."""
    progress = StderrProgress(options)
    try:
        return asyncio.run(work(first, progress, *more))
    finally:
        progress.done()


def _path(given: str | None) -> Path:
    return app.spec_path(given or SPEC)


@contextmanager
def _file_as(path: Path, before: str, text: str) -> Iterator[None]:
    """Let the file say something else; as it was again if that fails, unless somebody wrote to it since."""
    _replace(path, text)
    try:
        yield
    except BaseException:
        if path.read_bytes() == text.encode():
            _replace(path, before)
        raise


def _replace(path: Path, text: str) -> None:
    """In one step, through links, with the same mode."""
    real = path.resolve()
    fresh = real.with_name(f".{real.name}.new")
    try:
        fresh.write_bytes(text.encode())
        fresh.chmod(real.stat().st_mode & 0o7777)
        fresh.replace(real)
    except OSError as error:
        raise UsageFault(str(path), f"found {error.strerror}, expected to write it") from None
