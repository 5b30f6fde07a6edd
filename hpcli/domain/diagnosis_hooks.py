"""The site's lines in slurm.conf judged: whether hpcli can keep jobs off a faulty node, and get it rebooted.

The doctor judges any Slurm's Prolog, hold and reboot program already (diagnosis_machine, _jobs, _nodes), where it costs
little to lack them. On a cluster that has hpcli's agents it costs more: those findings here take the place of its.
"""

from collections.abc import Iterable, Iterator, Mapping

from hpcli.domain.adoption_lines import Line, lines_for
from hpcli.domain.diagnosis import Configuration, Finding, note, ok, wrong

SUBJECTS = {"Prolog": "Prolog", "SchedulerParameters": "nohold_on_prolog_fail", "RebootProgram": "RebootProgram"}
"""What the doctor calls each line, elsewhere too."""

_RECONFIGURE = "in slurm.conf, then scontrol reconfigure"


def judge_hooks(configuration: Configuration, hook_texts: Mapping[str, str | None]) -> Iterator[Finding]:
    """For an adopted cluster. `hook_texts` are Prolog scripts by path, None for one that cannot be read."""
    texts = {path: text for path, text in hook_texts.items() if text is not None}
    for line in lines_for(configuration, (), texts):
        if not line.missing:
            yield ok(SUBJECTS[line.key], f"{line.text.partition('=')[2]} ({line.state})")
        elif line.key == "Prolog":
            yield _gate(configuration, hook_texts, line)
        elif line.key == "SchedulerParameters":
            cost = "a job that meets the gate is held (launch_failed_requeued_held) until a person releases it"
            yield wrong(SUBJECTS[line.key], "missing", cost, f"{line.text} {_RECONFIGURE}")
        else:
            cost = "hpcli cannot reboot a faulty node through Slurm: it stays drained for a person"
            yield note(SUBJECTS[line.key], "missing", cost, f"{line.text} {_RECONFIGURE}")


def in_place_of(found: Iterable[Finding], hooks: Iterable[Finding]) -> tuple[Finding, ...]:
    """All findings, each of the three lines judged once."""
    own = tuple(hooks)
    subjects = {finding.subject for finding in own}
    return (*(finding for finding in found if finding.subject not in subjects), *own)


def _gate(configuration: Configuration, hook_texts: Mapping[str, str | None], line: Line) -> Finding:
    """A Prolog that lies on other machines only may well call the gate."""
    told = configuration.text("Prolog")
    unread = [path for path in told.split(",") if path and hook_texts.get(path) is None]
    if unread:
        cost = "unless it calls hpcli's gate, jobs start on nodes that hpcli found faulty"
        return note("Prolog", f"{', '.join(unread)}: cannot be read from this machine", cost, _fix(line))
    cost = "jobs start on nodes that hpcli found faulty"
    return wrong("Prolog", f"{told}: without hpcli's gate" if told else "none", cost, _fix(line))


def _fix(line: Line) -> str:
    return f"{line.text} {_RECONFIGURE}" + (f": {line.note}" if line.note else "")
