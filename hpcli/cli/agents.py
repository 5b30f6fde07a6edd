"""`hpcli cluster install-agents` and `uninstall`: hpcli onto a cluster that somebody else built, and off again."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from hpcli import app, app_adopt, app_kit, app_plan
from hpcli.app_adopt import Leaving
from hpcli.app_plan import Order
from hpcli.cli.confirm import confirm
from hpcli.cli.interrupt import end_like_ctrl_c, run_or_undo
from hpcli.cli.options import Options, common_options
from hpcli.cli.output import Output
from hpcli.cli.plan_text import applied_text, show_plan
from hpcli.cli.progress import StderrProgress
from hpcli.domain.adoption_lines import Line
from hpcli.domain.blueprint import Blueprint, Role
from hpcli.domain.change import Plan
from hpcli.domain.names import fold
from hpcli.services.plan import refuse_drift

SPEC = "cluster.yaml"
KIT = "hpcli-{name}.tar.gz"
TOOLS = ("pdsh", "ansible")

_file = click.option(
    "-f", "--file", "spec", default=SPEC, show_default=True, metavar="FILE", help="The spec, or a cluster's name."
)
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command("install-agents")
@_file
@_yes
@click.option("--dry-run", is_flag=True, help="Show machines, files and lines; change nothing.")
@click.option("--skip-unreachable", is_flag=True, help="Leave out machines that do not let us in; run it again later.")
@click.option("--print", "tool", type=click.Choice(TOOLS), help="Write a kit, and print how a tool of yours uses it.")
@click.option("-o", "--output", "kit", type=click.Path(path_type=Path), metavar="FILE", help="The kit's file.")
@common_options
def install_agents(
    options: Options, spec: str, yes: bool, dry_run: bool, skip_unreachable: bool, tool: str | None, kit: Path | None
) -> None:
    """Put agent, Prolog gate and controller on the machines of an adopted cluster.

    Over SSH, as root or with sudo. Nothing of Slurm's is changed and no daemon of it restarts; the lines that the
    site has to add to its slurm.conf are printed, with those that are in force already. Safe to repeat: it puts
    right what is missing, and new nodes get their agents. With --print nothing is touched: a kit is written that a
    tool of the site's own takes to the machines.

    \b
    Examples:
      hpcli cluster install-agents --dry-run
      hpcli cluster install-agents --yes --skip-unreachable
      hpcli cluster install-agents --print ansible -o hpcli-site.tar.gz
    """
    wanted = app_adopt.order(app.spec_path(spec))
    if tool:
        target = kit or Path(KIT.format(name=wanted.spec.name))
        _print_kit(options, wanted, tool, target)
        return
    if skip_unreachable:
        wanted = _run(app_adopt.without_unreachable, options, wanted)
    made: Plan = _run(app_plan.make_plan, options, wanted)
    if dry_run:
        _show(options, wanted, made, _run(app_adopt.goal, options, wanted))
        return
    refuse_drift(made.edits)
    if made.changes and not yes:
        if not options.json:
            show_plan(Output(options), made)
        confirm(f"put hpcli on the machines of cluster {made.cluster}", f"cluster {made.cluster}")
    _carry_out(options, wanted, made)


@click.command()
@click.argument("name", required=False)
@click.option("-f", "--file", "spec", metavar="FILE", help="The spec, for a cluster that was installed from a kit.")
@_yes
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and what is in the way.")
@click.option("--print", "tool", type=click.Choice(TOOLS), help="Print what a tool of yours does instead.")
@common_options
def uninstall(options: Options, name: str | None, spec: str | None, yes: bool, dry_run: bool, tool: str | None) -> None:
    """Take hpcli off the machines of an adopted cluster: services, files, state and logs.

    Slurm stays as it is. Refused while Slurm's configuration still names hpcli's Prolog or reboot program: without
    them every job would fail. Machines that do not answer are named, and done by the next run.

    \b
    Examples:
      hpcli cluster uninstall site --dry-run
      hpcli cluster uninstall site --yes
      hpcli cluster uninstall -f cluster.yaml --print pdsh
    """
    if tool:
        _print_removal(options, app_adopt.order(app.spec_path(spec or name or SPEC)), tool)
        return
    chosen = app.load_spec(app.spec_path(spec)).name if spec else app.cluster_name(name or options.cluster)
    found: Leaving = asyncio.run(app_adopt.leaving(chosen))
    what = f"hpcli on {app_adopt.in_words(found.machines)} of cluster {chosen}"
    if dry_run:
        text = "\n".join((f"would remove {what}", *_left(found)))
        Output(options).result({**_plain(found), "removed": False}, text)
        return
    app_adopt.refuse_in_use(found)
    if not yes:
        confirm(f"remove {what}", f"cluster {chosen}")
    _run(app_adopt.uninstall, options, chosen)
    text = "\n".join((f"hpcli is off {app_adopt.in_words(found.machines)}", *_left(found)))
    Output(options).result({**_plain(found), "removed": True}, text)


def _carry_out(options: Options, wanted: Order, made: Plan) -> None:
    end_like_ctrl_c()
    progress = StderrProgress(options)
    try:
        done = run_or_undo(app_plan.carry_out(wanted, made, progress))
    finally:
        progress.done()
    lines = _run(app_adopt.lines_of, options, wanted)
    data = {**_plain(done), "lines": [_plain(line) for line in lines], "left_out": sorted(wanted.left_out)}
    Output(options).result(data, "\n".join((applied_text(done), *_left_out(wanted), *_in_force(wanted, lines))))


def _show(options: Options, wanted: Order, made: Plan, goal: Blueprint) -> None:
    lines = _run(app_adopt.lines_of, options, wanted)
    output = Output(options)
    if options.json:
        files = {host: [file.path for file in own] for host, own in goal.files.items()}
        told = {"changes": [_plain(change) for change in made.changes], "files": files}
        output.result({**told, "lines": [_plain(line) for line in lines], "left_out": sorted(wanted.left_out)}, "")
        return
    show_plan(output, made)
    output.result(None, "\n".join((*_files(goal), *_left_out(wanted), *_in_force(wanted, lines))))


def _files(goal: Blueprint) -> Iterator[str]:
    """Files by role: all machines of one have the same."""
    for role in (Role.CONTROLLER, Role.LOGIN, Role.COMPUTE):
        hosts = [place.name for place in goal.places if place.role is role]
        if hosts:
            paths = (file.path for file in goal.files[hosts[0]])
            yield f"files on {fold(hosts)}: {' '.join(paths)} /opt/hpcli /usr/local/bin/hpcli"


def _left_out(wanted: Order) -> Iterator[str]:
    if wanted.left_out:
        yield f"left out, since they do not let us in: {fold(wanted.left_out)}; run the same again when they do"


def _in_force(wanted: Order, lines: Sequence[Line]) -> Iterator[str]:
    missing = [line for line in lines if line.missing]
    where = f"{wanted.spec.adopted.slurm_conf} on {wanted.spec.controller.name}"
    if missing:
        yield f"put these lines into {where}, then: scontrol reconfigure"
        yield from (f"  {line.text}" for line in missing)
        yield from (f"  # {line.key}: {line.note}" for line in missing if line.note)
    for line in lines:
        if not line.missing:
            yield f"in force: {line.text}" + (f" ({line.note})" if line.note else "")
    if missing:
        yield f"then see that they took effect: hpcli doctor -C {wanted.spec.name}"


def _left(found: Leaving) -> Iterator[str]:
    if found.in_the_way:
        yield f"first take these out of slurm.conf, then scontrol reconfigure: {'; '.join(found.in_the_way)}"
    if found.drained:
        yield f"still drained by hpcli, and so until you resume them: {fold(found.drained)}"


def _print_kit(options: Options, wanted: Order, tool: str, target: Path) -> None:
    hosts = tuple(name for name in wanted.spec.place_names if name not in wanted.left_out)
    _run(app_kit.write, options, wanted, target)
    commands = _installation(tool, target, wanted, hosts)
    told = [f"wrote {target} ({target.stat().st_size // 1024} KiB) for {fold(hosts)}; then:", *commands]
    lines = _run(app_kit.lines, options, wanted)
    data = {"kit": str(target), "commands": commands, "lines": [_plain(line) for line in lines]}
    Output(options).result(data, "\n".join((*told, *_in_force(wanted, lines))))


def _print_removal(options: Options, wanted: Order, tool: str) -> None:
    lines = _run(app_kit.lines, options, wanted)
    command = "/opt/hpcli/lifecycle/uninstall"
    user, sudo = _login(wanted)
    hosts = fold(wanted.spec.place_names)
    commands = {
        "pdsh": [f"pdsh -l {user} -w '{hosts}' '{sudo}{command}'"],
        "ansible": ["- hosts: all", "  become: true", "  tasks:", f"    - command: {command}"],
    }[tool]
    first = [
        f"# first take these out of slurm.conf, then scontrol reconfigure: {line.text}" for line in lines if line.ours
    ]
    Output(options).result({"commands": commands, "in_the_way": len(first)}, "\n".join((*first, *commands)))


def _installation(tool: str, kit: Path, wanted: Order, hosts: Sequence[str]) -> list[str]:
    name, nodes, (user, sudo) = kit.name, fold(hosts), _login(wanted)
    if tool == "pdsh":
        unpacked = _unpacked(f"~/{name}", sudo)
        return [f"pdcp -l {user} -w '{nodes}' {kit} {name}", f"pdsh -l {user} -w '{nodes}' '{unpacked}'"]
    return [
        "- hosts: all",
        "  become: true",
        "  tasks:",
        f"    - copy: {{src: {kit}, dest: /root/{name}, mode: '0600'}}",
        f"    - shell: '{_unpacked(f'/root/{name}')}'",
    ]


def _unpacked(kit: str, sudo: str = "") -> str:
    """For a shell there; nothing of it stays behind."""
    install = f'd=$(mktemp -d) && tar -xzf {kit} -C "$d" && {sudo}"$d"/hpcli-bundle/install;'
    return f'{install} code=$?; {sudo}rm -rf "$d" {kit}; exit $code'


def _login(wanted: Order) -> tuple[str, str]:
    """Who logs in, and what makes root of them."""
    user = wanted.spec.hosts.user or "root"
    return user, "" if user == "root" else "sudo "


def _plain(value: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(value)


def _run(work: Any, options: Options, first: object, *more: object) -> Any:
    """Run one coroutine with a progress line."""
    progress = StderrProgress(options)
    try:
        return asyncio.run(work(first, *more, progress))
    finally:
        progress.done()
