"""The life of one cluster, told through the command line alone, the same for every provider.

up, submit, fail a node, replace it, scale by two, change a parameter, down; plans and drift in between.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ClusterShell.NodeSet import NodeSet

NAME = "life"
JOB = """#!/bin/bash
#SBATCH --nodes=2 --requeue --open-mode=append --output={output}
echo "run ${{SLURM_RESTART_COUNT:-0}} on $SLURM_JOB_NODELIST"
srun --kill-on-bad-exit=1 sleep 3600
"""


class World(Protocol):
    """What differs between providers: the spec's text, where jobs may write, and how a node breaks for good."""

    spec: str
    output: str

    def break_node(self, node: str) -> None:
        """Take a GPU away so that no reboot brings it back: only another machine helps."""
        ...

    def hand_edit(self, old: str, new: str) -> None:
        """Change a word of slurm.conf on the controller's machine behind hpcli's back."""
        ...

    def left_over(self) -> list[str]:
        """What is still there of the cluster after `down`."""
        ...


@dataclass
class Cli:
    """Runs hpcli as a person would, with a home of the test's own."""

    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *args: str, code: int | None = 0, limit: float = 600) -> Any:
        """Run one command with --json and give its data; `code` None takes any exit code."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "HPCLI"))}
        done = subprocess.run(
            [sys.executable, "-m", "hpcli", *args, "--json"],
            env={**clean, "XDG_STATE_HOME": str(self.home), **self.environment},
            capture_output=True,
            text=True,
            timeout=limit,
        )
        assert code is None or done.returncode == code, (
            f"hpcli {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        answer = json.loads(done.stdout)
        return answer["data"] if code == 0 else answer


def wait(what: str, found: Callable[[], Any], limit: float = 60.0) -> Any:
    deadline = time.monotonic() + limit
    seen: Any = None
    while time.monotonic() < deadline:
        seen = found()
        if seen:
            return seen
        time.sleep(0.3)
    raise AssertionError(f"not within {limit:g} s: {what}")


def live(world: World, cli: Cli, folder: Path) -> dict[str, float]:
    """Live through it all; the seconds of each chapter."""
    seconds: dict[str, float] = {}
    spec = folder / "cluster.yaml"
    spec.write_text(world.spec)

    def chapter(name: str, began: float) -> None:
        seconds[name] = round(time.monotonic() - began, 1)
        print(f"  {name}: {seconds[name]} s", flush=True)

    began = time.monotonic()
    up = cli("cluster", "up", "-f", str(spec))
    assert up["nodes"] == 4
    chapter("up", began)
    nothing_to_change(cli, spec)

    began = time.monotonic()
    job = submit(world, cli, folder)
    first = running(cli, job, restarts=0)
    assert first["where"] == "c[1-2]", first
    chapter("submit", began)

    began = time.monotonic()
    world.break_node("c2")
    running(cli, job, restarts=1, limit=120)
    chapter("running again", began)
    wait("c2 replaced and back", lambda: repaired(cli, "c2"), 240)
    chapter("replaced", began)
    nothing_to_change(cli, spec)

    began = time.monotonic()
    cli("cluster", "scale", "gpu", "+2", "-f", str(spec), "--yes")
    assert len(nodes(cli)) == 6
    running(cli, job, restarts=1)
    assert nodes(cli)["c6"] == "idle"
    chapter("scale by two", began)

    began = time.monotonic()
    spec.write_text(spec.read_text() + "slurm_conf: {MessageTimeout: 33}\n")
    plan = cli("cluster", "plan", "-f", str(spec))
    assert any("MessageTimeout" in change["what"] for change in plan["changes"]), plan
    cli("cluster", "apply", "-f", str(spec), "--yes")
    running(cli, job, restarts=1)
    chapter("change a parameter", began)
    nothing_to_change(cli, spec)

    world.hand_edit("MessageTimeout=33", "MessageTimeout=44")
    drift = cli("cluster", "drift", "-f", str(spec), code=1)["data"]
    edit = drift[0]
    assert edit["path"].endswith("slurm.conf") and edit["line"] > 1 and "44" in edit["found"], drift
    assert cli("cluster", "apply", "-f", str(spec), "--yes", code=8)["errors"][0]["code"] == "unsafe"
    cli("cluster", "apply", "-f", str(spec), "--yes", "--on-drift", "overwrite")
    nothing_to_change(cli, spec)

    began = time.monotonic()
    cli("cancel", job, "-C", NAME)
    cli("cluster", "down", NAME, "--yes")
    chapter("down", began)
    assert world.left_over() == []
    return seconds


def nothing_to_change(cli: Cli, spec: Path) -> None:
    plan = cli("cluster", "plan", "-f", str(spec))
    assert plan["changes"] == [], plan
    applied = cli("cluster", "apply", "-f", str(spec), "--yes")
    assert applied["changes"] == [], applied
    assert cli("cluster", "drift", "-f", str(spec)) == []


def submit(world: World, cli: Cli, folder: Path) -> str:
    script = folder / "job.sh"
    script.write_text(JOB.format(output=world.output))
    return str(cli("submit", "--cluster", NAME, "--json", str(script))["job"])


def running(cli: Cli, job: str, *, restarts: int, limit: float = 60.0) -> Mapping[str, Any]:
    def found() -> Any:
        rows = [row for row in cli("queue", "-C", NAME) if row["job"] == job]
        return rows[0] if rows and rows[0]["state"] == "RUNNING" and rows[0]["restarts"] == restarts else None

    row: Mapping[str, Any] = wait(f"job {job} runs with {restarts} restarts", found, limit)
    return row


def nodes(cli: Cli) -> dict[str, str]:
    """Every node's first state word."""
    found: dict[str, str] = {}
    for row in cli("nodes", "-C", NAME):
        found.update(dict.fromkeys(NodeSet(row["nodes"]), row["state"]))
    return found


def repaired(cli: Cli, node: str) -> bool:
    repairs = [
        one for one in cli("recovery", "status", "-C", NAME, code=None)["data"]["repairs"] if one["node"] == node
    ]
    return bool(repairs) and repairs[-1]["outcome"] == "returned" and "replace" in repairs[-1]["steps"]
