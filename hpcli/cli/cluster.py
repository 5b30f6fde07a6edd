"""`hpcli cluster`: bring clusters up and down; check and render cluster.yaml."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcli import app, app_clusters
from hpcli.cli.adopt import adopt
from hpcli.cli.agents import install_agents, uninstall
from hpcli.cli.confirm import confirm
from hpcli.cli.init import init
from hpcli.cli.interrupt import end_like_ctrl_c, run_or_undo
from hpcli.cli.options import Options, common_options
from hpcli.cli.output import Column, Output
from hpcli.cli.plan import apply, change_standing, drift, plan, scale
from hpcli.cli.progress import StderrProgress
from hpcli.cli.upgrade import upgrade
from hpcli.domain.blueprint import ADOPTED
from hpcli.domain.cluster import Built
from hpcli.errors import UsageFault
from hpcli.services.clusters import Status

if TYPE_CHECKING:
    from hpcli.providers.local.build import LocalBuild
    from hpcli.spec.model import Spec

SPEC = "cluster.yaml"
MOST_HOSTS = 20

LIST_COLUMNS = (
    Column[Built]("CLUSTER", lambda row: row.name, style=lambda _: "bold"),
    Column[Built]("STATE", lambda row: row.state, style=lambda text: "green" if text == "up" else "red"),
    Column[Built]("PROVIDER", lambda row: row.provider),
    Column[Built]("NODES", lambda row: str(len(row.nodes)), right=True),
    Column[Built]("SLURM", lambda row: row.slurm_version),
    Column[Built]("FOLDER", lambda row: row.folder, fold=True),
)


def spec_option(command: Any) -> Any:
    return click.option(
        "-f", "--file", "spec", default=SPEC, show_default=True, metavar="FILE", help="The spec, or a cluster's name."
    )(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cluster() -> None:
    """Bring clusters up and down; check and render cluster.yaml."""


for command in (init, plan, apply, drift, scale, upgrade, adopt, install_agents, uninstall):
    cluster.add_command(command)


@cluster.command()
@spec_option
@click.option("--yes", is_flag=True, help="Do not ask before a cluster that stands is changed.")
@common_options
def up(options: Options, spec: str, yes: bool) -> None:
    """Bring up the cluster of a spec, or revive one that is half dead.

    Returns when every node is idle and every agent has reported, and says how long each machine took. One that
    stands and was built from another spec is changed as `apply` would; one that is as the spec says is left
    alone. To revive a local one ends the jobs that are left on it. An `up` that failed on docker or hosts goes
    on from there. Provider local needs no root, and its daemons listen on the loopback interface.

    \b
    Examples:
      hpcli cluster up
      hpcli cluster up -f big.yaml
    """
    end_like_ctrl_c()
    progress = StderrProgress(options)
    path = app.spec_path(spec)
    wanted = app.load_spec(path)
    if wanted.provider == ADOPTED:
        found = "found provider adopted, expected one that hpcli builds"
        raise UsageFault(str(path), found, f"hpcli cluster install-agents -f {spec}")
    if app_clusters.stands(wanted.name, path.read_text(encoding="utf-8-sig")):
        if wanted.provider == "docker":
            _revive(wanted, path, progress)
        change_standing(options, path, yes=yes)
        return
    hosts: Mapping[str, float] = {}
    if wanted.provider == "local":
        seconds = _up_here(path, progress)
    else:
        seconds, hosts = _up_elsewhere(wanted, path, progress)
    name, count = wanted.name, len(wanted.nodes)
    what = "is up already" if seconds is None else f"is up: {count} nodes idle after {seconds:.1f} s"
    data = {"name": name, "nodes": count, "seconds": round(seconds or 0.0, 2), "already_up": seconds is None}
    told = {"hosts": {host: round(took, 2) for host, took in hosts.items()}} if hosts else {}
    lines = (f"cluster {name} {what}", *_host_lines(hosts), f"use it: export HPCLI_CLUSTER={name}")
    Output(options).result({**data, **told}, "\n".join(lines))


def _revive(wanted: "Spec", path: Path, progress: StderrProgress) -> None:
    """What is off or gone of the containers is the first thing to mend: a plan asks them all."""
    from hpcli import app_remote

    try:
        asyncio.run(app_remote.revive(wanted, path.read_text(), progress, app.clock()))
    finally:
        progress.done()


def _host_lines(hosts: Mapping[str, float]) -> Iterator[str]:
    """How long each machine's set-up took, the slowest first."""
    slowest = sorted(hosts.items(), key=lambda row: -row[1])
    yield from (f"  {took:7.1f} s  {host}" for host, took in slowest[:MOST_HOSTS])
    if len(slowest) > MOST_HOSTS:
        yield f"  … and {len(slowest) - MOST_HOSTS} more machines, none slower"


def _up_here(path: Path, progress: StderrProgress) -> float | None:
    return run_or_undo(_up(app.build(path, progress), progress))


def _up_elsewhere(wanted: "Spec", path: Path, progress: StderrProgress) -> tuple[float, Mapping[str, float]]:
    """Seconds in all, and by machine. What was made stays when this fails: the same command goes on from there."""
    from hpcli import app_remote

    work = app_remote.build(wanted, path.read_text(), progress, app.clock())
    try:
        return asyncio.run(app_remote.bring_up(work, app.clock())), work.machines.seconds
    finally:
        progress.done()


async def _up(build: "LocalBuild", progress: StderrProgress) -> float | None:
    """Seconds that it took; None when that very cluster is up and answers."""
    try:
        return None if await app.already_up(build) else await app.bring_up(build, progress)
    finally:
        progress.done()


@cluster.command()
@click.argument("name", required=False)
@common_options
def status(options: Options, name: str | None) -> None:
    """Say what of a cluster is up: daemons, nodes, agents, repairs.

    Exits 1 when something is not, and while the breaker is open. NAME may be left out when HPCLI_CLUSTER is
    set, or when there is only one cluster.

    \b
    Examples:
      hpcli cluster status demo
      hpcli cluster status demo --json | jq .data.dead
    """
    found = asyncio.run(app_clusters.cluster_status(app.cluster_name(name or options.cluster)))
    code = 0 if found.healthy else 1
    Output(options, code=code).result(found, _status_text(found))
    click.get_current_context().exit(code)


def _status_text(found: Status) -> str:
    state = "up" if found.healthy else "not whole"
    lines = [
        f"cluster {found.name} ({found.provider}, Slurm {found.slurm_version}): {state}",
        f"  folder      {found.folder}",
        f"  SLURM_CONF  {found.slurm_conf}",
        f"  nodes       {found.idle_or_busy} of {found.node_count} in service" + _bracket(found.out_of_service),
        f"  agents      {found.reporting} of {found.node_count} reporting" + _bracket(found.silent),
        f"  daemons     {found.daemons} running" + _bracket(", ".join(found.dead), "dead: "),
        f"  repairs     {found.open_repairs} under way" + (f"; breaker open: {found.breaker}" if found.breaker else ""),
    ]
    lines += [f"  fault       {fault}" for fault in found.faults]
    return "\n".join([*lines, *(f"  error       {error}" for error in found.errors)])


def _bracket(text: str, label: str = "not: ") -> str:
    return f" ({label}{text})" if text else ""


@cluster.command()
@click.argument("name", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed.")
@common_options
def down(options: Options, name: str | None, yes: bool, dry_run: bool) -> None:
    """End a cluster's jobs and daemons and remove its files.

    NAME may be left out when HPCLI_CLUSTER is set, or when there is only one cluster.

    \b
    Examples:
      hpcli cluster down demo
      hpcli cluster down demo --yes
    """
    chosen = app.cluster_name(name or options.cluster)
    if app_clusters.is_adopted(chosen):
        found = "found one that somebody else built, expected one that hpcli built"
        raise UsageFault(f"cluster {chosen}", found, f"take hpcli off it: hpcli cluster uninstall {chosen}")
    what = app_clusters.what_down_removes(chosen)
    if dry_run:
        Output(options).result({"name": chosen, "removed": False}, f"would {what}")
        return
    if not yes:
        confirm(what, f"cluster {chosen}")
    progress = StderrProgress(options)
    try:
        asyncio.run(app_clusters.take_down(chosen, progress))
    finally:
        progress.done()
    Output(options).result({"name": chosen, "removed": True}, f"cluster {chosen} is gone")


@cluster.command("list")
@common_options
def list_clusters(options: Options) -> None:
    """List the clusters that were brought up here.

    \b
    Example:
      hpcli cluster list --json
    """
    Output(options).rows(app_clusters.clusters(), LIST_COLUMNS, empty="no clusters; try: hpcli cluster up")


@cluster.command()
@spec_option
@common_options
def validate(options: Options, spec: str) -> None:
    """Check a spec; report every problem at once.

    \b
    Example:
      hpcli cluster validate -f big.yaml
    """
    found = app.load_spec(app.spec_path(spec))
    data = {"name": found.name, "nodes": len(found.nodes), "partitions": len(found.partition_specs)}
    Output(options).result(data, f"{spec}: cluster {found.name}, {len(found.nodes)} nodes, no problems")


@cluster.command()
@spec_option
@click.option("-o", "--output", "folder", metavar="DIR", type=click.Path(path_type=Path), help="Write the files here.")
@common_options
def render(options: Options, spec: str, folder: Path | None) -> None:
    """Show the files that `up` would write.

    On this machine: slurm.conf, gres.conf, cgroup.conf, and slurmdbd.conf with accounting, with the ports, host
    names and paths of a cluster brought up now. Of docker and hosts: every file on one machine of each role, as
    MACHINE:PATH; nothing is asked of them, and no secret is shown.

    \b
    Examples:
      hpcli cluster render | less
      hpcli cluster render -o conf/
    """
    files = asyncio.run(app.render_spec(app.spec_path(spec)))
    if folder:
        for name, text in files.items():
            target = folder / name.replace(":/", "/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        Output(options).result(
            {"written": [str(folder / name.replace(":/", "/")) for name in files]},
            f"wrote {len(files)} files to {folder}: {', '.join(files)}",
        )
        return
    Output(options).result(files, "\n".join(f"# ---- {name}\n{text}" for name, text in files.items()))


@cluster.command()
def schema() -> None:
    """Print the JSON Schema of cluster.yaml, for editors.

    \b
    Example:
      hpcli cluster schema > cluster.schema.json
    """
    import json

    from hpcli.spec.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
