"""A cluster in containers that is upgraded under a running job: hpcli itself, then Slurm by a newer Debian revision."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab import image

from tests.e2e.life import Cli, wait
from tests.e2e.worlds import docker

pytestmark = pytest.mark.docker

NAME = "uplift"
ROOT = Path(__file__).parents[2]
SERIES = "22.05"
SUFFIX = "+hpcli1"
SPEC = """
name: {name}
provider: docker
slurm: {{version: "{series}"}}
login: {{count: 1}}
compute:
  - {{name: cpu, count: 3, cpus: 2, memory: 1G}}
accounting: {{enabled: true}}
accounts: [{{name: lab, description: The lab}}]
users: [{{name: ada, uid: 2001, account: lab}}]
health: {{interval: 1s}}
packages: {{folder: "{packages}"}}
"""
JOB = """#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --output=/home/admin/job.out
while [[ ! -e /home/admin/go ]]; do sleep 0.2; done
srun hostname
"""
REVISION = """
set -euo pipefail
mkdir -p /work /out/debs && cd /work
mapfile -t names < <(dpkg-query -W -f '${db:Status-Status} ${source:Package} ${Package}\\n' |
    awk '$1 == "installed" && $2 == "slurm-wlm" { print $3 }')
apt-get -qq update
chmod 777 /work
apt-get -qq download "${names[@]}"
for deb in *.deb; do
    folder=${deb%.deb}.d
    dpkg-deb -R "$deb" "$folder"
    version=$(sed -n 's/^Version: //p' "$folder/DEBIAN/control")
    sed -i "s/^Version: .*/&$SUFFIX/; s/(= $version)/(= $version$SUFFIX)/g" "$folder/DEBIAN/control"
    dpkg-deb -Zgzip -z1 -b "$folder" /out/debs >/dev/null
done
"""


@dataclass(frozen=True)
class Standing:
    """A cluster that another hpcli, a copy of this one with another version, brought up; a job runs on it."""

    folder: Path
    old: Cli
    new: Cli
    job: str

    def sh(self, machine: str, script: str) -> str:
        return docker("exec", f"hpcli-{NAME}-{machine}", "bash", "-ceu", script)

    def state(self) -> tuple[str, int]:
        rows = [row for row in self.new("queue", "-C", NAME) if row["job"] == self.job]
        return (rows[0]["state"], rows[0]["restarts"]) if rows else ("gone", -1)

    def agents(self) -> dict[str, Any]:
        told = docker("exec", f"hpcli-{NAME}-controller", "hpcli", "ask", "status")
        answer = json.loads(told)["result"]
        return {node: one["version"] for node, one in answer["agents"].items()} | {"controller": answer["version"]}


def another(folder: Path, version: str, fault: str = "") -> Cli:
    """A copy of hpcli of another version; with `fault` its agent does not come up."""
    code = folder / f"hpcli-{version}"
    package = code / "hpcli"
    shutil.copytree(ROOT / "hpcli", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "version.py").write_text(f'"""The version."""\n\n__version__ = "{version}"\n')
    if fault:
        agent = package / "daemons" / "agent.py"
        agent.write_text(f'{agent.read_text()}\nraise RuntimeError("{fault}")\n')
    (code / "docker-slurm").symlink_to(ROOT / "docker-slurm")
    path = os.pathsep.join(filter(None, (str(code), os.environ.get("PYTHONPATH"))))
    # Without the folder that we are in, which holds another.
    return Cli(folder / "state", {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"})


@pytest.fixture(scope="module")
def revised(tmp_path_factory: pytest.TempPathFactory, engine: None) -> Path:
    """Slurm's very packages with a newer Debian revision, as a folder that `packages.folder` takes."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "wheels").mkdir()
    script = folder.parent / "revise.sh"
    script.write_text(REVISION)
    name = f"hpcli-{NAME}-revise"
    volumes = ("--volume", f"{script}:/revise.sh:ro", "--volume", f"{folder}:/out")
    options = ("--rm", "--name", name, "--env", f"SUFFIX={SUFFIX}", *volumes, "--entrypoint", "bash")
    docker("run", *options, image(SERIES), "/revise.sh")
    return folder


@pytest.fixture(scope="module")
def standing(revised: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    folder = tmp_path_factory.mktemp("uplift")
    (folder / "cluster.yaml").write_text(SPEC.format(name=NAME, series=SERIES, packages=revised))
    old, new = another(folder, "0.1.9"), another(folder, "0.2.8")
    try:
        old("cluster", "up", "-f", str(folder / "cluster.yaml"))
        (folder / "job.sh").write_text(JOB)
        job = str(new("submit", "--cluster", NAME, "--json", str(folder / "job.sh"))["job"])
        world = Standing(folder, old, new, job)
        wait("the job runs", lambda: world.state() == ("RUNNING", 0))
        yield world
    finally:
        new("cluster", "down", NAME, "--yes", code=None)


def test_a_dry_run_changes_nothing(standing: Standing) -> None:
    found = standing.new("cluster", "upgrade", NAME, "--dry-run")
    assert (found["before"], found["canary"], found["batches"]) == ("0.1.9", "c1", ["c2", "c3"])
    assert set(standing.agents().values()) == {"0.1.9"}


def test_a_canary_that_does_not_come_up_goes_back(standing: Standing) -> None:
    broken = another(standing.folder, "0.2.9", "the canary sings no more")
    error = broken("cluster", "upgrade", NAME, "--yes", code=1)["errors"][0]
    assert error["subject"] == "hpcli-agent of c1"
    assert "the canary sings no more" in error["message"], error
    assert "c1 has the hpcli of before again" in error["hint"], error
    wait("c1 reports again", lambda: standing.agents().get("c1") == "0.1.9")
    assert standing.agents() == {"controller": "0.2.9", "c1": "0.1.9", "c2": "0.1.9", "c3": "0.1.9"}
    assert standing.state() == ("RUNNING", 0)


def test_the_next_one_goes_on_from_there(standing: Standing) -> None:
    done = standing.new("cluster", "upgrade", NAME, "--yes", "--batch", "2")
    assert (done["canary"], done["batches"], done["login"]) == ("c1", ["c[2-3]"], "login1")
    print({turn["hosts"]: turn["seconds"] for turn in done["turns"]})
    assert set(standing.agents().values()) == {done["version"]}
    assert standing.state() == ("RUNNING", 0)
    assert standing.new("cluster", "upgrade", NAME, "--yes")["turns"] == []
    assert standing.new("cluster", "plan", "-f", str(standing.folder / "cluster.yaml"))["changes"] == []


def test_slurm_within_its_series(standing: Standing) -> None:
    before = standing.new("cluster", "upgrade", NAME, "--slurm", "--dry-run")
    assert before["slurm"].endswith(SUFFIX)
    assert not [one for one in before["before"].values() if one.endswith(SUFFIX)]
    done = standing.new("cluster", "upgrade", NAME, "--yes", "--slurm", before["slurm"])
    print({turn["hosts"]: turn["seconds"] for turn in done["turns"]})
    assert standing.state() == ("RUNNING", 0)
    for machine in ("controller", "login1", "c1", "c2", "c3"):
        assert standing.sh(machine, "dpkg-query -W -f '${Version}' slurm-client") == before["slurm"], machine
    tables = standing.sh("controller", f"gzip -cd {done['dump']} | grep '^CREATE TABLE'")
    assert f"{NAME}_job_table" in tables and "acct_table" in tables
    assert standing.sh("controller", f"stat -c '%a %U' {done['dump']}; ls {done['state']}/job_state").startswith(
        "600 root"
    )
    assert standing.new("cluster", "drift", NAME) == []


def test_there_is_nothing_newer_then(standing: Standing) -> None:
    assert standing.new("cluster", "upgrade", NAME, "--yes", "--slurm")["turns"] == []


def test_another_series_is_refused_with_the_way(standing: Standing) -> None:
    error = standing.new("cluster", "upgrade", NAME, "--yes", "--slurm", "24.11.5", code=8)["errors"][0]
    assert "build new machines with Slurm 24.11" in error["hint"]


def test_the_job_that_ran_over_all_of_it_finishes(standing: Standing) -> None:
    """Its second half starts a step through the new slurmd."""
    standing.sh("c1", "touch /home/admin/go")
    ended = f"sacct -n -X -P -j {standing.job} -o State"

    def over() -> bool:
        return standing.sh("controller", ended).split() == ["COMPLETED"]

    wait("the job is in the accounting as completed", over)
    assert standing.sh("c1", "sort /home/admin/job.out").split() == ["c1", "c2"]
