"""`hpcli doctor`: what is right and what is wrong here."""

import asyncio
from collections.abc import Sequence

import click

from hpcli import app, app_context
from hpcli.cli.options import Options, common_options
from hpcli.cli.output import Column, Output
from hpcli.domain.diagnosis import Finding, Severity, ok
from hpcli.domain.diagnosis_agents import OneAgent
from hpcli.errors import NotFound
from hpcli.ports import SlurmGateway
from hpcli.services.doctor import Ground, examine
from hpcli.slurm.chosen import ChosenGateway

ALWAYS = ("Slurm", "slurmctld", "gateway")
STYLES = {"ok": "green", "note": "yellow", "WRONG": "red"}

COLUMNS = (
    Column[Finding](
        "", lambda row: row.severity.upper() if not row.fine else row.severity, style=lambda text: STYLES[text]
    ),
    Column[Finding]("WHAT", lambda row: row.subject, style=lambda _: "bold"),
    Column[Finding]("FOUND", lambda row: row.found, fold=True),
    Column[Finding]("COST", lambda row: row.cost, fold=True),
    Column[Finding]("FIX", lambda row: row.fix, fold=True),
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@common_options
def doctor(options: Options) -> None:
    """Say what is right and what is wrong with Slurm and hpcli as commands here see them.

    Slurm's version and daemons, the parts of its configuration that matter when a node fails, munge, clock, Prolog,
    permissions, disk, hpcli's controller and agents and their versions; each with what it costs and how to mend it.
    Changes nothing, needs no privilege, and says what it may not see. With -v also what is fine.

    Exits 1 when something is wrong; a note is no wrong.

    \b
    Examples:
      hpcli doctor
      hpcli doctor -v -C demo
      hpcli doctor --json
    """
    gateway = app.slurm_gateway(options.cluster)
    findings = asyncio.run(_findings(gateway, options.cluster))
    Output(options).rows(_shown(findings, options), COLUMNS)
    if not all(finding.fine for finding in findings):
        click.get_current_context().exit(1)


def _shown(findings: Sequence[Finding], options: Options) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if _is_shown(finding, options))


def _is_shown(finding: Finding, options: Options) -> bool:
    """Agents one by one are for programs: a person reads of them by hostlist."""
    if isinstance(finding, OneAgent):
        return options.json
    return options.verbose or finding.subject in ALWAYS or finding.severity is not Severity.OK


async def _findings(gateway: SlurmGateway, cluster: str | None) -> tuple[Finding, ...]:
    found = await examine(gateway, _ground(cluster))
    own = [await _gateway(gateway)] if isinstance(gateway, ChosenGateway) else []
    return (*found[:2], *own, *found[2:])


def _ground(cluster: str | None) -> Ground:
    """Where Slurm's commands run for this cluster, as `app.slurm_gateway` has it."""
    name = app_context.meant(cluster)
    controller = app.controller(name) if name or app.CLIENT.exists() else None
    if not name:
        return Ground(app.local_transport(), {}, controller)
    if context := app_context.find(name):
        return Ground(app_context.transport_of(context), _conf(context.slurm_conf), controller)
    if app.is_elsewhere(name):
        from hpcli import app_remote

        return Ground(app_remote.login(app_remote.record_of(name)), {}, controller)
    return Ground(app.local_transport(), _conf(_local_conf(name)), controller)


def _local_conf(name: str) -> str:
    """Of a cluster on this machine; "" for the one that this machine is part of."""
    try:
        return str(app.layout_of(name).slurm_conf)
    except NotFound:
        return ""


def _conf(path: str) -> dict[str, str]:
    return {"SLURM_CONF": path} if path else {}


async def _gateway(gateway: ChosenGateway) -> Finding:
    reason = await gateway.reason()
    told = f"{reason.gateway}: {reason.why}"
    if reason.tag and reason.gateway == "cli":
        return Finding("gateway", Severity.OK, told, fix=f"pyslurm {reason.tag} would fit: docs/pyslurm.md")
    return ok("gateway", told)
