"""Output files of jobs out of `scontrol show job`, and the file name patterns that it leaves in them. Pure."""

import re
from collections.abc import Iterable

from hpcli.domain.job import Job, JobFiles

_RECORD = re.compile(r"^JobId=(?P<id>\d+) ", re.MULTILINE)
_PATTERN = re.compile(r"%(?:%|(\d*)([AabjJnNstuxW]))")

_NO_TASK = "4294967294"
"""What Slurm writes for %a of a task that has no number yet."""


def parse_job_files(text: str, jobs: Iterable[Job]) -> tuple[JobFiles, ...]:
    """Match the records with `jobs` by Slurm's own number.

    A name with a newline can forge a line, but only above the real one: the last of a kind counts.
    """
    wanted = tuple(jobs)
    starts = list(_RECORD.finditer(text)) if len({job.id for job in wanted}) > 1 else []
    ends = [found.start() for found in starts[1:]] + [len(text)]
    records = {found["id"]: text[found.start() : end] for found, end in zip(starts, ends, strict=False)}
    return tuple(_files(records.get(job.id, text), job) for job in wanted)


def expand_pattern(path: str, job: Job) -> str:
    """Fill in what is left of sbatch's file name patterns (sbatch(1), FILENAME PATTERN)."""
    array, _, task = job.label.partition("_")
    number = task if task.isdigit() else _NO_TASK
    value = {
        "A": array,
        "a": number,
        "b": str(int(number) % 10),
        "j": job.id,
        "J": job.id,
        "n": "0",
        "N": job.batch_host,
        "s": "batch",
        "t": "0",
        "u": job.user,
        "x": job.name,
    }
    if "\\" in path:
        return path.replace("\\", "")

    def fill(found: re.Match[str]) -> str:
        width, letter = found[1], found[2]
        return "%" if letter is None else value.get(letter, found[0]).rjust(int(width or 0), "0")

    return _PATTERN.sub(fill, path).replace(_NO_TASK, number)


def _files(record: str, job: Job) -> JobFiles:
    stdout = expand_pattern(_last(record, "StdOut"), job)
    stderr = expand_pattern(_last(record, "StdErr"), job)
    return JobFiles(job, stdout, stderr or stdout, _last(record, "WorkDir"))


def _last(record: str, key: str) -> str:
    found = re.findall(rf"^   {key}=(.*)$", record, re.MULTILINE)
    return found[-1] if found else ""
