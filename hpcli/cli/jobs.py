"""`submit`, `queue`, `logs`, `cancel`: the daily verbs on jobs."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from hpcli.app import clock, is_elsewhere, slurm_and_files, slurm_gateway, user_on
from hpcli.cli.confirm import confirm
from hpcli.cli.options import Options, common_options, long_common_options
from hpcli.cli.output import Column, Output
from hpcli.domain.job import Job
from hpcli.errors import NotFound, UsageFault
from hpcli.ports import SlurmGateway
from hpcli.services import logs as log_service
from hpcli.services.jobs import QueueRow, find_active, raise_if_failed, wait_outcome
from hpcli.services.jobs import queue as list_queue
from hpcli.services.logs import Follower, LogText, read_logs
from hpcli.services.submission import Submission, parse_submission
from hpcli.services.waiting import wait_for_end, without_wait

STATE_STYLES = {
    "RUNNING": "green",
    "COMPLETING": "cyan",
    "CONFIGURING": "cyan",
    "PENDING": "yellow",
    "SUSPENDED": "magenta",
    "REQUEUE_HOLD": "red",
    "SPECIAL_EXIT": "red",
}

QUEUE_COLUMNS = (
    Column[QueueRow]("JOB", lambda row: row.job, style=lambda _: "bold"),
    Column[QueueRow]("NAME", lambda row: row.name),
    Column[QueueRow]("USER", lambda row: row.user),
    Column[QueueRow]("PARTITION", lambda row: row.partition),
    Column[QueueRow]("STATE", lambda row: row.state, style=lambda text: STATE_STYLES.get(text, "")),
    Column[QueueRow]("TIME", lambda row: row.time_used, right=True),
    Column[QueueRow]("LIMIT", lambda row: row.time_limit, right=True),
    Column[QueueRow]("NODES", lambda row: str(row.node_count), right=True),
    Column[QueueRow]("RESTARTS", lambda row: str(row.restarts), right=True),
    Column[QueueRow]("WHERE", lambda row: row.where, fold=True),
)

_SETTINGS = {"help_option_names": ["-h", "--help"]}
_OWN_FLAGS = ("--json", "--no-color", "--help", "-h")
_OWN_VALUES = ("--cluster",)


class SubmitCommand(click.Command):
    """Takes its own options out of sbatch's before click sees them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        submission = parse_submission(args, _OWN_FLAGS, _OWN_VALUES)
        rest = super().parse_args(ctx, list(submission.own))
        ctx.params["submission"] = submission
        return rest


@click.command(cls=SubmitCommand, options_metavar="[SBATCH OPTIONS]", context_settings=_SETTINGS)
@long_common_options
def submit(options: Options, submission: Submission) -> None:
    """Submit a batch script, or a command after --, and print the job's id.

    Every option of sbatch works as it does there and is passed on untouched. Ours have long names only, because the
    short ones are sbatch's: -C is its --constraint, -q its --qos. Variables of an outer job (SLURM_*, SBATCH_*,
    PMIX_*) do not leak in; SLURM_CONF does. Without a script, one is read from standard input. To a cluster behind
    a login node the script travels; files that it names must be there.

    \b
    Examples:
      hpcli submit train.sh --epochs 10
      hpcli submit -N 4 --gpus-per-node=8 -t 12:00:00 train.sh
      hpcli submit -N 2 -- srun python train.py
      hpcli submit --cluster NAME -a 0-9 sweep.sh
    """
    gateway, out = slurm_gateway(options.cluster), Output(options)
    words, script = submission.sbatch, _script_from_stdin() if submission.reads_stdin else ""
    if is_elsewhere(options.cluster):
        if submission.script:
            words, script = submission.carried(), _script_text(submission.script[0])
        asyncio.run(_submit_there(out, gateway, without_wait(submission, words), script, waits=submission.waits))
        return
    job_id = asyncio.run(gateway.submit(words, script=script))
    out.result({"job": job_id}, job_id)
    if submission.waits:
        asyncio.run(wait_outcome(gateway, job_id))


async def _submit_there(out: Output, gateway: SlurmGateway, words: Sequence[str], script: str, *, waits: bool) -> None:
    """The job's id is out at once, so that it is known whatever becomes of the connection."""
    job_id = await gateway.submit(words, script=script)
    if not (waits and out.options.json):
        out.result({"job": job_id}, job_id)
        out.stdout.flush()
    if waits:
        await wait_for_end(gateway, clock(), job_id, out.note)
        if out.options.json:
            out.result({"job": job_id}, job_id)


@click.command(context_settings=_SETTINGS)
@click.option("-a", "--all", "everybody", is_flag=True, help="Jobs of all users.")
@click.option("-u", "--user", metavar="NAME", help="Jobs of this user.")
@common_options
def queue(options: Options, everybody: bool, user: str | None) -> None:
    """List jobs that run or wait; yours, unless --all or --user says otherwise.

    Waiting tasks of an array that share their reason are one line. In a pipe: the same columns separated by tabs,
    without a header.

    \b
    Examples:
      hpcli queue
      hpcli queue --all
      hpcli queue --json | jq '.data[] | select(.state == "PENDING")'
    """
    whose = "" if everybody else user or user_on(options.cluster)
    rows = asyncio.run(list_queue(slurm_gateway(options.cluster), whose))
    Output(options).rows(rows, QUEUE_COLUMNS, empty=f"no jobs{f' of {whose}; all: hpcli queue --all' if whose else ''}")


@click.command(context_settings=_SETTINGS)
@click.argument("job", metavar="JOBID")
@click.option("-F", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=100, show_default=True, help="Last lines; 0: all.")
@common_options
def logs(options: Options, job: str, follow: bool, lines: int) -> None:
    """Show the end of what a job wrote to its output files, or follow it.

    Following goes on through requeues and ends with the job; the exit code is 7 when the job failed. Behind a login
    node the files are read there, and a connection that breaks is taken up where it was.

    \b
    Examples:
      hpcli logs 123
      hpcli logs -F 123_4
      hpcli logs -n 0 123 > all.txt
    """
    out = Output(options)
    gateway, files = slurm_and_files(options.cluster)
    if not follow:
        _show_logs(out, asyncio.run(read_logs(gateway, job, lines, files)))
        return
    follower = Follower(gateway, clock(), job, _writer(out), out.note, files)
    ended = asyncio.run(follower.follow(lines))
    for one in ended:
        raise_if_failed(one)
    out.result([{"job": one.label, "state": one.state} for one in ended], "")
    out.note(f"job {job} ended {ended[0].state}")


@click.command(context_settings=_SETTINGS)
@click.argument("jobs", metavar="JOBIDS...", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Show what would be cancelled, and stop.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@common_options
def cancel(options: Options, jobs: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Cancel jobs, whole arrays (123) or tasks of one (123_4).

    More than one job is asked about on a terminal and needs --yes elsewhere.

    \b
    Examples:
      hpcli cancel 123
      hpcli cancel --dry-run 123 124_2
      hpcli cancel --yes 123 124
    """
    out = Output(options)
    gateway = slurm_gateway(options.cluster)
    found = asyncio.run(find_active(gateway, jobs))
    names = " ".join(job.label for job in found)
    if not found:
        out.note(f"{' '.join(jobs)}: ended already")
    elif not dry_run:
        if len(found) > 1 and not yes:
            confirm(f"cancel {len(found)} jobs: {names}", subject=f"jobs {' '.join(jobs)}")
        asyncio.run(gateway.cancel(_targets(jobs, found)))
    said = f"{'would cancel' if dry_run else 'cancelled'} {names}" if found else ""
    out.result([_cancelled(job, dry_run) for job in found], said)


def _targets(asked: tuple[str, ...], found: tuple[Job, ...]) -> list[str]:
    """Name what was asked for, leaving out jobs that have ended already."""
    active = {name for job in found for name in (job.label, job.label.partition("_")[0])}
    return [label for label in dict.fromkeys(asked) if label in active]


def _cancelled(job: Job, dry_run: bool) -> dict[str, object]:
    return {"job": job.label, "name": job.name, "user": job.user, "state": job.state, "cancelled": not dry_run}


def _script_text(path: str) -> str:
    """A script that goes to another machine. Raises `NotFound`, `UsageFault`."""
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        raise NotFound(f"script {path}", "found no such file, expected a batch script") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageFault(f"script {path}", f"found {error}, expected a readable batch script") from None


def _script_from_stdin() -> str:
    if sys.stdin.isatty():
        raise click.UsageError("found no script and no command, expected one of them", click.get_current_context())
    return sys.stdin.read()


def _show_logs(out: Output, texts: tuple[LogText, ...]) -> None:
    if out.options.json:
        out.result([{"job": text.job, "path": text.path, "text": text.text} for text in texts], "")
        return
    write = _writer(out, several=len(texts) > 1)
    for text in texts:
        write(text.path, text.text)


def _writer(out: Output, several: bool = False) -> log_service.Write:
    """Write text through; with several files, name each where it takes over, as tail does."""
    last: list[str] = []

    def write(path: str, text: str) -> None:
        if last[-1:] != [path] and (several or last):
            out.write(f"{chr(10) if last else ''}==> {path} <==\n")
        last[:] = [path]
        out.write(text)

    return write
