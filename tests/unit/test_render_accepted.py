"""The real slurmctld accepts what we render, as whoever runs the tests."""

import dataclasses
import getpass
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from spec_site import example_site

from hpcli.render.site import Endpoint, NodeSite, SlurmSite
from hpcli.render.slurm import render_slurm
from hpcli.spec.load import load_spec, parse_spec
from hpcli.spec.model import Spec

SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
PROGRAMS = ("munged", "slurmctld", "scontrol", "sinfo")
ROOT = Path(__file__).parents[2]
LIMIT = 20.0

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not all(shutil.which(p, path=SBIN) for p in PROGRAMS), reason="skipped: no Slurm programs"),
]


def program(name: str) -> str:
    found = shutil.which(name, path=SBIN)
    assert found is not None
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def installed_version() -> tuple[int, int]:
    said = subprocess.run([program("slurmctld"), "-V"], capture_output=True, text=True, check=True).stdout
    year, month = re.findall(r"\d+", said)[:2]
    return int(year), int(month)


def local_site(spec: Spec, folder: Path) -> SlurmSite:
    host = socket.gethostname().split(".")[0]
    ports = [free_port() for _ in range(len(spec.node_names) + 1)]
    nodes = zip(spec.node_names, ports[1:], strict=True)
    return dataclasses.replace(
        example_site(spec, installed_version()),
        user=getpass.getuser(),
        controller=Endpoint(host, "127.0.0.1", ports[0]),
        nodes={name: NodeSite(host, "127.0.0.1", port, str(folder / "dev")) for name, port in nodes},
        munge_socket=str(folder / "munge.sock"),
        state=str(folder / "state"),
        spool=f"{folder}/s/%n",
        slurmctld_log=str(folder / "slurmctld.log"),
        slurmctld_pid=str(folder / "slurmctld.pid"),
        slurmd_log=f"{folder}/slurmd-%n.log",
        slurmd_pid=f"{folder}/slurmd-%n.pid",
        prolog="/bin/true",
    )


@contextmanager
def running(argv: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    with (folder / "out").open("ab") as out:
        process = subprocess.Popen(argv, env=environment, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answer(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    return subprocess.run([program(argv[0]), *argv[1:]], env=environment, capture_output=True, text=True, timeout=LIMIT)


def wait_for(folder: Path, process: subprocess.Popen[bytes], ready) -> None:
    deadline = time.monotonic() + LIMIT
    while not ready():
        log = folder / "slurmctld.log"
        said = (folder / "out").read_text() + (log.read_text() if log.exists() else "")
        assert process.poll() is None and time.monotonic() < deadline, said[-3000:]
        time.sleep(0.02)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hc", dir="/tmp") as name:
        yield Path(name)


@contextmanager
def slurmctld(spec: Spec, folder: Path) -> Iterator[int]:
    """A throw-away munged and slurmctld with the rendered files; gives slurmctld's port."""
    site = local_site(spec, folder)
    for name, text in render_slurm(spec, site).items():
        (folder / name).write_text(text)
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    names = {"pid-file": "munge.pid", "seed-file": "munge.seed", "log-file": "munge.log", "key-file": "munge.key"}
    options = [f"--{option}={folder / file}" for option, file in names.items()]
    munged = [program("munged"), "--foreground", "--force", f"--socket={site.munge_socket}", *options]
    with running(munged, folder) as munge:
        wait_for(folder, munge, Path(site.munge_socket).exists)
        with running([program("slurmctld"), "-D", "-f", str(folder / "slurm.conf")], folder) as controller:
            wait_for(folder, controller, lambda: "is UP" in answer(folder, "scontrol", "ping").stdout)
            yield site.controller.port


def test_the_starting_file(folder):
    spec = load_spec(ROOT / "templates" / "clusters" / "local.yaml")
    with slurmctld(spec, folder):
        config = answer(folder, "scontrol", "show", "config").stdout
        assert re.search(r"ClusterName\s+= demo", config)
        assert re.search(r"ReturnToService\s+= 1", config)
        assert answer(folder, "sinfo", "-h", "-o", "%P %D %N %G").stdout.split() == [
            "main*",
            "8",
            "c[1-8]",
            "gpu:h100:8",
        ]
        weights = answer(folder, "sinfo", "-h", "-N", "-o", "%N %w").stdout.split()
        assert weights[-4:] == ["c7", "1000001", "c8", "1000001"]
    assert "error" not in (folder / "slurmctld.log").read_text()


def test_names_groups_features_and_partitions(folder):
    spec = parse_spec(
        "name: lab\ncompute:\n"
        '- {name: gpu, nodes: "gpu[08-11]", cpus: 16, memory: 64G, gpus: {type: a100, count: 4}, features: [nvlink, ib]}\n'
        '- {name: rack, nodes: "r[1-2]-n[1-2],x-ib", cpus: 2, memory: 2G, gpus: {type: t4, count: 1}}\n'
        "- {name: cpu, count: 2}\n"
        "partitions:\n- {name: g.pu, groups: [gpu], max_time: 2-00:00:00}\n- {name: all, default: true, max_time: 12:00:00}\n",
        "cluster.yaml",
    )
    with slurmctld(spec, folder):
        rows = answer(folder, "sinfo", "-h", "-N", "-p", "all", "-o", "%N %c %m %f %G").stdout.splitlines()
        parts = answer(folder, "sinfo", "-h", "-s", "-o", "%P %l %D").stdout.splitlines()
    found = {row.split()[0]: row.split()[1:] for row in rows}
    assert set(found) == set(spec.node_names)
    assert found["gpu08"] == ["16", "65536", "nvlink,ib", "gpu:a100:4"]
    assert found["r2-n1"] == ["2", "2048", "(null)", "gpu:t4:1"]
    assert found["c2"] == ["1", "1024", "(null)", "(null)"]
    assert parts == ["g.pu 2-00:00:00 4", "all* 12:00:00 11"] or parts == ["all* 12:00:00 11", "g.pu 2-00:00:00 4"]


def test_slurmctld_listens_on_loopback_only(folder):
    with slurmctld(parse_spec("name: a\ncompute: [{name: n, count: 1}]", "x"), folder) as port:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        listening = [row[1] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port]
    own = {socket.inet_aton(address)[::-1].hex().upper() for address in loopback_of_this_host()}
    assert listening and all(address.split(":")[0] in own for address in listening)


def loopback_of_this_host() -> list[str]:
    return ["127.0.0.1", "127.0.1.1"]
