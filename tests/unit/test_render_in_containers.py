"""The daemons of each Slurm series that we render for accept the examples: Debian's packages, in containers."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from slurm_trial import Said, listen, short_folder, write
from spec_site import EXAMPLES, SITES, Example

from hpcli.render.trial import trial_files

BUILD = Path(__file__).parents[2] / "docker-slurm" / "build.sh"
SERIES = sorted({example.series for example in EXAMPLES})


def engine_answers() -> bool:
    return shutil.which("docker") is not None and docker("info").returncode == 0


def docker(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *argv], capture_output=True, text=True)


MUNGE = """set -e
dd if=/dev/urandom of=/etc/munge/munge.key bs=128 count=1 2>/dev/null
chown munge: /etc/munge/munge.key && chmod 600 /etc/munge/munge.key
install -d -o munge -g munge -m 755 /run/munge && install -d /run/x
ln -s /run/munge/munge.socket.2 /run/x/munge.sock
exec setpriv --reuid munge --regid munge --clear-groups munged
"""
"""Slurm from 24.11 on starts nothing without munge. The second socket is the one of local sites."""

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(not engine_answers(), reason="skipped: no Docker engine answers"),
]


@dataclass(frozen=True)
class Box:
    """A container with one Slurm series; `folder` is /trial inside."""

    name: str
    folder: Path

    def run(self, *argv: str, user: str = "root", conf: str = "") -> subprocess.CompletedProcess[str]:
        return docker("exec", "--user", user, "--env", f"SLURM_CONF={conf}", self.name, *argv)

    def slurmctld(self, conf: str) -> Said:
        """Run it as the user of the files; a signal to docker's client would not reach it."""
        inside = ["sh", "-c", "echo $$ >/trial/pid; exec slurmctld -D"]
        argv = ["docker", "exec", "--user", "slurm", "--env", f"SLURM_CONF={conf}", self.name, *inside]
        return listen(argv, lambda: self.run("sh", "-c", "kill $(cat /trial/pid)"))


@contextmanager
def box(series: str) -> Iterator[Box]:
    built = subprocess.run([BUILD, series, "slurm"], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-3000:]
    name = f"hpcli-test-render-{uuid4().hex[:8]}"
    with short_folder() as folder:
        folder.chmod(0o777)
        made = docker(
            *("run", "--detach", "--rm", "--name", name, "--hostname", "here"),
            *("--add-host", "here:127.0.0.1", "--volume", f"{folder}:/trial", "--entrypoint", "sleep"),
            *(built.stdout.split()[-1], "infinity"),
        )
        assert made.returncode == 0, made.stderr
        try:
            munged = docker("exec", name, "sh", "-c", MUNGE)
            assert munged.returncode == 0, munged.stderr
            yield Box(name, folder)
        finally:
            # What daemons wrote there belongs to others than us.
            docker("exec", name, "sh", "-c", "rm -rf /trial/*")
            docker("rm", "--force", name)


@pytest.fixture(scope="module")
def boxes() -> Iterator[dict[str, Box]]:
    with box(SERIES[0]) as first, box(SERIES[1]) as second, box(SERIES[2]) as third:
        yield dict(zip(SERIES, (first, second, third), strict=True))


@pytest.fixture(params=EXAMPLES, ids=str)
def example(request: pytest.FixtureRequest) -> Example:
    found: Example = request.param
    return found


def put(files: dict[str, str], example: Example, there: Box) -> str:
    """Write files into the container, as the user that runs slurmctld; gives slurm.conf's path there."""
    folder = there.folder / str(example)
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    slurm_conf = re.sub(r"^(Slurmd?User)=someone$", r"\1=slurm", files["slurm.conf"], flags=re.MULTILINE)
    write({**files, "slurm.conf": slurm_conf}, folder)
    return f"/trial/{example}/slurm.conf"


def test_slurmctld_accepts_it_without_a_complaint(example, boxes):
    there = boxes[example.series]
    files = trial_files(example.render(), f"/trial/{example}", 7000, "here", "127.0.0.1")
    said = there.slurmctld(put(files, example, there))
    assert said.up, said.text
    assert said.complaints == []


def test_slurmd_finds_its_gpus(example, boxes):
    there, spec = boxes[example.series], example.spec()
    conf = put(example.render(), example, there)
    node = max(spec.nodes, key=lambda one: one.gpu_count)
    folder = SITES[example.site](spec, example.version).nodes[node.name].devices
    devices = " ".join(f"{folder}/nvidia{number}" for number in range(node.gpu_count))
    there.run("sh", "-c", f"mkdir -p {folder}; touch {devices} .")
    said = there.run("slurmd", "-G", "-N", node.name, "-f", conf)
    assert said.returncode == 0, said.stderr
    counts = re.findall(r"Gres Name=gpu Type=(\S+) Count=(\d+)", said.stdout + said.stderr)
    assert counts == ([(node.gpu_type, str(node.gpu_count))] if node.gpu_count else [])


@pytest.mark.parametrize("series", SERIES)
def test_slurmctld_reads_the_topology(series, boxes):
    example = next(one for one in EXAMPLES if one.name == "machines" and one.series == series)
    there, files = boxes[series], example.render()
    name = "topology.conf" if "topology.conf" in files else "topology.yaml"
    spoilt = files | {name: files[name].replace("leaf[1-2]", "leaf[1-9]")}
    made = trial_files(spoilt, f"/trial/{example}", 7000, "here", "127.0.0.1")
    said = there.slurmctld(put(made, example, there))
    assert not said.up
    assert any("leaf" in line for line in said.complaints), said.text
