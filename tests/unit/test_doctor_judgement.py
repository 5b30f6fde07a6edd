"""The doctor's judgement as a grid: tests/cases/doctor/*.yaml over what real daemons of three releases said."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpcli.domain.diagnosis import Finding, Severity, parse_configuration, parse_partitions, worst_first
from hpcli.domain.diagnosis_agents import Care, OneAgent, care_of, each_agent, judge_agents, judge_controller
from hpcli.domain.diagnosis_jobs import Cluster, judge_jobs
from hpcli.domain.diagnosis_machine import (
    Sight,
    disk_paths,
    judge_machine,
    parse_denied,
    parse_filled,
    parse_modes,
)
from hpcli.domain.diagnosis_nodes import judge_nodes
from hpcli.domain.node import Node
from hpcli.domain.report import PROTOCOL, Sender
from hpcli.errors import HpcliError, NotFound, Unreachable
from hpcli.ports import Completed
from hpcli.services.doctor import Ground, examine
from hpcli.version import __version__

CASES = Path(__file__).parents[1] / "cases" / "doctor"
RELEASES = ("22.05", "24.11", "26.05")
AS_OF = 1795467781.0


def load(name: str) -> list[Any]:
    found = yaml.safe_load((CASES / f"{name}.yaml").read_text())
    return [pytest.param(case, id=title) for title, case in found.items()]


def recording(case: Mapping[str, Any]) -> str:
    text = (CASES / f"{case.get('text', '24.11/own')}.txt").read_text()
    for key, value in case.get("set", {}).items():
        if value == "add":
            text += f"{key}\n"
            continue
        text, count = re.subn(rf"(?m)^({re.escape(key)}\s*= ).*$", rf"\g<1>{value}", text)
        assert count == 1, f"{key} is in the recording {count} times"
    return "\n".join(text.splitlines()[: case.get("lines")])


def compare(findings: Iterable[Finding], case: Mapping[str, Any]) -> None:
    found = [finding for finding in findings if finding.severity is not Severity.OK]
    expected = {subject: severity for subject, severity in case["expect"].items() if severity}
    assert {finding.subject: finding.severity for finding in found} == expected
    assert all(finding.cost and finding.fix for finding in found if finding.subject != "slurmctld primary")
    for subject, words in case.get("says", {}).items():
        whole = [f"{one.found} {one.cost} {one.fix}" for one in found if one.subject == subject]
        assert any(words in text for text in whole), whole


@pytest.mark.parametrize("case", load("config"))
def test_configuration(case: Mapping[str, Any]) -> None:
    conf = parse_configuration(recording(case))
    assert conf is not None
    partitions = parse_partitions(case.get("partitions", ""))
    cluster = Cluster(conf, partitions, case.get("nodes", 8), case.get("one_machine", False))
    compare((*judge_jobs(cluster), *judge_nodes(cluster)), case)


@pytest.mark.parametrize("case", load("machine"))
def test_machine(case: Mapping[str, Any]) -> None:
    conf = parse_configuration(recording(case))
    assert conf is not None
    before, after = case.get("clock", (0, 0))
    sight = Sight(
        user="ada",
        munge=case.get("munge"),
        before=float(before),
        after=float(after),
        hooks=case.get("hooks", {"/etc/slurm/prolog": None}),
        modes=parse_modes(case.get("modes", "")),
        filled=case.get("filled", {}),
        denied=parse_denied(case.get("denied", "")),
    )
    compare(judge_machine(sight, conf), case)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", ["own", "rough"])
def test_every_line_of_a_recording_is_understood(release: str, name: str) -> None:
    text = (CASES / release / f"{name}.txt").read_text()
    conf = parse_configuration(text)
    assert conf is not None
    year, month = conf.version
    assert f"{year}.{month:02}" == release
    assert conf.as_of > 1.7e9
    assert [(rank, state) for rank, _, state in conf.controllers] == [("primary", "UP")]
    assert conf.yes("MULTIPLE_SLURMD")
    assert conf.text("Prolog").startswith("/")
    assert len(conf.values) > 180


@pytest.mark.parametrize("release", RELEASES)
def test_partitions_of_a_recording(release: str) -> None:
    found = parse_partitions((CASES / release / "partitions.txt").read_text())
    assert [(one.name, one.tier, one.grace, one.preempt_mode) for one in found] == [
        ("batch", 1, 600, "REQUEUE"),
        ("urgent", 10, 0, "REQUEUE"),
    ]


@pytest.mark.parametrize("text", ["", "NodeName=c1 Arch=x86_64", "slurm_load_ctl_conf error: Unable to contact"])
def test_what_is_no_configuration(text: str) -> None:
    assert parse_configuration(text) is None


def test_several_prologs_are_one_value() -> None:
    conf = parse_configuration("Configuration data as of 2026-11-23T20:00:00\nProlog[0] = /a\nProlog[1] = /b\n")
    assert conf is not None
    assert (conf.text("Prolog"), conf.as_of) == ("/a,/b", 0.0)


def test_a_spool_that_differs_between_nodes_is_looked_at_above_the_difference() -> None:
    conf = parse_configuration("Configuration data as of 1\nStateSaveLocation = /s\nSlurmdSpoolDir = /var/d/%n/x\n")
    assert conf is not None
    assert disk_paths(conf) == ("/s", "/var/d")


def test_df_of_real_machines() -> None:
    head = "Filesystem     1024-blocks     Used Available Capacity Mounted on\n"
    assert parse_filled(f"{head}/dev/vda          263112772 30012772 76012772      29% /\n") == 29
    assert parse_filled("Filesystem Inodes IUsed IFree IUse% Mounted on\noverlay 0 0 0 - /\n") is None
    assert parse_filled("") is None


def test_the_worst_comes_first() -> None:
    found = worst_first(
        [Finding("a", Severity.OK, ""), Finding("b", Severity.WRONG, ""), Finding("c", Severity.NOTE, "")]
    )
    assert [(one.subject, one.fine) for one in found] == [("b", False), ("c", True), ("a", True)]


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        ({"c1": 990.0, "c2": 990.0, "c3": 990.0}, "ok 3 report"),
        ({"c1": 990.0, "c2": 990.0, "c3": 900.0}, "wrong 1 of 3 silent: c3"),
        ({"c1": 990.0}, "wrong 2 of 3 silent: c[2-3]"),
    ],
)
def test_agents(heard: dict[str, float], expected: str) -> None:
    [found] = judge_agents(Care(heard), ("c1", "c2", "c3"), 1000.0)
    assert f"{found.severity} {found.found}" == expected
    assert ("blind" in found.cost) == (len(heard) == 1)


def test_breaker_and_pause_are_notes() -> None:
    found = list(judge_controller(Care({"c1": 1.0}, "too many", "switch")))
    assert [(one.subject, one.severity) for one in found[1:]] == [("breaker", "note"), ("recovery", "note")]


@pytest.mark.parametrize(
    ("mode", "paused", "expected"),
    [
        ("act", "", []),
        ("observe", "", ["mode observe"]),
        ("off", "", ["mode off"]),
        ("act", "switch", ["paused: switch"]),
        ("observe", "switch", ["mode observe", "paused: switch"]),
    ],
)
def test_a_controller_that_does_nothing_is_a_note(mode: str, paused: str, expected: list[str]) -> None:
    found = [one for one in judge_controller(Care({}, "", paused, mode)) if one.subject == "recovery"]
    assert [one.found for one in found] == expected
    assert {one.severity for one in found} <= {Severity.NOTE}
    assert all(one.fix and ("does nothing" in one.cost or paused) for one in found)


@pytest.mark.parametrize(
    ("version", "severity", "fix"),
    [
        (__version__, "ok", ""),
        ("0.1.0", "note", "hpcli cluster upgrade"),
        ("0.1.99", "note", "hpcli cluster upgrade"),
        ("99.10.0", "note", "install hpcli 99.10.0 here"),
    ],
)
def test_the_controllers_version(version: str, severity: str, fix: str) -> None:
    [found] = judge_controller(Care({}, version=version))
    assert (found.severity, found.fix) == (severity, fix)
    assert f"hpcli {version}" in found.found


NAMES = ("c1", "c2", "c3", "c4")
NEWEST, OLDER, AHEAD, FAR = Sender(), Sender("0.1.0", "", 1), Sender("9.0", "", PROTOCOL + 1), Sender("9.9", "", 9)


@pytest.mark.parametrize(
    ("agents", "expected"),
    [
        ([NEWEST] * 4, [f"ok 4 report, hpcli {__version__}"]),
        ([OLDER] * 4, ["ok 4 report", "note hpcli 0.1.0 on c[1-4]"]),
        (
            [NEWEST, OLDER, OLDER, NEWEST],
            ["ok 4 report", f"ok hpcli {__version__} on c[1,4]", "note hpcli 0.1.0 on c[2-3]"],
        ),
        ([NEWEST, NEWEST, NEWEST, AHEAD], ["ok 4 report", "note hpcli 9.0 on c4", f"ok hpcli {__version__} on c[1-3]"]),
        (
            [NEWEST, NEWEST, NEWEST, FAR],
            [
                f"wrong hpcli 9.9 on c4 speaks protocol 9, the controller {PROTOCOL}",
                f"ok 3 report, hpcli {__version__}",
            ],
        ),
    ],
)
def test_versions_of_agents(agents: Sequence[Sender], expected: list[str]) -> None:
    senders = dict(zip(NAMES, agents, strict=True))
    heard = {name: 990.0 for name, sender in senders.items() if sender is not FAR}
    found = list(judge_agents(Care(heard, agents=senders), NAMES, 1000.0))
    assert ("refused" in found[0].cost) is (FAR in agents)
    assert [f"{one.severity} {one.found}" for one in found] == expected
    assert all(one.fix == "hpcli cluster upgrade" and one.cost for one in found if one.severity is not Severity.OK)
    each = list(each_agent(Care(heard, agents=senders), NAMES))
    assert [(one.node, one.version, one.protocol) for one in each] == [
        (name, sender.version, sender.protocol) for name, sender in senders.items()
    ]
    assert [one.severity for one in each] == [
        {NEWEST: Severity.OK, FAR: Severity.WRONG}.get(sender, Severity.NOTE) for sender in agents
    ]


def test_a_silent_agents_version_says_nothing() -> None:
    care = Care({"c1": 990.0, "c2": 1.0}, agents={"c1": NEWEST, "c2": OLDER})
    found = [f"{one.severity} {one.found}" for one in judge_agents(care, ("c1", "c2"), 1000.0)]
    assert found == ["wrong 1 of 2 silent: c2", f"ok 1 report, hpcli {__version__}"]


def test_what_a_controller_of_the_first_release_tells() -> None:
    care = care_of({"received_at": {"c1": 990.0}, "breaker_open": "", "paused": "", "nodes": {}})
    assert (care.version, care.protocol, care.mode, care.agents) == ("0.1.0", 1, "act", {})
    [found] = judge_agents(care, ("c1",), 1000.0)
    assert (found.severity, found.found) == ("ok", "1 report")


class Machine:
    """A transport that repeats what programs said, by the beginning of their command line."""

    def __init__(self, said: Mapping[str, tuple[int, str, str]]) -> None:
        self.said = said
        self.asked: list[tuple[str, ...]] = []

    async def run(self, argv: Sequence[str], *, stdin: str = "", env: Any = None, timeout: float = 60.0) -> Completed:
        self.asked.append(tuple(argv))
        line = " ".join(argv)
        code, out, err = next((self.said[key] for key in self.said if line.startswith(key)), (127, "", "not found"))
        if code == 127:
            raise NotFound(argv[0], "no such program")
        return Completed(tuple(argv), code, out, err)


class Slurm:
    def __init__(self, error: HpcliError | None = None) -> None:
        self.error = error

    async def version(self) -> tuple[int, int]:
        return 24, 11

    async def nodes(self) -> tuple[Node, ...]:
        if self.error:
            raise self.error
        return (Node("c1", frozenset({"IDLE"}), addr="10.0.0.1"), Node("c2", frozenset({"DOWN"}), addr="10.0.0.2"))


class Controller:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def ask(self, what: str, **_: object) -> Any:
        assert what == "status"
        if isinstance(self.answer, HpcliError):
            raise self.answer
        return self.answer


def machine(**said: tuple[int, str, str]) -> Machine:
    own = (CASES / "24.11" / "own.txt").read_text()
    return Machine({"sh -c": (0, f"{AS_OF:.0f}\n{own}{AS_OF:.0f}\n", ""), "id": (0, "ada\n", ""), **said})


async def doctor(ground: Ground, slurm: Any = None) -> dict[str, Finding]:
    return {finding.subject: finding for finding in await examine(slurm or Slurm(), ground)}


async def test_a_machine_with_nothing_but_slurm() -> None:
    found = await doctor(Ground(machine()))
    assert [one for one in found.values() if not one.fine] == []
    assert found["slurmctld"].found == "answers; 1 of 2 nodes in service"
    assert found["controller"].fine
    assert found["clock"].severity is Severity.OK
    assert "munge" not in found


async def test_slurmctld_that_does_not_answer() -> None:
    found = await doctor(Ground(machine()), Slurm(Unreachable("Slurm", "connect failure", "is it up?")))
    assert [(one.subject, one.severity) for one in found.values()] == [("Slurm", "ok"), ("slurmctld", "wrong")]
    assert found["slurmctld"].fix == "is it up?"


async def test_munge_goes_both_ways() -> None:
    both = {"munge -n": (0, "MUNGE:x:", ""), "unmunge -n -N": (0, "STATUS:Success (0)\n", "")}
    found = await doctor(Ground(machine(**both)))
    assert found["munge"].severity is Severity.OK
    forged = {**both, "unmunge -n -N": (15, "", "unmunge: Error: Expired credential")}
    found = await doctor(Ground(machine(**forged)))
    assert (found["munge"].severity, found["munge"].found) == ("wrong", "unmunge: Error: Expired credential")


async def test_what_the_user_may_not_see_is_said() -> None:
    denied = "stat: cannot statx '/etc/munge/munge.key': Permission denied\n"
    found = await doctor(Ground(machine(stat=(1, "", denied))))
    assert found["not seen"].found == "user ada may not see /etc/munge/munge.key"


STATUS: dict[str, Any] = {"received_at": {"c1": AS_OF, "c2": AS_OF}, "breaker_open": "", "paused": ""}


@pytest.mark.parametrize(
    ("answer", "severity"),
    [
        ({**STATUS, "version": __version__}, "ok"),
        (STATUS, "note"),
        (Unreachable("controller", "connection refused", "start it"), "wrong"),
        (NotFound("hpcli", "no such program there"), "ok"),
    ],
)
async def test_the_controller(answer: Any, severity: str) -> None:
    found = await doctor(Ground(machine(), {}, Controller(answer)))
    assert found["controller"].severity == severity


async def test_versions_for_people_and_for_programs() -> None:
    agents = {node: {"version": __version__, "release": "abc", "protocol": PROTOCOL} for node in ("c1", "c2")}
    status = {**STATUS, "version": __version__, "protocol": PROTOCOL, "mode": "act", "agents": agents}
    found = await examine(Slurm(), Ground(machine(), {}, Controller(status)))  # type: ignore[arg-type]
    told = {one.subject: one.found for one in found}
    assert told["hpcli"] == f"{__version__} runs this command"
    assert told["controller"] == f"answers; hpcli {__version__}"
    assert told["agents"] == f"2 report, hpcli {__version__}"
    each = [one for one in found if isinstance(one, OneAgent)]
    assert [(one.node, one.version, one.release, one.protocol, one.fine) for one in each] == [
        (node, __version__, "abc", PROTOCOL, True) for node in ("c1", "c2")
    ]


@pytest.mark.parametrize(("provider", "ours"), [("adopted", True), ("hosts", False), ("", False)])
async def test_hpclis_lines_are_the_sites_to_add_where_it_owns_the_file(provider: str, ours: bool) -> None:
    status = {**STATUS, "version": __version__, "provider": provider}
    found = await examine(Slurm(), Ground(machine(), {}, Controller(status)))  # type: ignore[arg-type]
    [reboot] = [one for one in found if one.subject == "RebootProgram"]
    assert reboot.found == "/opt/hpcli/lifecycle/reboot" + " (set)" * ours
    for subject in ("Prolog", "nohold_on_prolog_fail"):
        assert [one.subject for one in found].count(subject) == 1


async def test_nothing_is_changed_and_no_node_asked_by_itself() -> None:
    seen = machine()
    await examine(Slurm(), Ground(seen))  # type: ignore[arg-type]
    programs = {argv[0] for argv in seen.asked}
    assert programs <= {"sh", "scontrol", "id", "munge", "unmunge", "cat", "stat", "df"}
    assert all("show" in argv for argv in seen.asked if argv[0] == "scontrol")
