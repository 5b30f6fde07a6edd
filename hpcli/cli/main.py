"""The `hpcli` command: a table of commands, and the one boundary where every error ends."""

import os
import sys
from collections.abc import Sequence

import click

from hpcli.cli.lazy import Lazy, LazyGroup
from hpcli.cli.output import error_envelope
from hpcli.errors import Exit, HpcliError, UsageFault
from hpcli.version import __version__

_SETTINGS = {"help_option_names": ["-h", "--help"]}

SUBMIT = Lazy("hpcli.cli.jobs:submit", "Submit a script or a command; any sbatch option passes through.")
QUEUE = Lazy("hpcli.cli.jobs:queue", "List your jobs, or everybody's.")
NODES = Lazy("hpcli.cli.nodes:nodes", "List nodes, those in the same state on one line.")
LOGS = Lazy("hpcli.cli.jobs:logs", "Show or follow what a job wrote.")
CANCEL = Lazy("hpcli.cli.jobs:cancel", "Cancel jobs.")

JOB = {"submit": SUBMIT, "list": QUEUE, "logs": LOGS, "cancel": CANCEL}
NODE = {"list": NODES}

job = LazyGroup("job", table=JOB, help="Submit, list, read and cancel jobs.", context_settings=_SETTINGS)
node = LazyGroup("node", table=NODE, help="See the nodes of the cluster.", context_settings=_SETTINGS)

COMMANDS = {
    "submit": SUBMIT,
    "queue": QUEUE,
    "nodes": NODES,
    "logs": LOGS,
    "cancel": CANCEL,
    "cluster": Lazy("hpcli.cli.cluster:cluster", "Bring clusters up and down; check and render cluster.yaml."),
    "job": Lazy("hpcli.cli.main:job", "Submit, list, read and cancel jobs."),
    "node": Lazy("hpcli.cli.main:node", "See the nodes of the cluster."),
    "context": Lazy("hpcli.cli.context:context", "Give clusters names, here or behind a login node; choose one."),
    "recovery": Lazy("hpcli.cli.recovery:recovery", "See what is being repaired and why; reset the breaker; pause."),
    "doctor": Lazy("hpcli.cli.doctor:doctor", "Say what is right and what is wrong here."),
    "bundle": Lazy("hpcli.cli.bundle:bundle", "Make one archive for machines without a network."),
    "demo": Lazy("hpcli.cli.demo:demo", "Watch a cluster lose a node in mid-training, and heal."),
    "agent": Lazy("hpcli.cli.daemons:agent", "Watch nodes and report.", hidden=True),
    "controller": Lazy("hpcli.cli.daemons:controller", "Decide and repair.", hidden=True),
    "keeper": Lazy("hpcli.cli.daemons:keeper", "Reboot and replace machines.", hidden=True),
    "ask": Lazy("hpcli.cli.daemons:ask", "Ask this machine's controller.", hidden=True),
}


@click.group("hpcli", cls=LazyGroup, table=COMMANDS, context_settings=_SETTINGS)
@click.version_option(__version__, message="hpcli %(version)s")
@click.option("-C", "--cluster", envvar="HPCLI_CLUSTER", metavar="NAME", help="Which cluster [env: HPCLI_CLUSTER].")
def root(cluster: str | None) -> None:
    """Slurm clusters that heal themselves: build, watch, repair, resume.

    \b
    Try:
      hpcli demo                   lose a node in mid-training and watch
      hpcli submit -N 2 train.sh   submit a job
      hpcli queue                  see how it is doing
    """


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit code. Only faults of our own end in a traceback."""
    try:
        code = root.main(args=list(args), prog_name="hpcli", standalone_mode=False)
        # Here, where a reader that has gone away is no error; at the interpreter's end it would be one.
        sys.stdout.flush()
    except HpcliError as error:
        return _report(error, args)
    except click.UsageError as error:
        return _report(_usage_fault(error), args)
    except click.ClickException as error:
        return _report(HpcliError("hpcli", error.format_message()), args)
    except (click.Abort, KeyboardInterrupt):
        return _report(_Interrupted("hpcli", "interrupted"), args)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.ERROR
    return code if isinstance(code, int) else Exit.OK


class _Interrupted(HpcliError):
    exit_code = Exit.INTERRUPTED
    code = "interrupted"


def _usage_fault(error: click.UsageError) -> UsageFault:
    command = error.ctx.command_path if error.ctx else "hpcli"
    message = error.format_message().rstrip(".")
    return UsageFault(command, message[:1].lower() + message[1:], f"see: {command} --help")


def _report(error: HpcliError, args: Sequence[str]) -> int:
    """Say what went wrong: for people on stderr, for programs as the envelope on stdout."""
    if "--json" in _before_double_dash(args):
        sys.stdout.write(error_envelope(error, command_name(args)))
    else:
        hint = f"hint: {error.hint}\n" if error.hint else ""
        sys.stderr.write(f"error: {error.subject}: {error.message}\n{hint}")
    return error.exit_code


def command_name(args: Sequence[str]) -> str:
    """Give the words that name the command, as `job list`; "" when there are none."""
    words: list[str] = []
    rest = iter(_before_double_dash(args))
    for arg in rest:
        if arg in ("-C", "--cluster"):
            next(rest, None)
        elif not arg.startswith("-"):
            words.append(arg)
    named = words[:1] if not words or words[0] not in ("cluster", "context", "job", "node", "recovery") else words[:2]
    return " ".join(named)


def _before_double_dash(args: Sequence[str]) -> Sequence[str]:
    return args[: args.index("--")] if "--" in args else args
