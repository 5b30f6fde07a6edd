"""Checks of what Slurm needs on a node. None of them asks the controller."""

from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.health.check import Check, Scope
from hpcli.ports import Host

MUNGE_TIMEOUT = 4.0
"""Seconds for each half of the round trip; a healthy one takes 2 ms."""


@dataclass(frozen=True, slots=True)
class MungeParameters:
    """`socket`: munged's, "" is the machine's own. `skew`: seconds between encoding and decoding."""

    socket: str = ""
    skew: float = 2.0


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """`fault` is munge's own message, "" when both halves worked. Times are whole seconds since the epoch."""

    fault: str = ""
    encoded_at: int = 0
    decoded_at: int = 0


async def gather_munge(host: Host, parameters: MungeParameters) -> RoundTrip:
    """Raises `NotFound` without munge's programs, `TimedOut` when munged does not answer."""
    socket = ["-S", parameters.socket] if parameters.socket else []
    credential = await host.run(["munge", "-n", *socket], timeout=MUNGE_TIMEOUT)
    if credential.code:
        return RoundTrip(credential.err.strip() or f"munge: exit code {credential.code}")
    argv = ["unmunge", "-n", "-N", *socket]
    decoded = await host.run([*argv, "-m", "-"], stdin=credential.out, timeout=MUNGE_TIMEOUT)
    if decoded.code:
        return RoundTrip(decoded.err.strip() or f"unmunge: exit code {decoded.code}")
    return parse_metadata(decoded.out)


def parse_metadata(text: str) -> RoundTrip:
    """Parse `unmunge -N`. Raises ValueError when the times are missing."""
    pairs = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if "ENCODE_TIME" not in pairs or "DECODE_TIME" not in pairs:
        raise ValueError("unmunge: found no ENCODE_TIME or DECODE_TIME")
    return RoundTrip("", int(pairs["ENCODE_TIME"]), int(pairs["DECODE_TIME"]))


def judge_munge(evidence: RoundTrip, parameters: MungeParameters) -> CheckResult:
    """Without munged no job can start here; those that run are not touched by it."""
    if evidence.fault:
        hint = "is munged running, and its key the cluster's?"
        return CheckResult("munge", Severity.CRITICAL, evidence.fault, Remedy.DRAIN, hint=hint)
    skew = evidence.decoded_at - evidence.encoded_at
    if abs(skew) <= parameters.skew:
        return CheckResult("munge", Severity.OK, "encoded and decoded a credential")
    message = f"{skew:+d} s between encoding and decoding, limit {parameters.skew:g} s"
    return CheckResult("munge", Severity.CRITICAL, message, Remedy.DRAIN, hint="is somebody setting the clock?")


@dataclass(frozen=True, slots=True)
class SlurmdParameters:
    """`pid_file`: SlurmdPidFile of slurm.conf; "" is not checked."""

    pid_file: str = ""


@dataclass(frozen=True, slots=True)
class Slurmd:
    """`pid` 0: no pid file. `state` is the letter in /proc, "" when there is no such process."""

    pid: int = 0
    program: str = ""
    state: str = ""


async def gather_slurmd(host: Host, parameters: SlurmdParameters) -> Slurmd:
    """Raises OSError when a file is there but cannot be read, ValueError when it holds no pid."""
    try:
        pid = int(host.read(parameters.pid_file))
    except FileNotFoundError:
        return Slurmd()
    try:
        return parse_stat(pid, host.read(f"/proc/{pid}/stat"))
    except (FileNotFoundError, ProcessLookupError):
        return Slurmd(pid)


def parse_stat(pid: int, stat: str) -> Slurmd:
    """Parse /proc/PID/stat; the name, in parentheses, may itself hold any character."""
    name, found, rest = stat.partition("(")[2].rpartition(")")
    if not found or not rest.split():
        raise ValueError(f"/proc/{pid}/stat: found {stat[:80]!r}")
    return Slurmd(pid, name, rest.split()[0])


def judge_slurmd(evidence: Slurmd, _: SlurmdParameters) -> CheckResult:
    """Jobs outlive a dead slurmd and may finish; one that is frozen has frozen stepds beside it as a rule."""
    if not evidence.pid:
        return _not_running("slurmd is not running: it has no pid file")
    if not evidence.state or evidence.state in "ZX":
        return _not_running(f"slurmd is not running: process {evidence.pid} is dead")
    if not evidence.program.startswith("slurmd"):
        return _not_running(f"slurmd is not running: process {evidence.pid} is {evidence.program!r}")
    if evidence.state in "Tt":
        message = f"slurmd is stopped: process {evidence.pid} is in state {evidence.state}"
        hint = f"a signal or a debugger froze it: kill -CONT {evidence.pid}"
        return CheckResult("slurmd.alive", Severity.CRITICAL, message, Remedy.REBOOT, component="slurmd", hint=hint)
    return CheckResult("slurmd.alive", Severity.OK, f"process {evidence.pid}", component="slurmd")


def _not_running(message: str) -> CheckResult:
    hint = "read the end of slurmd's log, then start it"
    return CheckResult("slurmd.alive", Severity.CRITICAL, message, Remedy.DRAIN, component="slurmd", hint=hint)


MUNGE = Check(
    name="munge",
    detects="MUNGE that does not encode or decode",
    source="munge, unmunge",
    scope=Scope.MACHINE,
    parameters=MungeParameters,
    gather=gather_munge,
    judge=judge_munge,
    evidence=RoundTrip,
)

SLURMD_ALIVE = Check(
    name="slurmd.alive",
    detects="slurmd dead, defunct or frozen",
    source="SlurmdPidFile, /proc/PID/stat",
    scope=Scope.NODE,
    parameters=SlurmdParameters,
    gather=gather_slurmd,
    judge=judge_slurmd,
    evidence=Slurmd,
    applies=lambda parameters: bool(parameters.pid_file),
    strikes=3,
)
