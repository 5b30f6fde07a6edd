"""Two releases side by side, as in a rolling upgrade: the released daemons themselves against those of today."""

import asyncio
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpcli import app
from hpcli.domain.report import PROTOCOL, NodeReport, to_dict
from hpcli.domain.settings import Address
from hpcli.providers.local.build import start_hpcli
from hpcli.store.sqlite import SqliteStore
from hpcli.transport.channel import connect
from hpcli.version import __version__
from tests.real_cluster import RealCluster
from tests.standing_cluster import hpcli, standing_cluster

pytestmark = pytest.mark.slurm

ARCHIVE = Path(__file__).parents[1] / "releases" / "hpcli-0.1.0.tar.xz"
NODES = {"c1", "c2", "c3", "c4"}
IGNORE_TERM = "srun --mpi=none bash -c 'trap \"\" TERM; while true; do sleep 1; done'"

PRUNE = """
import json, sys
from dataclasses import fields
from pathlib import Path
from hpcli.domain import policy, settings

def known(kind, raw):
    return {one.name: raw[one.name] for one in fields(kind) if one.name in raw}

kind, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
raw = json.loads(source.read_text())
if kind == "agent":
    raw = known(settings.AgentSettings, raw)
    raw["nodes"] = [known(settings.AgentNode, node) for node in raw["nodes"]]
else:
    raw = known(settings.ControllerSettings, raw)
    raw["policy"] = known(policy.Policy, raw["policy"])
target.write_text(json.dumps(raw))
{"agent": settings.read_agent_settings, "controller": settings.read_controller_settings}[kind](target)
"""
"""For the old code: leave of a settings file what it knows, and read it."""


@dataclass(frozen=True)
class Released:
    """An unpacked release. Its modules must come before those of this checkout, which lie in the working folder."""

    folder: Path

    def python(self, *args: str) -> list[str]:
        return ["/usr/bin/env", f"PYTHONPATH={self.folder}", sys.executable, "-P", *args]

    def run(self, *args: str) -> str:
        done = subprocess.run(self.python(*args), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def daemon(self, cluster: RealCluster, kind: str) -> list[str]:
        """The old daemon's command line, with settings that it can read."""
        settings = self.folder / f"{kind}.json"
        self.run("-c", PRUNE, kind, str(cluster.layout.etc / f"{kind}.json"), str(settings))
        return self.python("-m", "hpcli", kind, "--config", str(settings))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Released:
    folder = tmp_path_factory.mktemp("released")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    released = Released(folder)
    assert released.run("-c", "import hpcli.version as v; print(v.__version__, v.__file__)").split() == [
        "0.1.0",
        str(folder / "hpcli" / "version.py"),
    ]
    return released


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    with standing_cluster(tmp_path_factory.mktemp("versions"), nodes=4) as standing:
        yield standing


@contextmanager
def swapped(cluster: RealCluster, daemon: str, argv: Sequence[str]) -> Iterator[None]:
    """Another release's daemon in place of today's, which comes back at the end."""
    cluster.daemons.stop([daemon])
    cluster.daemons.start(daemon, argv)
    try:
        yield
    finally:
        cluster.daemons.stop([daemon])
        start_hpcli(cluster.layout, cluster.record, cluster.daemons)


async def status(cluster: RealCluster) -> dict[str, Any]:
    """{} while no controller answers."""
    try:
        return dict(await cluster.ask("status"))
    except Exception:  # noqa: BLE001 - any refusal means: not yet
        return {}


async def until_reporting(cluster: RealCluster, version: str) -> dict[str, Any]:
    async def all_of_them() -> dict[str, Any]:
        found = await status(cluster)
        versions = {node: sender["version"] for node, sender in found.get("agents", {}).items()}
        return found if versions == dict.fromkeys(NODES, version) else {}

    return dict(await cluster.until(all_of_them, f"all agents report with {version}"))


async def until_heard_anew(cluster: RealCluster) -> dict[str, Any]:
    """By whichever controller there is now: it must have begun with no report at all."""

    async def whole() -> dict[str, Any]:
        found = await status(cluster)
        return found if set(found.get("nodes", {})) == NODES else {}

    return dict(await cluster.until(whole, "the controller has a report of every node"))


def doctor(*args: str) -> list[dict[str, Any]]:
    found = hpcli("doctor", "-C", "it", "-v", "--json", *args)
    return list(json.loads(found.stdout)["data"])


def of(findings: list[dict[str, Any]], subject: str) -> list[tuple[str, str, str]]:
    return [(one["severity"], one["found"], one["fix"]) for one in findings if one["subject"] == subject]


async def outcomes(cluster: RealCluster) -> list[str]:
    return [str(body["outcome"]) for body in await cluster.kinds("closed")]


async def steps(cluster: RealCluster, repair: str) -> list[str]:
    return [str(body["step"]) for body in await cluster.kinds("done") if body["repair"] == repair]


async def test_agents_and_controller_of_today_say_who_they_are(cluster: RealCluster) -> None:
    found = await until_reporting(cluster, __version__)
    assert (found["version"], found["protocol"], found["mode"]) == (__version__, PROTOCOL, "act")
    findings = doctor()
    assert of(findings, "hpcli") == [("ok", f"{__version__} runs this command", "")]
    assert of(findings, "controller") == [("ok", f"answers; hpcli {__version__}", "")]
    assert of(findings, "agents") == [("ok", f"4 report, hpcli {__version__}", "")]
    each = {one["node"]: (one["version"], one["protocol"]) for one in findings if one["subject"] == "agent"}
    assert each == dict.fromkeys(NODES, (__version__, PROTOCOL))
    people = [line.split("\t")[1:3] for line in hpcli("doctor", "-C", "it", "-v").stdout.splitlines()]
    assert [found for subject, found in people if subject.startswith("agent")] == [f"4 report, hpcli {__version__}"]


async def test_an_agent_one_release_older(cluster: RealCluster, old: Released) -> None:
    """Its reports count, a fault that it reports is acted on, and kill, accept and gate reach it."""
    with swapped(cluster, "agent", old.daemon(cluster, "agent")):
        found = await until_reporting(cluster, "0.1.0")
        assert {sender["protocol"] for sender in found["agents"].values()} == {1}
        findings = doctor()
        assert of(findings, "agents") == [
            ("note", "hpcli 0.1.0 on c[1-4]", "hpcli cluster upgrade"),
            ("ok", "4 report", ""),
        ]

        job_id = await cluster.submit(IGNORE_TERM, "--nodes=3")
        job = await cluster.until_running(job_id)
        assert "c2" in app_nodes(job.nodes)
        cluster.faults.lose_gpu("c2", broken=False)
        await cluster.until_running(job_id, restarts=1, limit=20)
        await cluster.until_closed(limit=60)
        taken = await steps(cluster, "r1")
        assert set(taken) >= {"drain", "requeue", "kill", "reboot", "accept", "return"}
        assert "processes of job" in cluster.daemons.output("agent").read_text()
        await cluster.gateway.cancel([job_id])

        await cluster.ask("pause", reason="the gate")
        cluster.faults.lose_gpu("c3", broken=False)
        await cluster.until(lambda: has_fault(cluster, "c3"), "the fault is reported")
        verdict = cluster.layout.node("c3") / "verdict"
        await cluster.until(lambda: verdict.read_text() == "ok\n", "the gate is open")
        cluster.daemons.stop(["agent"])
        last = (await status(cluster))["nodes"]["c3"]["seq"]
        cluster.daemons.start("agent", old.daemon(cluster, "agent"))
        await cluster.until(lambda: has_fault(cluster, "c3", last), "the fault is reported again")
        await cluster.until(lambda: verdict.read_text() == "ok\n", "an agent that has just come is told too")
        await cluster.ask("resume")
        await cluster.until_closed(count=2, limit=60)
    await until_reporting(cluster, __version__)


async def has_fault(cluster: RealCluster, node: str, after: int = 0) -> bool:
    """Whether the newest report says so, if its number is above that one."""
    report = (await status(cluster))["nodes"][node]
    return bool(report["incidents"]) and report["seq"] > after


def app_nodes(hostlist: str) -> set[str]:
    from ClusterShell.NodeSet import NodeSet

    return set(NodeSet(hostlist))


async def test_a_controller_one_release_older_then_back(cluster: RealCluster, old: Released) -> None:
    """It takes today's reports and goes on with today's journal, and today's controller with its."""
    before = len(await cluster.journal())
    ended = len(await outcomes(cluster))
    with swapped(cluster, "controller", old.daemon(cluster, "controller")):
        found = await until_heard_anew(cluster)
        assert "version" not in found
        assert of(doctor(), "controller") == [
            ("note", f"answers; hpcli 0.1.0, here {__version__}", "hpcli cluster upgrade"),
        ]
        cluster.faults.lose_gpu("c2", broken=False)
        await cluster.until_closed(count=ended + 1, limit=60)
        theirs = await cluster.journal()
        assert set(await steps(cluster, f"r{ended + 1}")) >= {"drain", "reboot", "accept", "return"}
        assert len(theirs) > before, "it goes on where today's stopped"
        cluster.daemons.stop(["controller"])
        store = SqliteStore(cluster.layout.journal)
        store.append("forecast", {"repair": f"r{ended + 1}", "nodes": ["c2"], "step": "teleport"}, 1.0)
        store.close()
    await until_heard_anew(cluster)
    assert (await cluster.journal())[: len(theirs)] == theirs
    assert "entries of unknown kinds are passed over: forecast" in log_of(cluster)
    for verb in ("status", "history"):
        shown = hpcli("recovery", verb, "-C", "it")
        assert (shown.returncode, "forecast" in shown.stdout) == (0, False), shown.stderr
        assert f"r{ended + 1}" in shown.stdout
    cluster.faults.lose_gpu("c3", broken=False)
    await cluster.until_closed(count=ended + 2, limit=60)
    assert (await cluster.kinds("opened"))[-1]["repair"] == f"r{ended + 2}"


def log_of(cluster: RealCluster) -> str:
    return cluster.daemons.output("controller").read_text()


@pytest.mark.parametrize("protocol", [PROTOCOL + 2, 0])
async def test_a_protocol_two_away_is_refused_with_words(cluster: RealCluster, protocol: int) -> None:
    report = to_dict(NodeReport("c4", "forged", "i", 1 << 62, 1.0, complete=True))
    message = {"kind": "report", "protocol": protocol, "version": "0.9.0", "release": "abc", "reports": [report]}
    address = Address("127.0.0.1", cluster.record.ports.controller)
    channel = await connect(address, app.credentials(str(cluster.layout.munge_socket)))
    await channel.send(message)
    claim, order = await asyncio.wait_for(channel.receive(), 10)
    await channel.close()
    why = f"report in protocol {protocol} of hpcli 0.9.0, expected {PROTOCOL - 1} to {PROTOCOL + 1}"
    assert claim.uid == os.getuid()
    assert order == {"order": "refused", "protocol": PROTOCOL, "version": __version__, "why": why}
    assert any(why in str(body["refused"]) for body in await cluster.kinds("audit"))
    assert (await cluster.ask("status"))["nodes"]["c4"]["boot_id"] != "forged"
