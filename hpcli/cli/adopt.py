"""`hpcli cluster adopt`: read a Slurm cluster that somebody else built into a cluster.yaml."""

import asyncio
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcli import app, app_context
from hpcli.cli.options import Options, common_options
from hpcli.cli.output import Output
from hpcli.domain.adoption_text import Reach
from hpcli.domain.context import Context, parse_login
from hpcli.domain.names import fold
from hpcli.errors import NotFound, UsageFault
from hpcli.ports import Transport

if TYPE_CHECKING:
    from hpcli.services.adopt import Adoption

SPEC = "cluster.yaml"


@click.command()
@click.argument("name", required=False, default="")
@click.option(
    "--ssh", "login", metavar="USER@HOST[:PORT]", help="A machine with Slurm's programs; else this one, or -C."
)
@click.option("--identity", metavar="FILE", default="", help="Private key, if not ssh's own choice.")
@click.option("--known-hosts", metavar="FILE", default="", help="Another known_hosts file than yours.")
@click.option(
    "--user", default="", metavar="NAME", help="Who logs in to the machines, root or with sudo; else as --ssh."
)
@click.option("--slurm-conf", metavar="PATH", default="", help="Its slurm.conf there, if not where Slurm looks itself.")
@click.option("--programs", metavar="DIR", default="", help="Folder of Slurm's programs there, if not on PATH.")
@click.option("--mode", type=click.Choice(["observe", "act"]), help="What recovery may do; observe unless said.")
@click.option("-o", "--output", "file", default=SPEC, show_default=True, metavar="FILE", help="Where the spec goes.")
@click.option("--update", is_flag=True, help="Bring that file up to date; what you wrote yourself in it stays.")
@click.option("--dry-run", is_flag=True, help="Print the spec, write nothing.")
@common_options
def adopt(
    options: Options,
    name: str,
    login: str | None,
    identity: str,
    known_hosts: str,
    user: str,
    slurm_conf: str,
    programs: str,
    mode: str | None,
    file: str,
    update: bool,
    dry_run: bool,
) -> None:
    """Read a Slurm cluster that somebody else built into a cluster.yaml.

    Asks slurmctld for its configuration and its nodes, as any user may, and changes nothing there. NAME is what hpcli
    calls the cluster. With --update sections health, recovery, login and packages stay as they are written.

    \b
    Examples:
      hpcli cluster adopt --ssh ada@login.example.org
      hpcli cluster adopt prod -C prod-login --user root --dry-run
      hpcli cluster adopt --update
    """
    from hpcli.services.adopt import Wanted
    from hpcli.services.adopt import adopt as read

    if update and mode:
        raise UsageFault(
            "--mode", "found it with --update, which keeps recovery", f"write it into {file}: recovery: mode:"
        )
    where = _where(options, login, identity, known_hosts)
    old = _old(Path(file), update=update, dry_run=dry_run)
    reach = Reach(user or where.user, where.port, where.identity, where.known_hosts)
    wanted = Wanted(name, mode or "", reach, where.host, slurm_conf or where.slurm_conf, programs, old, file)
    done = asyncio.run(read(_transport(where), wanted))
    if not dry_run:
        _write(Path(file), done.text, update=update)
    _tell(options, done, "" if dry_run else file, update=update)


def _tell(options: Options, done: "Adoption", file: str, *, update: bool) -> None:
    told = "\n".join(_account(done, file, update=update)) if file else done.text
    Output(options).result(_plain(done, file), told.rstrip("\n"))


def _where(options: Options, login: str | None, identity: str, known_hosts: str) -> Context:
    """The machine that is asked. Raises `UsageFault`, `NotFound`."""
    if options.cluster and login:
        raise UsageFault("cluster adopt", "found both --ssh and -C, expected one of them", "leave -C out")
    if options.cluster:
        context = app_context.find(options.cluster)
        if context is None:
            found = "found no context of that name, expected one that was added"
            raise NotFound(f"context {options.cluster}", found, "hpcli context add NAME --ssh USER@HOST")
        return context
    if not login:
        if identity or known_hosts:
            raise UsageFault("cluster adopt", "found an option of SSH without --ssh", "add --ssh USER@HOST")
        return Context("here")
    host, user, port = parse_login(login)
    return Context("there", host, user, port, _absolute(identity), _absolute(known_hosts))


def _transport(where: Context) -> Transport:
    return app_context.transport_of(where) if where.host else app.local_transport()


def _old(path: Path, *, update: bool, dry_run: bool) -> str:
    """The text of the file that is brought up to date. Raises `UsageFault` rather than overwrite one unasked."""
    if not update:
        if path.exists() and not dry_run:
            hint = "to bring it up to date: --update; to look first: --dry-run; to write another: -o FILE"
            raise UsageFault(str(path), "found a file, expected none: it is not overwritten", hint)
        return ""
    from hpcli.services.adopt import require_old

    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFound(
            str(path), "found no such file, expected a spec to bring up to date", "leave --update out"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageFault(str(path), f"found {error}, expected a file that can be read") from None
    require_old(text, str(path))
    return text


def _write(path: Path, text: str, *, update: bool) -> None:
    """A file that came meanwhile is not overwritten; one that is brought up to date is whole at every moment."""
    try:
        if not update:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            return
        beside = path.with_name(f".{path.name}.new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except FileExistsError:
        raise UsageFault(str(path), "found a file, expected none: it is not overwritten", "see --update") from None
    except OSError as error:
        raise UsageFault(str(path), f"found {error.strerror}, expected a file that can be written") from None


def _account(done: "Adoption", file: str, *, update: bool) -> Iterator[str]:
    found, spec = done.found, done.spec
    yield f"{'brought up to date' if update else 'wrote'} {file}: cluster {spec.name}, Slurm {found.release}"
    yield f"  controller  {found.controller}"
    if spec.login_names:
        yield f"  login       {fold(spec.login_names)}"
    for group, names in zip(spec.compute, spec.group_nodes, strict=True):
        gpus = f", {group.gpus.count} GPUs ({group.gpus.type})" if group.gpus else ""
        yield f"  {group.name:11} {fold(names)}: {len(names)} nodes, {group.cpus} CPUs, {group.memory} MiB{gpus}"
    if done.added:
        yield f"  new         {fold(done.added)}"
    if done.removed:
        yield f"  gone        {fold(done.removed)}"
    yield from (f"  left out    {one.what}: {one.why}" for one in done.left_out)
    yield from _lines(done)
    yield f"recovery: {spec.recovery.mode}" + (", decides and does nothing" if spec.recovery.mode == "observe" else "")
    chosen = "" if file == SPEC else f" -f {shlex.quote(file)}"
    yield f"next: hpcli cluster install-agents{chosen} --dry-run"


def _lines(done: "Adoption") -> Iterator[str]:
    missing = [line for line in done.lines if line.missing]
    if missing:
        yield f"once the agents are in, {done.found.slurm_conf} needs:"
        yield from (f"  {line.text}" for line in missing)


def _plain(done: "Adoption", file: str) -> dict[str, Any]:
    groups = {group.name: list(names) for group, names in zip(done.spec.compute, done.spec.group_nodes, strict=True)}
    return {
        "name": done.spec.name,
        "file": file or None,
        "slurm": done.found.release,
        "controller": done.found.controller,
        "login": list(done.spec.login_names),
        "groups": groups,
        "added": list(done.added),
        "removed": list(done.removed),
        "left_out": [asdict(one) for one in done.left_out],
        "lines": [asdict(line) for line in done.lines],
        "mode": done.spec.recovery.mode,
        "text": done.text,
    }


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""
