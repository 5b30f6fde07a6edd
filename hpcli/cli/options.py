"""The options that every command shares, as one frozen value."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked of every command. `command` is its name, as `job list`."""

    command: str
    cluster: str | None = None
    json: bool = False
    color: bool = True
    quiet: bool = False
    verbose: bool = False


_CLUSTER = click.option("-C", "--cluster", metavar="NAME", help="Which cluster [env: HPCLI_CLUSTER].")
_LONG_CLUSTER = click.option("--cluster", metavar="NAME", help="Which cluster [env: HPCLI_CLUSTER].")
_JSON = click.option("--json", is_flag=True, help="Print one JSON object, for programs.")
_NO_COLOR = click.option("--no-color", is_flag=True, help="No colours [env: NO_COLOR].")
_QUIET = click.option("-q", "--quiet", is_flag=True, help="Say nothing but results and errors.")
_VERBOSE = click.option("-v", "--verbose", is_flag=True, help="Say more.")


def common_options(command: _Command) -> _Command:
    """Add the shared options; the command gets them as its keyword argument `options`."""
    return _with(command, (_CLUSTER, _JSON, _NO_COLOR, _QUIET, _VERBOSE))


def long_common_options(command: _Command) -> _Command:
    """As `common_options`, for a command whose short options belong to another program."""
    return _with(command, (_LONG_CLUSTER, _JSON, _NO_COLOR))


def _with(command: _Command, options: tuple[Callable[[Any], Any], ...]) -> _Command:
    @functools.wraps(command)
    def wrapped(*args: Any, **given: Any) -> Any:
        names = ("cluster", "json", "no_color", "quiet", "verbose")
        shared = {name: given.pop(name) for name in names if name in given}
        return command(*args, options=_options(shared), **given)

    decorated: Any = wrapped
    for option in reversed(options):
        decorated = option(decorated)
    result: _Command = decorated
    return result


def _options(given: dict[str, Any]) -> Options:
    context = click.get_current_context()
    return Options(
        command=context.command_path.partition(" ")[2],
        cluster=given["cluster"] or context.find_root().params.get("cluster"),
        json=given["json"],
        color=not given["no_color"] and _color_wanted(),
        quiet=given.get("quiet", False),
        verbose=given.get("verbose", False),
    )


def _color_wanted() -> bool:
    """NO_COLOR and TERM=dumb, as no-color.org and terminfo(5) have it."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
