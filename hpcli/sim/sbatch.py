"""sbatch's command line and a script's visible behaviour, as far as the simulator knows them. Pure."""

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

from hpcli.errors import SlurmRefused
from hpcli.sim.model import FOREVER, SimJob
from hpcli.spec.hostlist import expand

_SLEEP = re.compile(r"\bsleep (\d+(?:\.\d+)?|inf)")
_EXIT = re.compile(r"\bexit (\d+)")
_TRAP = re.compile(r"trap (?:''|\"\") (?:SIG)?TERM")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SlurmRefused("sbatch", message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="sbatch", add_help=False)
    parser.add_argument("-N", "--nodes", type=int, default=1)
    parser.add_argument("-c", "--cpus-per-task", type=int, default=1)
    parser.add_argument("--gpus-per-node", type=int, default=0)
    parser.add_argument("-J", "--job-name", default="wrap")
    parser.add_argument("--comment", default="")
    parser.add_argument("-p", "--partition", default="main")
    parser.add_argument("-w", "--nodelist", default="")
    parser.add_argument("-a", "--array", default="")
    parser.add_argument("-o", "--output", default="slurm-%j.out")
    parser.add_argument("-e", "--error", default="")
    parser.add_argument("-H", "--hold", action="store_true")
    parser.add_argument("-k", "--no-kill", action="store_true")
    parser.add_argument("--requeue", dest="requeue", action="store_true", default=True)
    parser.add_argument("--no-requeue", dest="requeue", action="store_false")
    parser.add_argument("--wrap", default="")
    parser.add_argument("--parsable", action="store_true")
    return parser


def parse_submission(args: Sequence[str], script: str, user: str, work_dir: str) -> tuple[SimJob, tuple[int, ...]]:
    """Give the job and its array tasks. Options that the simulator does not know are ignored."""
    asked, _ = _parser().parse_known_args(list(args))
    text = asked.wrap or script
    slept = _SLEEP.search(text)
    ends = _EXIT.search(text)
    job = SimJob(
        id="",
        label="",
        name=asked.job_name,
        user=user,
        partition=asked.partition,
        comment=asked.comment,
        node_count=asked.nodes,
        cpus=asked.cpus_per_task,
        gpus=asked.gpus_per_node,
        wish=expand(asked.nodelist) if asked.nodelist else (),
        requeue=asked.requeue,
        no_kill=asked.no_kill,
        ignores_term=bool(_TRAP.search(text)),
        work=_seconds(slept[1]) if slept else 0.0,
        exit_code=int(ends[1]) if ends else 0,
        stdout=asked.output,
        stderr=asked.error or asked.output,
        work_dir=work_dir,
        held="JobHeldUser" if asked.hold else "",
    )
    return job, _tasks(asked.array)


def _seconds(text: str) -> float:
    return FOREVER if text == "inf" else float(text)


def _tasks(array: str) -> tuple[int, ...]:
    ranges = (part.partition("-") for part in array.partition("%")[0].split(",") if part)
    return tuple(task for first, _, last in ranges for task in range(int(first), int(last or first) + 1))
