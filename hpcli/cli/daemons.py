"""`hpcli agent`, `controller` and `keeper`: the daemons, started by systemd, scripts or the local provider."""

import asyncio
import json
import logging
import sys
from pathlib import Path

import click


@click.command(hidden=True)
@click.option("--config", required=True, type=click.Path(path_type=Path), help="The agent's settings file.")
@click.option("--node", default="", help="Serve only this node of the settings.")
def agent(config: Path, node: str) -> None:
    """Watch this machine and report to the controller."""
    from hpcli.daemons.agent import serve
    from hpcli.domain.settings import read_agent_settings

    _log_to_stderr()
    asyncio.run(serve(read_agent_settings(config), node))


@click.command(hidden=True)
@click.option("--config", required=True, type=click.Path(path_type=Path), help="The controller's settings file.")
def controller(config: Path) -> None:
    """Decide and act for one cluster."""
    from hpcli.daemons.controller import serve
    from hpcli.domain.settings import read_controller_settings

    _log_to_stderr()
    asyncio.run(serve(read_controller_settings(config)))


@click.command(hidden=True)
@click.option("--config", required=True, type=click.Path(path_type=Path), help="The keeper's settings file.")
def keeper(config: Path) -> None:
    """Reboot and replace machines when the controller asks."""
    from hpcli import app_keeper
    from hpcli.daemons.keeper import serve
    from hpcli.domain.keeper_settings import read_keeper_settings

    _log_to_stderr()
    settings = read_keeper_settings(config)
    asyncio.run(serve(settings, app_keeper.power_of(settings)))


@click.command(hidden=True)
@click.argument("what")
def ask(what: str) -> None:
    """Put one question to this machine's controller: details as JSON on standard input, its reply as JSON."""
    from hpcli import app

    details = json.loads(sys.stdin.read() or "{}")
    click.echo(json.dumps(asyncio.run(app.ask_here(what, details))))


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
