"""What Slurm's programs say when they refuse, as hpcli's errors. Pure."""

import re
from collections.abc import Iterable, Mapping

from hpcli.errors import HpcliError, NotFound, SlurmRefused, Unreachable
from hpcli.ports import Completed

_DEAF = (
    "Unable to contact slurm controller",
    "Connection refused",
    "connect failure",
    "Unable to process configuration file",
    "Could not establish a configuration source",
    "Unexpected message received",
    "Socket timed out",
    "Zero Bytes were transmitted",
    "Protocol authentication error",
    "Invalid authentication credential",
    "Munge encode failed",
    "controller is in standby mode",
)
_UNKNOWN = ("Invalid job id", "Invalid node name", "Invalid Job Id", "Job/step not found")
_NODE_UNKNOWN = re.compile(r"^Node \S+ not found", re.MULTILINE)
_SPEAKER = re.compile(r"^(?:(?:[\w-]+: )?(?:error|fatal): |(?:slurm|scontrol)_\w+ error: |job notify failure: )")
_NOISE = re.compile(r"^(?:scancel: (?:Terminating|Signal \d+ to) job|Try \"|Request aborted|NodeName=)")
_NO_SUCH_PROGRAM = 127
_OF_JOB = (
    re.compile(r"^(?P<what>.*) for job (?P<job>\d\S*)$"),
    re.compile(r"^(?P<job>\d+_\S+): (?P<what>.*)$"),
    re.compile(r"^(?:scancel: error: )?Kill job error on job id (?P<job>\d\S*): (?P<what>.*)$"),
)


def refusal(subject: str, completed: Completed) -> HpcliError:
    """Turn a failed program's words into the error that fits them."""
    if completed.code == _NO_SUCH_PROGRAM:
        return NotFound("Slurm's programs", spoken(completed), "install slurm-client, or put it on PATH")
    return error_of(subject, spoken(completed))


def error_of(subject: str, words: str) -> HpcliError:
    if any(word in words for word in _DEAF):
        return Unreachable("Slurm", words, "is slurmctld up, and does SLURM_CONF name its cluster? try: scontrol ping")
    if any(word in words for word in _UNKNOWN) or _NODE_UNKNOWN.search(words):
        return NotFound(subject, words, "see: hpcli nodes, hpcli queue --all")
    return SlurmRefused(subject, words)


def spoken(completed: Completed) -> str:
    """Give what the program said, without its name and without chatter."""
    lines = (completed.err.strip() or completed.out).splitlines()
    words = "; ".join(_SPEAKER.sub("", line.strip()) for line in lines if line.strip() and not _NOISE.match(line))
    return words or f"{completed.argv[0]} ended with {completed.code} and said nothing"


def refused_jobs(err: str, fine: Iterable[str]) -> dict[str, str]:
    """Map each job that a program complained of to its words; what is in `fine` is no complaint."""
    complaints: dict[str, str] = {}
    for line in err.splitlines():
        found = next((match for pattern in _OF_JOB if (match := pattern.match(line))), None)
        if found and not any(word in found["what"] for word in fine):
            complaints[found["job"]] = found["what"]
    return complaints


def error_of_jobs(complaints: Mapping[str, str]) -> HpcliError:
    """Make one error of the complaints about several jobs; "not found" only when that is all that is wrong."""
    refused = {job: what for job, what in complaints.items() if not any(word in what for word in _UNKNOWN)}
    counted = refused or complaints
    subject = f"job {','.join(counted)}"
    if len(set(counted.values())) == 1:
        return error_of(subject, next(iter(counted.values())))
    return error_of(subject, "; ".join(f"{job}: {what}" for job, what in counted.items()))
