"""`hpcli context`: names for clusters, here or behind a login node, and which one is meant."""

import asyncio
import os
from pathlib import Path

import click

from hpcli import app, app_clusters, app_context
from hpcli.cli.options import Options, common_options
from hpcli.cli.output import Column, Output
from hpcli.domain.context import Context, parse_login, unknown
from hpcli.errors import UsageFault
from hpcli.services import contexts as service
from hpcli.services.contexts import ContextRow, Found

_SETTINGS = {"help_option_names": ["-h", "--help"]}

COLUMNS = (
    Column[ContextRow]("", lambda row: "*" if row.current else "", style=lambda _: "green"),
    Column[ContextRow]("CONTEXT", lambda row: row.name, style=lambda _: "bold"),
    Column[ContextRow]("KIND", lambda row: row.kind),
    Column[ContextRow]("WHERE", lambda row: row.where, fold=True),
    Column[ContextRow]("SLURM_CONF", lambda row: row.slurm_conf, fold=True),
)


@click.group(context_settings=_SETTINGS)
def context() -> None:
    """Give clusters names, here or behind a login node, and choose one.

    Every command takes -C NAME. Without it counts HPCLI_CLUSTER, else the current context, else Slurm of this
    machine. Clusters that were brought up here are contexts by themselves.
    """


@context.command()
@click.argument("name")
@click.option("--ssh", "login", metavar="USER@HOST[:PORT]", help="Its login node; a name of ~/.ssh/config works too.")
@click.option("--slurm-conf", metavar="PATH", default="", help="Its slurm.conf there, if not where Slurm looks itself.")
@click.option("--identity", metavar="FILE", default="", help="Private key, if not ssh's own choice.")
@click.option("--known-hosts", metavar="FILE", default="", help="Another known_hosts file than yours.")
@click.option("--no-check", is_flag=True, help="Do not look whether it answers and has Slurm's programs.")
@common_options
def add(
    options: Options, name: str, login: str | None, slurm_conf: str, identity: str, known_hosts: str, no_check: bool
) -> None:
    """Add a name for a cluster behind a login node, or for a slurm.conf of this machine.

    The login node needs Slurm's programs and a shell; with hpcli there, recovery can be seen too. Its host key must
    be known: one that is not is shown, and never accepted for you.

    \b
    Examples:
      hpcli context add prod --ssh ada@login.example.org
      hpcli context add lab --ssh lab-login --slurm-conf /opt/slurm/etc/slurm.conf
      hpcli context add test --slurm-conf ~/test/slurm.conf
    """
    host, user, port = parse_login(login) if login else ("", "", 0)
    wanted = Context(
        name=name,
        host=host,
        user=user,
        port=port,
        identity=_absolute(identity),
        known_hosts=_absolute(known_hosts),
        slurm_conf=slurm_conf if host else _absolute(slurm_conf),
    )
    store = app_context.store()
    service.check_new(wanted, store.read(), _clusters())
    found = None if no_check else asyncio.run(service.look(wanted, app_context.transport_of(wanted)))
    service.keep(store, wanted, found)
    out = Output(options)
    data = {"name": name, "where": wanted.where, "slurm_conf": wanted.slurm_conf, "checked": not no_check}
    out.result({**data, **_told(found)}, f"context {name}: {wanted.where}{_in_words(found)}")
    out.note(f"use it: hpcli context use {name}")


@context.command()
@click.argument("name", required=False, default="")
@click.option("--none", "nothing", is_flag=True, help="Go back to Slurm of this machine.")
@common_options
def use(options: Options, name: str, nothing: bool) -> None:
    """Make a context the one that is meant where no other is named.

    \b
    Examples:
      hpcli context use prod
      hpcli context use --none
    """
    if bool(name) == nothing:
        raise UsageFault("context use", "expected either a name or --none", "see: hpcli context list")
    service.use(app_context.store(), name, _clusters())
    out = Output(options)
    out.result({"current": name}, f"current context: {name}" if name else "no current context: Slurm of this machine")
    _warn_of_variable(out, name)


@context.command("list")
@common_options
def list_contexts(options: Options) -> None:
    """List contexts, those that were added and the clusters that were brought up here; * is the one that is meant.

    \b
    Examples:
      hpcli context list
      hpcli context list --json | jq -r '.data[].name'
    """
    out = Output(options)
    out.rows(_rows(options), COLUMNS, empty="no contexts; try: hpcli context add NAME --ssh USER@HOST")
    _warn_of_variable(out, app_context.store().read().current)


@context.command()
@click.argument("name", required=False, default="")
@common_options
def show(options: Options, name: str) -> None:
    """Show one context, or the one that is meant.

    \b
    Examples:
      hpcli context show
      hpcli context show prod --json
    """
    wanted = name or app_context.meant(options.cluster)
    if not wanted:
        Output(options).result(None, "no context: Slurm of this machine")
        return
    row = next((row for row in _rows(options) if row.name == wanted), None)
    if row is None:
        raise unknown(wanted)
    lines = [("context", row.name), ("kind", row.kind), ("where", row.where), ("slurm.conf", row.slurm_conf)]
    lines += [("identity", row.identity), ("known_hosts", row.known_hosts), ("meant", "yes" if row.current else "")]
    Output(options).result(row, "\n".join(f"{key:12}{value}" for key, value in lines if value))


@context.command()
@click.argument("name")
@common_options
def remove(options: Options, name: str) -> None:
    """Forget a context. The cluster itself stays as it is.

    \b
    Example:
      hpcli context remove lab
    """
    was_current = service.remove(app_context.store(), name, _clusters())
    out = Output(options)
    out.result({"name": name, "removed": True}, f"context {name} is forgotten")
    if was_current:
        out.note("it was the current one: Slurm of this machine counts now")


def _rows(options: Options) -> tuple[ContextRow, ...]:
    contexts = app_context.store().read()
    built = app_clusters.clusters()
    wheres = {one.name: _login_of(one.name) for one in built if one.provider != "local"}
    return service.rows(contexts, built, wheres, app_context.meant(options.cluster, contexts=contexts))


def _login_of(name: str) -> str:
    from hpcli import app_remote

    record = app_remote.record_of(name)
    reach = record.reach
    return Context(name, record.login.address, reach.user, reach.port).where


def _clusters() -> tuple[str, ...]:
    return tuple(built.name for built in app_clusters.clusters())


def _warn_of_variable(out: Output, current: str) -> None:
    named = os.environ.get(app.CLUSTER_VARIABLE)
    if named and named != current:
        out.note(f"{app.CLUSTER_VARIABLE}={named} counts before the current context")


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


def _told(found: Found | None) -> dict[str, str]:
    return {"user": found.user, "slurm": found.slurm, "hpcli": found.hpcli} if found else {}


def _in_words(found: Found | None) -> str:
    if not found:
        return " (not looked at)"
    return f" as {found.user}, {found.slurm}, {found.hpcli or 'no hpcli'} there"
