"""squeue's formats and their parser. A job's name and comment are its owner's to choose, so nothing in them may count.

Each record starts with a nonce that is new in every call, and so do name and comment: a newline or a separator
inside them is text and no more.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hpcli.domain.job import PENDING_STATES, Job
from hpcli.slurm.parse import known, parse_count, parse_time

_SEPARATOR = "\x1f"
_COLUMNS = ("%i", "%A", "%u", "%a", "%P", "%T", "%r", "%N", "%D", "%B", "%V", "%S", "%M", "%l")

FACTS_FORMAT = "JobArrayID:24|,Requeue:2|,RestartCnt:8|,EligibleTime:24|,State:24|"
"""What only `-O` knows. Its columns are cut at their width, so it carries no free text."""


@dataclass(frozen=True, slots=True)
class _Facts:
    requeue: bool
    restarts: int
    eligible_time: float
    state: str


def queue_format(nonce: str) -> str:
    """Give the `-o` format whose output `parse_jobs` reads with the same nonce."""
    return f"{nonce}{_SEPARATOR.join(_COLUMNS)}{nonce}%j{nonce}%k"


def parse_jobs(text: str, facts_text: str, nonce: str) -> tuple[Job, ...]:
    """Join squeue's two outputs by the id that people type. A job the second does not know yet is a new one."""
    facts = _parse_facts(facts_text)
    parts = text.split(nonce)[1:]
    records = zip(parts[0::3], parts[1::3], parts[2::3], strict=False)
    return tuple(_job(columns, name, comment, facts) for columns, name, comment in records)


def _parse_facts(text: str) -> dict[str, _Facts]:
    rows = ([cell.strip() for cell in line.split("|")] for line in text.splitlines())
    return {
        row[0]: _Facts(row[1] == "1", parse_count(row[2]), parse_time(row[3]), "".join(row[4:5]))
        for row in rows
        if len(row) >= 4
    }


def _job(columns: str, name: str, comment: str, facts: Mapping[str, _Facts]) -> Job:
    value = dict(zip(_COLUMNS, columns.split(_SEPARATOR), strict=True))
    fact = facts.get(value["%i"], _Facts(requeue=True, restarts=0, eligible_time=0.0, state=""))
    # Requeued between the two calls, a job would seem to run with its next restart already.
    state = fact.state if value["%T"] == "RUNNING" and fact.state else value["%T"]
    return Job(
        id=value["%A"],
        label=value["%i"],
        name=name,
        user=value["%u"],
        partition=value["%P"],
        state=state,
        reason=known(value["%r"]).replace(" ", "_"),
        account=known(value["%a"]),
        nodes=known(value["%N"]),
        node_count=parse_count(value["%D"]),
        batch_host=known(value["%B"]),
        requeue=fact.requeue,
        restarts=fact.restarts,
        comment=known(re.sub(r"\n\Z", "", comment)),
        submit_time=parse_time(value["%V"]),
        # Of a pending job %S is the scheduler's guess; when it may begin is EligibleTime.
        start_time=fact.eligible_time if state in PENDING_STATES else parse_time(value["%S"]),
        time_used=known(value["%M"]),
        time_limit=known(value["%l"]),
    )
