"""decide() as a grid: tests/cases/recovery/*.yaml, one observation and the actions that must follow from it.

A case lists what differs from a healthy cluster c[1-8] at time 1000: node states, jobs, reports, journal.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ClusterShell.NodeSet import NodeSet

from hpcli.domain.action import Action, Close, OnJob, OnNodes, Open, OpenBreaker, Reach
from hpcli.domain.check import Incident, Remedy
from hpcli.domain.job import Job
from hpcli.domain.ledger import Ledger, Step, fold
from hpcli.domain.node import Node
from hpcli.domain.observation import Observation
from hpcli.domain.policy import Breaker, Budget, Policy
from hpcli.domain.recovery import decide
from hpcli.domain.report import Acceptance, NodeReport

CASES = Path(__file__).parents[1] / "cases" / "recovery"
NOW = 1000.0


def load() -> list[Any]:
    found = []
    for file in sorted(CASES.glob("*.yaml")):
        for name, case in yaml.safe_load(file.read_text()).items():
            found.append(pytest.param(case, id=f"{file.stem}: {name}"))
    return found


@pytest.mark.parametrize("case", load())
def test_decision(case: Mapping[str, Any]) -> None:
    seen, policy = observation(case), policy_of(case.get("policy", {}))
    found = [say(action) for action in decide(seen, policy)]
    assert found == case["expect"], f"policy {policy}"


def test_the_same_observation_gives_the_same_actions() -> None:
    for param in load():
        seen, policy = observation(param.values[0]), policy_of(param.values[0].get("policy", {}))
        assert decide(seen, policy) == decide(seen, policy)


def test_a_repair_remembers_the_jobs_that_it_may_evict_and_no_others() -> None:
    jobs = [{"id": "7", "nodes": "c3"}, {"id": "8", "nodes": "c3", "comment": "hpcli:no-evict"}]
    seen = observation({"jobs": jobs, "reports": {"c3": {"incidents": {"xid79": "reboot"}}}})
    [begun] = decide(seen, policy_of({}))
    assert isinstance(begun, Open)
    assert [[job.id for job in target.jobs] for target in begun.targets] == [["7"]]


def observation(case: Mapping[str, Any]) -> Observation:
    names = list(NodeSet(case.get("fleet", "c[1-8]")))
    jobs = [job_of(raw) for raw in case.get("jobs", [])]
    return Observation(
        now=NOW,
        nodes={name: node_of(name, case.get("nodes", {}).get(name, "IDLE")) for name in names},
        jobs={job.label: job for job in jobs},
        jobs_on={name: tuple(j for j in jobs if j.on_nodes and name in NodeSet(j.nodes)) for name in names},
        reports={name: r for name in names if (r := report_of(name, case.get("reports", {}).get(name, {})))},
        ledger=ledger_of(case.get("journal", [])),
        in_flight=frozenset((node, Step(step)) for node, step in case.get("in_flight", [])),
        can_replace=case.get("can_replace", True),
    )


def node_of(name: str, text: str) -> Node:
    states, _, reason = text.partition(" ")
    return Node(name, frozenset(states.split("+")), reason, slurmd_start_time=NOW)


def job_of(raw: Mapping[str, Any]) -> Job:
    defaults = {"label": raw["id"], "name": "train", "user": "u", "partition": "main", "state": "RUNNING"}
    return Job(**{**defaults, **raw})


def report_of(node: str, raw: Mapping[str, Any] | None) -> NodeReport | None:
    if raw is None:
        return None
    incidents = tuple(
        Incident(cause, f"{cause} seen", Remedy(remedy), remedy not in ("none", "drain"), True, NOW - 1)
        for cause, remedy in raw.get("incidents", {}).items()
    )
    accepted = raw.get("accepted")
    return NodeReport(
        node=node,
        boot_id=raw.get("boot", "b1"),
        instance_id=raw.get("instance", "i1"),
        seq=1,
        at=NOW,
        complete=raw.get("complete", True),
        incidents=incidents,
        acceptance=Acceptance("r1", accepted) if accepted is not None else None,
    )


def ledger_of(journal: Iterable[list[Any]]) -> Ledger:
    """Journal lines: [seconds ago, kind, {body}]; `at: c3` stands for nodes, r1 is the repair."""
    entries = []
    for number, (ago, kind, given) in enumerate(journal, 1):
        body = {"repair": "r1", "boot_id": "b1", "instance_id": "i1", **given}
        if "at" in body:
            body["nodes"] = list(NodeSet(body.pop("at")))
        if kind == "opened":
            body = {"cause": "xid79", "message": "lost", "evict": True, "remedy": "reboot", **body}
        entries.append((number, NOW - ago, kind, body))
    return fold(Ledger(), entries)


def policy_of(raw: Mapping[str, Any]) -> Policy:
    values: dict[str, Any] = {"start_interval": 0.0, **raw}
    values["budget"] = Budget(**raw.get("budget", {"nodes": 4}))
    values["breaker"] = Breaker(**raw.get("breaker", {"nodes": 4}))
    return Policy(**values)


def say(action: Action) -> str:
    if isinstance(action, Open):
        return f"open {action.repair} {hosts(t.node for t in action.targets)} {action.incident.cause}"
    if isinstance(action, OnNodes):
        return f"{action.step} {action.repair} {hosts(action.nodes)}"
    if isinstance(action, OnJob):
        return f"{action.step} {action.repair} job {action.job.id}"
    if isinstance(action, Reach):
        return f"reached {action.repair} {action.node} {action.milestone}"
    if isinstance(action, Close):
        return f"close {action.repair} {action.node} {action.outcome}"
    assert isinstance(action, OpenBreaker)
    return "open breaker"


def hosts(nodes: Iterable[str]) -> str:
    return str(NodeSet.fromlist(list(nodes)))
