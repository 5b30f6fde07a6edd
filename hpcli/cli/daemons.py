"""`hpcli agent` and `hpcli controller`: the daemons, started by systemd or by the local provider."""

import asyncio
import logging
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


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
