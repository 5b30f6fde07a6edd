"""The check of files that a site wants on its nodes: there, with this mode, this fresh, with these words in them."""

from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.errors import UsageFault
from hpcli.health import sysfs
from hpcli.health.check import AnyCheck, Check, Scope
from hpcli.ports import Host

STAT_TIMEOUT = 7.0
"""Seconds for all files together; one may lie on a stale mount."""

LOOKED_AT = 65536
"""Bytes at the start of a file in which words are looked for."""


@dataclass(frozen=True, slots=True)
class FileParameters:
    """`files`: rules with semicolons: `/etc/slurm/slurm.conf mode=644 owner=root; /run/beat age=600; /etc/motd has=hi`.

    `age` in seconds since the last change; `has` takes the rest of its rule; a path may hold no blank.
    """

    files: str = ""


@dataclass(frozen=True, slots=True)
class FileRule:
    path: str
    mode: str = ""
    owner: str = ""
    age: float = 0.0
    has: str = ""


@dataclass(frozen=True, slots=True)
class FileState:
    """`age` in seconds. `has`: the rule's words are in it, or the rule names none."""

    path: str
    exists: bool = True
    mode: str = ""
    owner: str = ""
    age: float = 0.0
    has: bool = True


@dataclass(frozen=True, slots=True)
class FileStates:
    files: tuple[FileState, ...]


def parse_rules(text: str) -> tuple[FileRule, ...]:
    """Raises `UsageFault` for a rule that is none."""
    return tuple(_rule(part.strip()) for part in text.split(";") if part.strip())


def _rule(text: str) -> FileRule:
    front, _, has = text.partition(" has=")
    path, *settings = front.split()
    pairs = dict(setting.partition("=")[::2] for setting in settings)
    age = pairs.pop("age", "0")
    mode, owner = pairs.pop("mode", ""), pairs.pop("owner", "")
    if pairs or not path.startswith("/") or not age.isdecimal():
        hint = "a rule is a path, then mode=644, owner=root, age=SECONDS, has=WORDS; rules are separated by semicolons"
        raise UsageFault("health.checks: fs.file.files", f"found {text!r}, expected a rule", hint)
    return FileRule(path, mode.lstrip("0"), owner, float(age), has)


async def gather_files(host: Host, parameters: FileParameters) -> FileStates:
    """Starts stat once, and head for each file with words to look for. Raises `TimedOut` on a stale mount."""
    rules = parse_rules(parameters.files)
    argv = ["stat", "-L", "-c", "%a %U %Y %n", "--", *(rule.path for rule in rules)]
    answer = await host.run(argv, timeout=STAT_TIMEOUT)
    seen = dict(_stated(line) for line in answer.out.splitlines() if line.count(" ") >= 3)
    now = sysfs.wall_clock(host)
    return FileStates(tuple([await _state(host, rule, seen.get(rule.path), now) for rule in rules]))


def _stated(line: str) -> tuple[str, tuple[str, str, int]]:
    mode, owner, changed, path = line.split(" ", 3)
    return path, (mode, owner, sysfs.whole(changed))


async def _state(host: Host, rule: FileRule, seen: tuple[str, str, int] | None, now: float) -> FileState:
    if not seen:
        return FileState(rule.path, exists=False)
    mode, owner, changed = seen
    has = True
    if rule.has:
        start = await host.run(["head", "-c", str(LOOKED_AT), "--", rule.path], timeout=STAT_TIMEOUT)
        has = rule.has in start.out
    return FileState(rule.path, True, mode, owner, max(0.0, now - changed), has)


def judge_files(evidence: FileStates, parameters: FileParameters) -> CheckResult:
    rules = {rule.path: rule for rule in parse_rules(parameters.files)}
    faults = [(state, _fault(state, rules.get(state.path, FileRule(state.path)))) for state in evidence.files]
    wrong = [(state, fault) for state, fault in faults if fault]
    if not wrong:
        return CheckResult("fs.file", Severity.OK, f"{len(evidence.files)} files as expected")
    shown = sysfs.some(f"{state.path}: {fault}" for state, fault in wrong)
    hint = "put it there again, and see what took it away"
    first = wrong[0][0].path
    return CheckResult("fs.file", Severity.CRITICAL, shown, Remedy.DRAIN, component=first, hint=hint)


def _fault(state: FileState, rule: FileRule) -> str:
    if not state.exists:
        return "not there, expected a file"
    if rule.mode and state.mode != rule.mode:
        return f"mode {state.mode}, expected {rule.mode}"
    if rule.owner and state.owner != rule.owner:
        return f"owner {state.owner}, expected {rule.owner}"
    if rule.age and state.age > rule.age:
        return f"changed {state.age:.0f} s ago, limit {rule.age:g} s"
    return "" if state.has else f"{rule.has!r} is not in it"


FILE = Check(
    name="fs.file",
    detects="a file that is missing, old or not as it should be",
    source="stat, head",
    scope=Scope.MACHINE,
    parameters=FileParameters,
    gather=gather_files,
    judge=judge_files,
    evidence=FileStates,
    applies=lambda parameters: bool(parse_rules(parameters.files)),
)

CHECKS: tuple[AnyCheck, ...] = (FILE,)
