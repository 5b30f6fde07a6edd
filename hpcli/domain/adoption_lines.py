"""The lines that a site adds to its slurm.conf, so that hpcli can gate and reboot its nodes, and which are in force."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from hpcli.domain.diagnosis import Configuration

OURS = ("/etc/hpcli/", "/opt/hpcli/")
PROLOG = "/etc/hpcli/prolog"
REBOOT = "/opt/hpcli/lifecycle/reboot"
NO_HOLD = "nohold_on_prolog_fail"
HOOKS = ("Prolog", "Epilog", "PrologSlurmctld", "EpilogSlurmctld", "TaskProlog", "TaskEpilog")
PROGRAMS = (*HOOKS, "RebootProgram", "HealthCheckProgram", "ResumeProgram", "SuspendProgram")


class State(StrEnum):
    SET = "set"
    MISSING = "missing"
    CHAINED = "chained"
    """The site's own Prolog calls hpcli's."""
    THEIRS = "theirs"
    """The site has a program of its own for it, which does as well."""


@dataclass(frozen=True, slots=True)
class Line:
    """One parameter: the line as it should stand, how it is now, and a word for the person who edits the file."""

    key: str
    text: str
    state: State
    note: str = ""

    @property
    def missing(self) -> bool:
        return self.state is State.MISSING

    @property
    def ours(self) -> bool:
        """In force, and naming a program of hpcli's."""
        return self.state is State.SET and any(ours in self.text for ours in OURS)


def lines_for(found: Configuration, chained: tuple[str, ...], texts: Mapping[str, str]) -> tuple[Line, ...]:
    """`chained` is adopted.chain_prolog; `texts` are the site's Prolog scripts by path, as far as they can be read."""
    return (_prolog(found, chained, texts), _no_hold(found), _reboot(found))


def still_there(found: Configuration) -> tuple[str, ...]:
    """Lines in force that name a program of hpcli's: without it jobs would fail."""
    return tuple(f"{key}={found.text(key)}" for key in PROGRAMS if any(ours in found.text(key) for ours in OURS))


def paths_of(found: Configuration, key: str) -> tuple[str, ...]:
    """A hook's scripts as slurm.conf has them, patterns unexpanded."""
    return tuple(path.strip() for path in found.text(key).split(",") if path.strip())


def _prolog(found: Configuration, chained: tuple[str, ...], texts: Mapping[str, str]) -> Line:
    theirs = [path for path in paths_of(found, "Prolog") if path != PROLOG]
    line = f"Prolog={PROLOG}"
    if PROLOG in paths_of(found, "Prolog"):
        return Line("Prolog", line, State.SET, f"runs {', '.join(chained)} after the gate" if chained else "")
    if any(PROLOG in texts.get(path, "") for path in theirs):
        return Line("Prolog", f"Prolog={','.join(theirs)}", State.CHAINED, "your own Prolog calls hpcli's gate")
    if not theirs:
        return Line("Prolog", line, State.MISSING)
    return Line("Prolog", line, State.MISSING, " ".join(_how_to_chain(theirs, chained)))


def _how_to_chain(theirs: list[str], chained: tuple[str, ...]) -> Iterator[str]:
    """Two ways; which one is the site's choice."""
    if set(theirs) <= set(chained):
        yield f"in place of {', '.join(theirs)}, which hpcli's runs after its gate;"
    else:
        yield f"in place of {', '.join(theirs)}: in adopted.chain_prolog, hpcli's runs it after its gate;"
    yield f"or keep yours, with a first line in it: {PROLOG} || exit 1"


def _no_hold(found: Configuration) -> Line:
    words = found.text("SchedulerParameters")
    if NO_HOLD in found.words("SchedulerParameters"):
        return Line("SchedulerParameters", f"SchedulerParameters={words}", State.SET)
    wanted = f"{words},{NO_HOLD}" if words else NO_HOLD
    why = "else a job that the gate sent back waits, held, for a person to release it"
    return Line("SchedulerParameters", f"SchedulerParameters={wanted}", State.MISSING, why)


def _reboot(found: Configuration) -> Line:
    program = found.text("RebootProgram")
    if program == REBOOT:
        return Line("RebootProgram", f"RebootProgram={REBOOT}", State.SET)
    if program:
        return Line("RebootProgram", f"RebootProgram={program}", State.THEIRS, "yours, and hpcli uses it")
    return Line("RebootProgram", f"RebootProgram={REBOOT}", State.MISSING)
