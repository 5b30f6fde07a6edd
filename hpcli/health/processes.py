"""All processes of a machine at a glance, and checks of those that neither live nor end, or are too many."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from hpcli.domain.check import Blame, CheckResult, Remedy, Severity
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.health.cpu import online_cpus
from hpcli.ports import Host

STEPD = "slurmstepd"
FRESH = 1.0
"""Seconds for which one look at all processes serves every check that asks."""


@dataclass(frozen=True, slots=True)
class Process:
    """`start` (clock ticks since boot) tells it from a later one with the same pid. A thread group's first thread.

    `moves`: context switches, looked up only in state D. `since`: seconds of uptime when it was first seen as it is.
    """

    pid: int
    parent: int
    name: str
    state: str
    threads: int
    start: int
    moves: int = 0
    since: float = 0.0


def parse_stat(pid: int, stat: str) -> Process | None:
    """Parse /proc/PID/stat; the name, in parentheses, may itself hold any character. None if it is not that."""
    name, found, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    if not found or len(fields) < 20:
        return None
    # Whoever runs it chooses the name: it must not move a terminal's cursor.
    name = "".join(char if char.isprintable() else "?" for char in name)
    return Process(pid, int(fields[1]), name, fields[0], int(fields[17]), int(fields[19]))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All processes but the kernel's own, by pid, at so many seconds of uptime."""

    at: float
    processes: Mapping[int, Process]


def take(host: Host) -> Snapshot:
    """Raises OSError or ValueError without /proc. A big machine has thousands of kernel threads: they are not read."""
    at = uptime(host)
    pids = {int(path.split("/")[2]) for path in host.glob("/proc/[0-9]*")}
    # In a container process 2 can be anybody.
    kernel = read_of(host, 2, "comm") == "kthreadd\n"
    if kernel:
        pids.difference_update([2], map(int, read_of(host, 2, "task/2/children").split()))
    found = (_look_up(host, pid) for pid in sorted(pids))
    # A kernel that does not list children has its threads read, but they are left out all the same.
    own = [process for process in found if process and not (kernel and process.parent == 2)]
    return Snapshot(at, {process.pid: replace(process, since=at) for process in own})


def uptime(host: Host) -> float:
    return float(host.read("/proc/uptime").partition(" ")[0])


def _look_up(host: Host, pid: int) -> Process | None:
    process = parse_stat(pid, read_of(host, pid, "stat"))
    if process is None or process.state != "D":
        return process
    switches = re.findall(r"ctxt_switches:\s+(\d+)", read_of(host, pid, "status"))
    return replace(process, moves=sum(map(int, switches)))


def read_of(host: Host, pid: int, file: str) -> str:
    """A file of a process; "" once it is gone or when it is not ours to read."""
    try:
        return host.read(f"/proc/{pid}/{file}")
    except OSError:
        return ""


def carry(before: Snapshot, now: Snapshot) -> Snapshot:
    """Keep since when each process is as it is; one that ran in between, however shortly, begins anew."""
    known = {replace(one, since=0.0): one.since for one in before.processes.values() if before.at <= now.at}
    same = {pid: known.get(replace(one, since=0.0), one.since) for pid, one in now.processes.items()}
    return Snapshot(now.at, {pid: replace(one, since=same[pid]) for pid, one in now.processes.items()})


@dataclass(slots=True)
class ProcessTable:
    """The last look at a host's processes: the kernel does not tell for how long one has been stuck.

    Knows the host that was looked at last; an agent looks at one.
    """

    _host: Host | None = None
    _last: Snapshot = Snapshot(0.0, {})

    def look(self, host: Host) -> Snapshot:
        if self._host is not host:
            self._last, self._host = take(host), host
        elif not 0 <= uptime(host) - self._last.at < FRESH:
            self._last = carry(self._last, take(host))
        return self._last


TABLE = ProcessTable()


@dataclass(frozen=True, slots=True)
class ZombieParameters:
    """`seconds`: dead for so long (gcm). `warn`: so many are worth a word; `per_cpu`: so many of init's are a fault."""

    seconds: float = 300.0
    warn: int = 20
    per_cpu: float = 50.0


@dataclass(frozen=True, slots=True)
class StuckParameters:
    """`seconds` in state D without once running (gcm: 300). `ignore`: kernel functions in which waiting is no fault:

    in those of the default any user can wait as long as he likes (vfork, a frozen cgroup, FUSE, userfaultfd).
    """

    seconds: float = 300.0
    ignore: str = "kernel_clone:wait_for_vfork_done:__refrigerator:request_wait_answer:handle_userfault"


@dataclass(frozen=True, slots=True)
class Stuck:
    """`seconds`: how long it has been seen so. `where`: the kernel function it waits in, "" or "0" if secret."""

    pid: int
    name: str
    parent: int
    seconds: float
    where: str = ""


@dataclass(frozen=True, slots=True)
class StuckProcesses:
    cpus: int
    processes: tuple[Stuck, ...] = ()


async def gather_zombies(host: Host, _: ZombieParameters) -> StuckProcesses:
    # A first thread that ended before the others looks like a zombie, but its process lives.
    return _in_state(host, lambda process: process.state == "Z" and process.threads <= 1)


async def gather_stuck(host: Host, _: StuckParameters) -> StuckProcesses:
    """Only a process's first thread is looked at: thousands of threads would cost too much."""
    return _in_state(host, lambda process: process.state == "D")


def _in_state(host: Host, wanted: Callable[[Process], bool]) -> StuckProcesses:
    look = TABLE.look(host)
    stuck = tuple(_stuck(host, process, look.at) for process in look.processes.values() if wanted(process))
    return StuckProcesses(len(online_cpus(host)), stuck)


def _stuck(host: Host, process: Process, at: float) -> Stuck:
    where = read_of(host, process.pid, "wchan") if process.state == "D" else ""
    return Stuck(process.pid, process.name, process.parent, at - process.since, where)


def judge_zombies(evidence: StuckProcesses, parameters: ZombieParameters) -> CheckResult:
    """Anybody can leave his children unburied: that costs a number and is his affair. Init's own say it is broken."""
    old = [process for process in evidence.processes if process.seconds >= parameters.seconds]
    orphans = [process for process in old if process.parent == 1]
    limit = parameters.per_cpu * evidence.cpus
    message = f"{len(old)} zombies older than {parameters.seconds:g} s, {len(orphans)} of them init's"
    if len(orphans) > limit:
        message, hint = f"{message}, limit {limit:g}", "init clears nothing away any more: only a boot does"
        return CheckResult("proc.zombie", Severity.CRITICAL, message, Remedy.REBOOT, hint=hint)
    if len(old) <= parameters.warn:
        return CheckResult("proc.zombie", Severity.OK, message)
    parent, count = Counter(process.parent for process in old).most_common(1)[0]
    hint = f"{count} are children of process {parent}: ending that one frees them"
    return CheckResult("proc.zombie", Severity.WARN, message, blame=Blame.USER, hint=hint)


def judge_stuck(evidence: StuckProcesses, parameters: StuckParameters) -> CheckResult:
    """Nothing can end such a process, so that its job stays COMPLETING; a disk, a file server or a driver hangs."""
    # The compiler appends .isra.0 and the like to a function that it has changed.
    ignored = parameters.ignore.split(":")
    counted = [process for process in evidence.processes if process.where.partition(".")[0] not in ignored]
    old = [process for process in counted if process.seconds >= parameters.seconds]
    if not old:
        return CheckResult("proc.dstate", Severity.OK, f"{len(counted)} in state D now, none for long")
    worst = max(old, key=lambda process: process.seconds)
    where = f" in {worst.where}" if worst.where.strip("0") else ""
    message = f"{len(old)} stuck: {worst.name} ({worst.pid}){where} for {worst.seconds:.0f} s"
    hint = f"cat /proc/{worst.pid}/stack; is a mount or a device gone? the kernel log may say"
    return CheckResult("proc.dstate", Severity.CRITICAL, message, Remedy.DRAIN, component=worst.name, hint=hint)


@dataclass(frozen=True, slots=True)
class PidParameters:
    """Percent in use (healthagent's)."""

    warn: float = 10.0
    critical: float = 50.0


@dataclass(frozen=True, slots=True)
class OpenFileParameters:
    """Percent in use."""

    warn: float = 80.0
    critical: float = 90.0


@dataclass(frozen=True, slots=True)
class Use:
    used: int
    limit: int


async def gather_pids(host: Host, _: PidParameters) -> Use:
    """Threads take pids too: the fourth field of /proc/loadavg ends with how many there are (proc(5))."""
    used = host.read("/proc/loadavg").partition("/")[2].partition(" ")[0]
    return Use(int(used), min(int(host.read(f"/proc/sys/kernel/{name}")) for name in ("pid_max", "threads-max")))


async def gather_open_files(host: Host, _: OpenFileParameters) -> Use:
    """/proc/sys/fs/file-nr: allocated, always 0, maximum."""
    allocated, _free, maximum = map(int, host.read("/proc/sys/fs/file-nr").split())
    return Use(allocated, maximum)


def judge_pids(evidence: Use, parameters: PidParameters) -> CheckResult:
    return _judge_use("proc.pids", "pids", evidence, parameters, "ps -eLo user,comm | sort | uniq -c | sort -n")


def judge_open_files(evidence: Use, parameters: OpenFileParameters) -> CheckResult:
    return _judge_use("proc.fds", "open files", evidence, parameters, "lsof -n | cut -c 1-9 | sort | uniq -c | sort -n")


def _judge_use(check: str, what: str, use: Use, given: PidParameters | OpenFileParameters, hint: str) -> CheckResult:
    """When nothing is left not even root can log in to clear up."""
    if use.limit <= 0:
        return CheckResult(check, Severity.UNKNOWN, f"found a limit of {use.limit} {what}")
    percent = 100 * use.used / use.limit
    message = f"{use.used} {what}, {percent:.0f} % of {use.limit}"
    if percent >= given.critical:
        message = f"{message}, limit {given.critical:g} %"
        return CheckResult(check, Severity.CRITICAL, message, Remedy.DRAIN, hint=hint)
    return CheckResult(check, Severity.WARN if percent >= given.warn else Severity.OK, message, hint=hint)


CHECKS: tuple[AnyCheck, ...] = (
    Check(
        name="proc.zombie",
        detects="dead processes that nobody clears away",
        source="/proc/PID/stat",
        scope=Scope.MACHINE,
        parameters=ZombieParameters,
        gather=gather_zombies,
        judge=judge_zombies,
        evidence=StuckProcesses,
    ),
    Check(
        name="proc.dstate",
        detects="processes stuck in the kernel, in state D",
        source="/proc/PID/stat, status and wchan",
        scope=Scope.MACHINE,
        parameters=StuckParameters,
        gather=gather_stuck,
        judge=judge_stuck,
        evidence=StuckProcesses,
    ),
    Check(
        name="proc.pids",
        detects="process numbers nearly used up",
        source="/proc/loadavg, /proc/sys/kernel/pid_max and threads-max",
        scope=Scope.MACHINE,
        parameters=PidParameters,
        gather=gather_pids,
        judge=judge_pids,
        evidence=Use,
    ),
    Check(
        name="proc.fds",
        detects="open files near the kernel's limit",
        source="/proc/sys/fs/file-nr",
        scope=Scope.MACHINE,
        parameters=OpenFileParameters,
        gather=gather_open_files,
        judge=judge_open_files,
        evidence=Use,
    ),
)
