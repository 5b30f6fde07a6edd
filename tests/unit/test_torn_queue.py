"""squeue is asked twice, and a job may change between the two answers."""

import pytest

from hpcli.domain.job import Job
from hpcli.slurm.queue import parse_jobs

NONCE = "0123456789abcdef"


def read(listed: str, fact: str) -> Job:
    columns = ["1", "1", "u", "(null)", "main", listed, "None", "c[1-3]", "3", "c1", "N/A", "N/A", "0:00", "UNLIMITED"]
    line = f"{NONCE}{chr(31).join(columns)}{NONCE}train{NONCE}(null)\n"
    [job] = parse_jobs(line, f"1|1|1|N/A|{fact}\n", NONCE)
    return job


@pytest.mark.parametrize(
    ("listed", "fact", "state"),
    [
        ("RUNNING", "RUNNING|", "RUNNING"),
        ("RUNNING", "COMPLETING|", "COMPLETING"),
        ("RUNNING", "PENDING|", "PENDING"),
        ("COMPLETING", "RUNNING|", "COMPLETING"),
        ("PENDING", "RUNNING|", "PENDING"),
        ("RUNNING", "", "RUNNING"),
    ],
)
def test_a_job_runs_only_when_both_answers_say_so(listed: str, fact: str, state: str) -> None:
    """Its restarts come with the second: `RUNNING` of before a requeue and `1` of after it would mean "runs again"."""
    job = read(listed, fact)
    assert (job.state, job.restarts) == (state, 1)
