"""Sixteen compute nodes in containers from nothing to all idle, every lifecycle script run; a plain cluster beside it.

./run bench docker [--series 24.11] [--nodes 16] [--strict]
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpcli import app, app_remote
from hpcli.spec.load import parse_spec
from tests.bench.figures import Report, quantile

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "docker-slurm"
NAME = "jbench"
PEER_NODES = 4
LIMIT = 90.0
GIVE_UP = 300.0
SPEC = """
name: {name}
provider: docker
slurm: {{version: "{series}"}}
login: {{count: 1}}
compute: [{{name: cpu, nodes: "c[1-{nodes}]", cpus: 2, memory: 1G}}]
accounting: {{enabled: {accounting}}}
"""


@dataclass(slots=True)
class Stamped:
    """Notes when the machines had been made: bootstraps begin with a push."""

    pushing: float = 0.0
    steps: list[str] = field(default_factory=list)

    def step(self, text: str) -> None:
        self.steps.append(text)
        if not self.pushing and text.endswith("pushing hpcli"):
            self.pushing = time.monotonic()


def write_spec(folder: Path, series: str, nodes: int, *, accounting: bool) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(SPEC.format(name=NAME, series=series, nodes=nodes, accounting=str(accounting).lower()))
    return path


@dataclass(frozen=True, slots=True)
class Up:
    """Seconds of one `up`: all of it, until containers answer, and each machine's bootstrap."""

    whole: float
    answering: float
    machines: Mapping[str, float]


def up(path: Path) -> Up:
    text, progress = path.read_text(), Stamped()
    work = app_remote.build(parse_spec(text, str(path)), text, progress, app.clock())
    began = time.monotonic()
    asyncio.run(app_remote.bring_up(work, app.clock()))
    return Up(time.monotonic() - began, progress.pushing - began, dict(work.machines.seconds))


def hpcli(*words: str) -> tuple[float, str]:
    """Seconds that a person waits for a command, its interpreter's start included, and what it says."""
    began = time.monotonic()
    argv = [sys.executable, "-m", "hpcli", "cluster", *words, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT)
    return time.monotonic() - began, done.stdout


def no_change(path: Path, *words: str) -> float:
    seconds, said = hpcli(*words, "-f", str(path))
    assert json.loads(said)["data"]["changes"] == [], said
    return seconds


def measure(report: Report, folder: Path, series: str, nodes: int) -> None:
    path = write_spec(folder, series, nodes, accounting=False)
    try:
        took = up(path)
        report.add(f"up_{nodes}_nodes", took.whole, "s", LIMIT)
        report.add("containers_answer", took.answering, "s")
        machines = list(took.machines.values())
        report.add("bootstrap_median", quantile(machines, 0.5), "s")
        report.add("bootstrap_max", max(machines), "s")
        report.add("plan", no_change(path, "plan"), "s")
        report.add("apply_without_change", no_change(path, "apply", "--yes"), "s")
    finally:
        report.add(f"down_{nodes}_nodes", hpcli("down", NAME, "--yes")[0], "s")


def beside_the_peer(report: Report, folder: Path, series: str) -> None:
    """The plain cluster of compose.yaml, and ours of the same size: database, login node, four compute nodes."""
    path = write_spec(folder, series, PEER_NODES, accounting=True)
    try:
        report.add(f"up_{PEER_NODES}_nodes_accounting", up(path).whole, "s")
    finally:
        hpcli("down", NAME, "--yes")
    compose = shutil.which("docker-compose")
    seconds = peer(compose, series) if compose else None
    if seconds is None:
        print("peer missing", flush=True)
    report.add(f"peer_compose_{PEER_NODES}_nodes", seconds, "s")


def peer(compose: str, series: str) -> float | None:
    """Seconds until its nodes are idle; None when they do not become so."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "SLURM_SERIES": series, "SSH_PORT": port, "HPCLI_AUTHORIZED_KEY": ""}
    argv = [compose, "--project-name", f"{NAME}-peer", "--file", str(SITE / "compose.yaml")]
    began = time.monotonic()
    try:
        subprocess.run([*argv, "up", "--detach"], env=environment, check=True, capture_output=True)
        login = subprocess.run(
            [*argv, "ps", "-q", "login"], env=environment, check=True, capture_output=True, text=True
        )
        while time.monotonic() - began < GIVE_UP:
            if idle(login.stdout.strip()) == PEER_NODES:
                return time.monotonic() - began
            time.sleep(0.1)
        return None
    except subprocess.CalledProcessError as error:
        print(f"peer: {error}: {error.stderr}", file=sys.stderr)
        return None
    finally:
        subprocess.run([*argv, "down", "--volumes"], env=environment, check=False, capture_output=True)


def idle(container: str) -> int:
    argv = ["docker", "exec", container, "sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"]
    return len(subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--series", default="24.11", help="Slurm's series: 22.05, 24.11 or 26.05")
    parser.add_argument("--nodes", type=int, default=16, help="how many compute nodes")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a figure falls short")
    options = parser.parse_args()
    report = Report("docker", notes={"series": options.series})
    # The image is there before: what is measured are machines, not downloads.
    for stage in ("slurm", "stock"):
        subprocess.run([SITE / "build.sh", options.series, stage], check=True, capture_output=True)
    with tempfile.TemporaryDirectory(prefix="hpcli-bench-") as name:
        folder = Path(name)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        measure(report, folder, options.series, options.nodes)
        beside_the_peer(report, folder, options.series)
    return report.finish(sys.argv)


if __name__ == "__main__":
    sys.exit(main())
