"""Ask before what destroys or disrupts."""

import sys

import click

from hpcli.errors import Unsafe


def confirm(what: str, subject: str) -> None:
    """Ask on a terminal; elsewhere raise `Unsafe`, as there is nobody to ask. A "no" ends the command."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Unsafe(subject, f"asked to {what}; found no terminal to ask on, expected --yes", "--dry-run shows it")
    click.confirm(what[:1].upper() + what[1:] + "?", abort=True, err=True)
