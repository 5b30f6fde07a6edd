"""`hpcli cluster upgrade`: another hpcli on a cluster that stands, or a patch release of its Slurm."""

import asyncio
import re
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from hpcli import app, app_upgrade
from hpcli.cli.confirm import confirm
from hpcli.cli.interrupt import end_like_ctrl_c, run_or_undo
from hpcli.cli.options import Options, common_options
from hpcli.cli.output import Output
from hpcli.cli.progress import StderrProgress
from hpcli.domain.names import fold
from hpcli.domain.rollout import Rollout
from hpcli.errors import UsageFault
from hpcli.services.upgrade import Outlook, Turn
from hpcli.services.upgrade_slurm import SlurmDone, SlurmOutlook

NEWEST = "newest"
MOST_TURNS = 20
_VERSION = re.compile(r"\d\d\.\d\d(\.\d+\S*)?")

Result = TypeVar("Result")


@click.command()
@click.argument("name", required=False)
@click.option("-f", "--file", "spec", metavar="FILE", help="The spec whose cluster is meant.")
@click.option(
    "--slurm",
    "slurm",
    is_flag=False,
    flag_value=NEWEST,
    metavar="[VERSION]",
    help="Upgrade Slurm instead, within its series [default: the newest patch release to be had].",
)
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Nodes at a time [default: a tenth, 1 to 100].")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, in which order, and change nothing.")
@common_options
def upgrade(
    options: Options,
    name: str | None,
    spec: str | None,
    slurm: str | None,
    batch: int | None,
    yes: bool,
    dry_run: bool,
) -> None:
    """Put the hpcli that runs here on a cluster that stands; jobs do not notice.

    The controller first, then one node, then the others in batches, login nodes last; each must be heard of again
    before the next. A controller or first node that does not come up gets its old hpcli back, and the rest is left
    alone. Only hpcli changes: what cluster.yaml says by now is for `apply`. After a failure the same command goes
    on from there. With --slurm, Slurm itself: slurmdbd, slurmctld, slurmd, clients, the database dumped first.

    \b
    Examples:
      hpcli cluster upgrade --dry-run
      hpcli cluster upgrade prod --batch 20
      hpcli cluster upgrade prod --slurm 22.05.9
    """
    if slurm and slurm != NEWEST and not _VERSION.match(slurm):
        # `--slurm prod`: the option may stand alone, and prod is no version.
        if name:
            raise UsageFault("--slurm", f"found {slurm!r}, expected a version, such as 22.05.9")
        name, slurm = slurm, NEWEST
    chosen = app.load_spec(Path(spec)).name if spec else app.cluster_name(name or options.cluster)
    if slurm:
        _slurm(options, chosen, "" if slurm == NEWEST else slurm, batch or 0, yes=yes, dry_run=dry_run)
    else:
        _hpcli(options, chosen, batch or 0, yes=yes, dry_run=dry_run)


def _hpcli(options: Options, name: str, size: int, *, yes: bool, dry_run: bool) -> None:
    progress = StderrProgress(options)
    found = _look(app_upgrade.look(name, progress, size), progress)
    if dry_run or found.nothing:
        Output(options).result(_plain(name, found, ()), "\n".join(_outlook_lines(name, found)))
        return
    if not yes:
        Output(options).note("\n".join(_outlook_lines(name, found)))
        confirm(f"put {app_upgrade.this_hpcli()} on cluster {name}", f"cluster {name}")
    turns = _carry_out(app_upgrade.carry_out(name, progress, size), progress)
    count = sum(len(turn.hosts) for turn in turns)
    text = f"cluster {name}: {app_upgrade.this_hpcli()} on {count} machines in {_seconds(turns):.1f} s"
    Output(options).result(_plain(name, found, tuple(turns)), "\n".join([text, *_turn_lines(turns)]))


def _slurm(options: Options, name: str, wanted: str, size: int, *, yes: bool, dry_run: bool) -> None:
    progress = StderrProgress(options)
    found = _look(app_upgrade.look_at_slurm(name, progress, wanted, size), progress)
    lines = "\n".join(_slurm_lines(name, found))
    if dry_run or found.nothing:
        Output(options).result(_plain_slurm(name, found, SlurmDone()), lines)
        return
    if not yes:
        Output(options).note(lines)
        confirm(f"upgrade Slurm of cluster {name} to {found.target}", f"cluster {name}")
    # What was shown is what is done, should a mirror have moved on meanwhile.
    found, done = _carry_out(app_upgrade.carry_out_slurm(name, progress, found.target, size), progress)
    text = f"cluster {name}: Slurm {found.target} on {fold(found.order.hosts)} in {_seconds(done.turns):.1f} s"
    kept = [f"  kept on {found.controller}: {path}" for path in (done.dump, done.state) if path]
    Output(options).result(_plain_slurm(name, found, done), "\n".join([text, *_turn_lines(done.turns), *kept]))


def _look(work: Coroutine[Any, Any, Result], progress: StderrProgress) -> Result:
    try:
        return asyncio.run(work)
    finally:
        progress.done()


def _carry_out(work: Coroutine[Any, Any, Result], progress: StderrProgress) -> Result:
    end_like_ctrl_c()
    try:
        return run_or_undo(work)
    finally:
        progress.done()


def _outlook_lines(name: str, found: Outlook) -> Iterator[str]:
    release = app_upgrade.this_hpcli()
    if found.nothing:
        yield f"cluster {name}: all machines have {release}"
        return
    now = f"now hpcli {found.heard.version}" if found.heard.version else "its controller does not answer now"
    yield f"cluster {name}: {release} on {len(found.order.hosts)} machines; {now}"
    yield from _order_lines(found.order)
    others = [change for change in found.changes if change.what != "file release"]
    yield from (f"  with it: {change.what} on {change.hosts or 'all'}" for change in others)
    yield from (f"  out of touch: {host}: {fault.message}" for host, fault in found.absent.items())


def _slurm_lines(name: str, found: SlurmOutlook) -> Iterator[str]:
    if found.nothing:
        yield f"cluster {name}: Slurm {found.target} is on all machines, there is nothing newer"
        return
    by_version: dict[str, list[str]] = {}
    for host, version in found.installed.items():
        by_version.setdefault(version, []).append(host)
    now = "; ".join(f"{version} on {fold(hosts)}" for version, hosts in sorted(by_version.items()))
    yield f"cluster {name}: Slurm {found.target}; now {now}"
    if found.order.controller:
        accounting = "dump the database, " if found.accounting else ""
        daemons = "slurmdbd, slurmctld" if found.accounting else "slurmctld"
        yield f"  first: {accounting}copy slurmctld's state; then {daemons}"
    yield from _order_lines(found.order)
    yield from (f"  out of touch: {host}: {fault.message}" for host, fault in found.absent.items())


def _order_lines(order: Rollout) -> Iterator[str]:
    named = [("controller", order.controller), ("first node", order.canary)]
    yield from (f"  {what:<13}{host}" for what, host in named if host)
    for number, batch in enumerate(order.batches[:MOST_TURNS], 1):
        yield f"  {f'batch {number}':<13}{fold(batch)}"
    if len(order.batches) > MOST_TURNS:
        yield f"  … and {len(order.batches) - MOST_TURNS} batches more"
    rest = (("login", order.login), ("at the end", order.late))
    yield from (f"  {what:<13}{fold(hosts)}" for what, hosts in rest if hosts)


def _turn_lines(turns: Sequence[Turn]) -> Iterator[str]:
    yield from (f"  {turn.seconds:7.1f} s  {fold(turn.hosts)}" for turn in turns[:MOST_TURNS])
    if len(turns) > MOST_TURNS:
        yield f"  … and {len(turns) - MOST_TURNS} turns more"


def _seconds(turns: Sequence[Turn]) -> float:
    return sum(turn.seconds for turn in turns)


def _plain(name: str, found: Outlook, turns: tuple[Turn, ...]) -> Mapping[str, object]:
    release = app_upgrade.this_hpcli()
    return {
        "name": name,
        "version": release.version,
        "release": release.id,
        "before": found.heard.version or None,
        **_plain_order(found.order),
        "changes": [{"what": change.what, "hosts": change.hosts} for change in found.changes],
        "out_of_touch": {host: fault.message for host, fault in found.absent.items()},
        "turns": _plain_turns(turns),
    }


def _plain_slurm(name: str, found: SlurmOutlook, done: SlurmDone) -> Mapping[str, object]:
    return {
        "name": name,
        "slurm": found.target,
        "before": dict(found.installed),
        **_plain_order(found.order),
        "out_of_touch": {host: fault.message for host, fault in found.absent.items()},
        "turns": _plain_turns(done.turns),
        "dump": done.dump or None,
        "state": done.state or None,
    }


def _plain_turns(turns: Sequence[Turn]) -> list[Mapping[str, object]]:
    return [{"hosts": fold(turn.hosts), "seconds": turn.seconds} for turn in turns]


def _plain_order(order: Rollout) -> Mapping[str, object]:
    return {
        "controller": order.controller or None,
        "canary": order.canary or None,
        "batches": [fold(batch) for batch in order.batches],
        "login": fold(order.login),
        "late": fold(order.late),
    }
