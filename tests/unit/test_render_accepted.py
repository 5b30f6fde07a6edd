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
from spec_site import PASSWORD, example_site

from hpcli.render.site import AccountingSite, Endpoint, NodeSite, SlurmSite
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


LAB = """
name: lab
compute:
- {name: gpu, nodes: "gpu[08-11]", cpus: 16, memory: 64G, gpus: {type: a100, count: 4}, features: [nvlink, ib]}
- {name: rack, nodes: "r[1-2]-n[1-2],x-ib", cpus: 2, memory: 2G, gpus: {type: t4, count: 1}}
- {name: cpu, count: 2}
partitions:
- {name: g.pu, groups: [gpu], max_time: 2-00:00:00}
- {name: all, default: true, max_time: 12:00:00}
"""


def program(name: str) -> str:
    found = shutil.which(name, path=SBIN)
    assert found is not None
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((own_address(), 0))
        return int(probe.getsockname()[1])


def own_address() -> str:
    """NoInAddrAny and NoCtldInAddrAny bind to what gethostname() resolves to: 127.0.1.1 on a stock Debian."""
    return socket.gethostbyname(socket.gethostname())


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
        controller=Endpoint(host, own_address(), ports[0]),
        nodes={name: NodeSite(host, own_address(), port, str(folder / "dev")) for name, port in nodes},
        munge_socket=str(folder / "munge.sock"),
        state=str(folder / "state"),
        spool=f"{folder}/s/%n",
        slurmctld_log=str(folder / "slurmctld.log"),
        slurmctld_pid=str(folder / "slurmctld.pid"),
        slurmd_log=f"{folder}/slurmd-%n.log",
        slurmd_pid=f"{folder}/slurmd-%n.pid",
        prolog="/bin/true",
        accounting=AccountingSite(
            free_port(), getpass.getuser(), "slurm", str(folder / "slurmdbd.log"), str(folder / "slurmdbd.pid")
        ),
    )


@contextmanager
def running(argv: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    database = {"MYSQL_UNIX_PORT": str(folder / "db.sock")}
    environment = {**os.environ, **database, "SLURM_CONF": str(folder / "slurm.conf")}
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
def munged(spec: Spec, folder: Path, **others: object) -> Iterator[SlurmSite]:
    """The rendered files in a folder, and a throw-away munged for them; `others` are fields of the site."""
    site = dataclasses.replace(local_site(spec, folder), **others)
    for name, text in render_slurm(spec, site).items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    names = {"pid-file": "munge.pid", "seed-file": "munge.seed", "log-file": "munge.log", "key-file": "munge.key"}
    options = [f"--{option}={folder / file}" for option, file in names.items()]
    argv = [program("munged"), "--foreground", "--force", f"--socket={site.munge_socket}", *options]
    with running(argv, folder) as process:
        wait_for(folder, process, Path(site.munge_socket).exists)
        yield site


@contextmanager
def slurmctld(spec: Spec, folder: Path) -> Iterator[int]:
    """A throw-away slurmctld with the rendered files; gives its port."""
    (folder / "state").mkdir()
    with munged(spec, folder) as site, running([program("slurmctld"), "-D"], folder) as process:
        wait_for(folder, process, lambda: "is UP" in answer(folder, "scontrol", "ping").stdout)
        yield site.controller.port


@contextmanager
def database(folder: Path, *listening: str) -> Iterator[None]:
    """A throw-away MariaDB that only its socket reaches, if nothing else is said."""
    user = getpass.getuser()
    options = ["--no-defaults", f"--datadir={folder / 'db'}", f"--user={user}"]
    grants = ["--auth-root-authentication-method=socket", f"--auth-root-socket-user={user}", "--skip-test-db"]
    subprocess.run([program("mariadb-install-db"), *options, *grants], capture_output=True, check=True)
    network = listening or ("--skip-networking",)
    # As providers do: slurmdbd on Debian 13 cannot go on after it had to make its database itself.
    (folder / "first.sql").write_text("CREATE DATABASE IF NOT EXISTS slurm_acct_db;\n")
    first = f"--init-file={folder / 'first.sql'}"
    small = [*network, first, "--innodb-buffer-pool-size=16M", f"--socket={folder / 'db.sock'}"]
    with running([program("mariadbd"), *options, *small], folder) as process:
        wait_for(folder, process, (folder / "db.sock").exists)
        yield


def listening_on(port: int) -> list[str]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port]


def own_end(port: int) -> str:
    return f"{socket.inet_aton(own_address())[::-1].hex().upper()}:{port:04X}"


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
    assert "fatal" not in (folder / "slurmctld.log").read_text()


def test_names_groups_features_and_partitions(folder):
    spec = parse_spec(LAB, "cluster.yaml")
    with slurmctld(spec, folder):
        rows = answer(folder, "sinfo", "-h", "-N", "-p", "all", "-o", "%N %c %m %f %G").stdout.splitlines()
        parts = answer(folder, "sinfo", "-h", "-s", "-o", "%P %l %D").stdout.splitlines()
    found = {row.split()[0]: row.split()[1:] for row in rows}
    assert set(found) == set(spec.node_names)
    assert found["gpu08"] == ["16", "65536", "nvlink,ib", "gpu:a100:4"]
    assert found["r2-n1"] == ["2", "2048", "(null)", "gpu:t4:1"]
    assert found["c2"] == ["1", "1024", "(null)", "(null)"]
    assert sorted(parts) == ["all* 12:00:00 11", "g.pu 2-00:00:00 4"]


def test_slurmctld_listens_on_one_address_only(folder):
    with slurmctld(parse_spec("name: a\ncompute: [{name: n, count: 1}]", "x"), folder) as port:
        assert listening_on(port) == [own_end(port)]


needs_a_database = pytest.mark.skipif(
    not all(shutil.which(p, path=SBIN) for p in ("slurmdbd", "mariadbd", "mariadb-install-db", "mariadb", "sacctmgr")),
    reason="skipped: no slurmdbd or MariaDB",
)


@needs_a_database
def test_slurmdbd_answers_and_listens_on_one_address_only(folder):
    spec = parse_spec("name: a\ncompute: [{name: n, count: 1}]\naccounting: {enabled: true}", "x")
    with database(folder), munged(spec, folder) as site, running([program("slurmdbd"), "-D"], folder) as process:
        wait_for(folder, process, lambda: answer(folder, "sacctmgr", "-n", "list", "cluster").returncode == 0)
        assert site.accounting is not None
        assert listening_on(site.accounting.port) == [own_end(site.accounting.port)]
        answer(folder, "sacctmgr", "-i", "add", "cluster", "a")
        assert answer(folder, "sacctmgr", "-n", "list", "cluster", "format=cluster").stdout.split() == ["a"]


def make_database_user(folder: Path, name: str, password: str) -> None:
    quoted = password.replace("\\", "\\\\").replace("'", "\\'")
    sql = f"create user {name}@'%' identified by '{quoted}'; grant all on acct.* to {name}@'%';"
    argv = [program("mariadb"), "--no-defaults", f"--socket={folder / 'db.sock'}"]
    subprocess.run(argv, input=sql, text=True, check=True, capture_output=True)


@needs_a_database
@pytest.mark.parametrize("password", [PASSWORD, "plain", "a'b;c=d%e", "\\\\#", " leading"])
def test_slurmdbd_logs_in_to_an_external_database(folder, password):
    spec = parse_spec("name: a\ncompute: [{name: n, count: 1}]\naccounting: {enabled: true}", "x")
    port, at = free_port(), own_address()
    given = AccountingSite(
        port=free_port(),
        user="acct_user",
        database="acct",
        log=str(folder / "slurmdbd.log"),
        pid=str(folder / "slurmdbd.pid"),
        storage_host=at,
        storage_port=port,
        password=password,
    )
    listening = (f"--bind-address={at}", f"--port={port}")
    with database(folder, *listening), munged(spec, folder, shared_machine=False, accounting=given):
        make_database_user(folder, "acct_user", password)
        with running([program("slurmdbd"), "-D"], folder) as process:
            wait_for(folder, process, lambda: answer(folder, "sacctmgr", "-n", "list", "cluster").returncode == 0)
            answer(folder, "sacctmgr", "-i", "add", "cluster", "a")
            assert answer(folder, "sacctmgr", "-n", "list", "cluster", "format=cluster").stdout.split() == ["a"]
    said = (folder / "out").read_text() + (folder / "slurmdbd.log").read_text()
    assert password not in said
