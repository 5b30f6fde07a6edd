"""hpcli recovery against a real controller: what it shows, what it changes, what it answers when it is gone."""

import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.real_cluster import RealCluster
from tests.standing_cluster import hpcli, standing_cluster

pytestmark = pytest.mark.slurm

STEPS = ["drain", "reboot", "accept", "return"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    with standing_cluster(tmp_path_factory.mktemp("recovery"), nodes=2) as standing:
        yield standing


def test_before_anything_happened(cluster: RealCluster) -> None:
    found = hpcli("recovery", "status")
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "no repairs yet\n")
    data = json.loads(hpcli("recovery", "status", "--json").stdout)["data"]
    assert data == {"repairs": [], "faults": [], "breaker_open": "", "paused": ""}
    assert hpcli("recovery", "history").stderr == "no repairs yet\n"


def test_a_breaker_that_is_not_open(cluster: RealCluster) -> None:
    assert hpcli("recovery", "reset").stdout == "the breaker was not open\n"
    assert json.loads(hpcli("recovery", "reset", "--json").stdout)["data"] == {"was_open": False}


async def test_a_pause_is_told_and_holds_everything_back(cluster: RealCluster) -> None:
    assert (
        hpcli("recovery", "pause", "--reason", "switch maintenance").stdout == "recovery paused: switch maintenance\n"
    )
    assert "paused: switch maintenance\n" in hpcli("recovery", "status").stderr
    cluster.faults.lose_gpu("c1", broken=False)

    async def reported() -> bool:
        return bool((await cluster.ask("status"))["nodes"]["c1"]["incidents"])

    await cluster.until(reported, "the agent reports the fault")
    data = json.loads(hpcli("recovery", "status", "--json").stdout)["data"]
    assert data["repairs"] == []
    assert data["faults"][0].startswith("c1: xid79")
    assert hpcli("recovery", "resume").stdout == "recovery resumed\n"
    await cluster.until_closed()


def test_a_repair_is_shown_with_its_steps(cluster: RealCluster) -> None:
    [row] = json.loads(hpcli("recovery", "status", "--json").stdout)["data"]["repairs"]
    assert (row["node"], row["cause"], row["outcome"]) == ("c1", "xid79", "returned")
    assert [step for step in row["steps"].split() if step in STEPS] == STEPS
    line = hpcli("recovery", "status").stdout.split("\t")
    assert line[:3] == ["r1", "c1", "xid79"]


def test_its_history_tells_why_and_when(cluster: RealCluster) -> None:
    steps = json.loads(hpcli("recovery", "history", "c1", "--json").stdout)["data"]
    assert steps[0]["what"] == "found xid79"
    assert "fallen off the bus" in steps[0]["why"]
    assert steps[-1]["what"] == "returned"
    assert [step["at"] for step in steps] == sorted(step["at"] for step in steps)
    assert hpcli("recovery", "history", "c2").stderr == "no repairs yet\n"


@pytest.mark.parametrize("words", [("status",), ("history",), ("reset",), ("pause",), ("resume",)])
def test_a_cluster_that_nobody_has(words: tuple[str, ...]) -> None:
    found = hpcli("recovery", *words, "-C", "nope", "--json")
    assert found.returncode == 3
    assert json.loads(found.stdout)["errors"][0]["subject"] == "cluster nope"


def test_a_controller_that_is_gone(cluster: RealCluster) -> None:
    """Comes last."""
    pid = cluster.daemons.pid("controller")
    assert pid
    os.kill(pid, signal.SIGKILL)
    found = hpcli("recovery", "status")
    assert found.returncode == 4
    assert f"error: controller at 127.0.0.1:{cluster.record.ports.controller}" in found.stderr
    assert "hint: see: hpcli cluster status" in found.stderr
