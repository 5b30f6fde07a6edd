"""`hpcli cluster init`: a cluster.yaml to start from."""

import shlex
from pathlib import Path

import click

from hpcli.cli.options import Options, common_options
from hpcli.cli.output import Output
from hpcli.errors import UsageFault

SPEC = "cluster.yaml"
PRINT = "-"


@click.command()
@click.option(
    "--from",
    "provider",
    type=click.Choice(["local", "docker", "hosts"]),
    default="local",
    show_default=True,
    help="Where the machines come from: this one, containers, or existing hosts over SSH.",
)
@click.option("--name", metavar="NAME", help="Name of the cluster.")
@click.argument("file", default=SPEC)
@common_options
def init(options: Options, provider: str, name: str | None, file: str) -> None:
    """Write a commented cluster.yaml to start from.

    FILE is cluster.yaml if left out, and - prints it. A file that is there is never overwritten.

    \b
    Examples:
      hpcli cluster init
      hpcli cluster init --from hosts --name prod prod.yaml
      hpcli cluster init --from docker - | less
    """
    from hpcli.spec.start import name_in, starting_text

    text = starting_text(provider, name)
    shown = {"provider": provider, "name": name_in(text)}
    if file == PRINT:
        Output(options).result({**shown, "file": None, "text": text}, text.rstrip("\n"))
        return
    _write(Path(file), text)
    chosen = "" if file == SPEC else f" -f {shlex.quote(file)}"
    following = f"hpcli cluster {'validate' if provider == 'hosts' else 'up'}{chosen}"
    first = "put your machines' addresses in, then" if provider == "hosts" else "next"
    Output(options).result({**shown, "file": file, "next": following}, f"wrote {file}\n{first}: {following}")


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        hint = f"name another file, or remove it first; to check it: hpcli cluster validate -f {shlex.quote(str(path))}"
        raise UsageFault(str(path), "found a file, expected none: it is not overwritten", hint) from None
    except OSError as error:
        raise UsageFault(str(path), f"found {error.strerror}, expected a file that can be written") from None
