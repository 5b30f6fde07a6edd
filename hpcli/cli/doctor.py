"""`hpcli doctor`: what is right and what is wrong here."""

import asyncio

import click

from hpcli import app
from hpcli.cli.options import Options, common_options
from hpcli.cli.output import Column, Output
from hpcli.ports import SlurmGateway
from hpcli.services.doctor import Finding, examine
from hpcli.slurm.chosen import ChosenGateway

COLUMNS = (
    Column[Finding](
        "", lambda row: "ok" if row.fine else "WRONG", style=lambda text: "green" if text == "ok" else "red"
    ),
    Column[Finding]("WHAT", lambda row: row.subject, style=lambda _: "bold"),
    Column[Finding]("FOUND", lambda row: row.found, fold=True),
    Column[Finding]("NEXT STEP", lambda row: row.fix, fold=True),
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@common_options
def doctor(options: Options) -> None:
    """Say what is right and what is wrong with Slurm as commands here see it.

    Whether it answers, in which version, and by which gateway hpcli asks it: the command line's, or pyslurm where
    that is installed and fits; else which pyslurm would fit. Exits 1 when something is wrong.

    \b
    Examples:
      hpcli doctor
      hpcli doctor -C demo --json
    """
    gateway = app.slurm_gateway(options.cluster)
    findings = asyncio.run(_findings(gateway))
    Output(options).rows(findings, COLUMNS)
    if not all(finding.fine for finding in findings):
        click.get_current_context().exit(1)


async def _findings(gateway: SlurmGateway) -> tuple[Finding, ...]:
    return (*await examine(gateway), *([await _gateway(gateway)] if isinstance(gateway, ChosenGateway) else []))


async def _gateway(gateway: ChosenGateway) -> Finding:
    reason = await gateway.reason()
    fitting = f"pyslurm {reason.tag} would fit: docs/pyslurm.md" if reason.tag and reason.gateway == "cli" else ""
    return Finding("gateway", True, f"{reason.gateway}: {reason.why}", fitting)
