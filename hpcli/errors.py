"""Every error that hpcli raises on purpose: object, found, expected, next step."""

from collections.abc import Mapping
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every hpcli command."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    CONNECTION = 4
    SLURM_REFUSED = 5
    TIMEOUT = 6
    JOB_FAILED = 7
    UNSAFE = 8
    INTERRUPTED = 130


class HpcliError(Exception):
    """An expected failure, shown as `error: <subject>: <message>` and `hint: <hint>`."""

    exit_code = Exit.ERROR
    code = "error"

    def __init__(self, subject: str, message: str, hint: str = "") -> None:
        super().__init__(f"{subject}: {message}")
        self.subject = subject
        self.message = message
        self.hint = hint


class UsageFault(HpcliError):
    """The command line, or a file named on it, asks for something impossible."""

    exit_code = Exit.USAGE
    code = "usage"


class NotFound(HpcliError):
    """The named job, node, cluster or file does not exist."""

    exit_code = Exit.NOT_FOUND
    code = "not_found"


class Unreachable(HpcliError):
    """A daemon or host did not answer, or did not believe who we are."""

    exit_code = Exit.CONNECTION
    code = "unreachable"


class SlurmRefused(HpcliError):
    """Slurm answered, and said no."""

    exit_code = Exit.SLURM_REFUSED
    code = "slurm_refused"


class TimedOut(HpcliError):
    """Something did not happen within its limit."""

    exit_code = Exit.TIMEOUT
    code = "timeout"


class JobFailed(HpcliError):
    """A job that was waited for ended other than COMPLETED."""

    exit_code = Exit.JOB_FAILED
    code = "job_failed"


class Unsafe(HpcliError):
    """A safety rule forbids it: budget, breaker, lease, or a missing --yes."""

    exit_code = Exit.UNSAFE
    code = "unsafe"


def error_of(reply: Mapping[str, object]) -> HpcliError:
    """The error in a daemon's reply (code, subject, message, hint), as the class that it was."""
    kinds = {kind.code: kind for kind in HpcliError.__subclasses__()}
    kind = kinds.get(str(reply.get("code")), HpcliError)
    return kind(str(reply.get("subject")), str(reply.get("message")), str(reply.get("hint", "")))


def told(error: HpcliError) -> dict[str, str]:
    """The error as it travels; `error_of` makes it what it was."""
    return {"code": error.code, "subject": error.subject, "message": error.message, "hint": error.hint}
