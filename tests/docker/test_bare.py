"""Machines with nothing but sshd and sudo become controller, login and compute node through the lifecycle scripts."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcli.providers.remote.release import requirements
from tests.docker.ground import Ground, built
from tests.e2e.life import Cli
from tests.e2e.worlds import docker

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "docker-slurm" / "build.sh"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
SITE_CERTIFICATES = "/usr/local/share/site-ca.crt"
SERIES = os.environ.get("HPCLI_BARE_SERIES", "24.11")
LIMIT = 1500.0
SPEC = """
name: jbare
provider: hosts
controller: {{name: ctl}}
login: {{count: 1}}
compute: [{{name: cpu, nodes: c1, cpus: 1, memory: 256M}}]
accounting: {{enabled: true}}
{more}hosts:
  user: admin
  identity: {folder}/id
  known_hosts: {folder}/known_hosts
  addresses: {addresses}
"""
pytestmark = pytest.mark.docker


def pip_conf(folder: Path) -> str:
    """What a site gives pip on its machines: its authorities, and its index if it has one."""
    index = os.environ.get("PIP_INDEX_URL")
    text = f"[global]\ncert = {SITE_CERTIFICATES}\n" + (f"index-url = {index}\n" if index else "")
    path = folder / "pip.conf"
    path.write_text(text)
    return str(path)


def site(folder: Path) -> dict[str, str]:
    """What the site has put on its machines before hpcli comes."""
    folder.mkdir(exist_ok=True)
    found = {CERTIFICATES: SITE_CERTIFICATES} if Path(CERTIFICATES).exists() else {}
    if SERIES == "26.05":
        # A mirror of unstable that stands still is older than it says it may be.
        (folder / "apt.conf").write_text('Acquire::Check-Valid-Until "false";\n')
        found[str(folder / "apt.conf")] = "/etc/apt/apt.conf.d/90-site"
    return {**found, pip_conf(folder): "/etc/pip.conf"}


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    cli = Cli(tmp_path / "state")
    yield cli
    cli("cluster", "down", "jbare", "--yes", code=None)


def ground(folder: Path, *, inside: bool = False) -> Ground:
    image = built(BUILD, (SERIES, "machine"))
    copied = {} if inside else site(folder)
    return Ground(folder, "j-bare", "172.29.91.0/25", image, inside=inside, copied=copied)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Ground]:
    machines = ground(tmp_path)
    machines.make()
    yield machines
    machines.remove()


def spec(machines: Ground, more: str = "") -> str:
    path = machines.folder / "cluster.yaml"
    path.write_text(SPEC.format(folder=machines.folder, addresses=machines.addresses(), more=more))
    return str(path)


def test_bare_machines_become_a_cluster(bare: Ground, cli: Cli) -> None:
    for machine in bare.machines:
        assert bare.sh(machine, "command -v slurmd python3 munged sinfo", fine=True) == ""
    file = spec(bare)
    up = cli("cluster", "up", "-f", file, limit=LIMIT)
    print(f"\n  {SERIES}, from the registries: {up['seconds']} s, {up['hosts']}", flush=True)
    assert set(up["hosts"]) == set(bare.machines) and all(took > 1 for took in up["hosts"].values())
    works(bare)
    again(bare, cli, file)


def test_without_a_network(tmp_path: Path, cli: Cli) -> None:
    """No way out, no registry: packages come from a folder on this machine. A package too few is named."""
    packages = tmp_path / "packages"
    fetch(tmp_path, packages)
    machines = ground(tmp_path / "site", inside=True)
    machines.make()
    try:
        assert machines.sh("c1", "timeout 5 getent hosts deb.debian.org", fine=True) == ""
        file = spec(machines, f"packages: {{folder: {packages}}}\n")
        (missing,) = packages.glob("debs/libmunge2_*.deb")
        missing.rename(tmp_path / missing.name)
        error = cli("cluster", "up", "-f", file, code=1, limit=LIMIT)["errors"][0]
        print(f"\n  {error['subject']}: {error['message']}", flush=True)
        assert "libmunge2" in error["message"] and "common/10-packages" in error["message"]
        (tmp_path / missing.name).rename(missing)
        up = cli("cluster", "up", "-f", file, limit=LIMIT)
        print(f"  {SERIES}, offline: {up['seconds']} s, {up['hosts']}", flush=True)
        works(machines)
        again(machines, cli, file)
    finally:
        cli("cluster", "down", "jbare", "--yes", code=None)
        machines.remove()


def fetch(folder: Path, packages: Path) -> None:
    """Fill a folder as docs/provider-hosts.md says: on a machine of the same release that has a network."""
    folder = folder / "fetch"
    machine = Ground(
        folder, "j-fetch", "172.29.91.64/27", built(BUILD, (SERIES, "machine")), ("one",), copied=site(folder)
    )
    machine.make()
    try:
        packages.mkdir()
        (packages / "requirements.txt").write_text(requirements())
        docker("cp", f"{packages}/requirements.txt", f"{machine.container('one')}:/tmp/requirements.txt")
        docker("cp", str(ROOT / "lifecycle-scripts" / "lib" / "packages"), f"{machine.container('one')}:/tmp/packages")
        machine.sh("one", FETCH)
        for kind in ("debs", "wheels"):
            docker("cp", f"{machine.container('one')}:/tmp/out/{kind}", f"{packages}/{kind}")
    finally:
        machine.remove()


FETCH = """
set -e
mkdir -p /tmp/out/debs/partial /tmp/out/wheels
apt-get -qq update
apt-get -qq -y --no-install-recommends -o Dir::Cache::archives=/tmp/out/debs --download-only install \
    $(sed -e '/^#/d' -e '/^nfs/d' -e 's/.*\t//' /tmp/packages)
DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install python3-venv >/dev/null
python3 -m venv /tmp/venv
/tmp/venv/bin/pip --quiet download --dest /tmp/out/wheels -r /tmp/requirements.txt
rm -rf /tmp/out/debs/partial /tmp/out/debs/lock
"""


def works(machines: Ground) -> None:
    """Slurm itself says so, and a job runs for a person who logs in to the login node."""
    assert machines.ssh("login1", "admin", "sinfo", "-h", "-o", "'%N %t'").stdout.split() == ["c1", "idle"]
    ran = machines.ssh("login1", "admin", "srun", "hostname")
    assert ran.stdout.strip() == "machine-c1", ran
    for machine in machines.machines:
        assert machines.sh(machine, "ls /var/lib/hpcli/steps").split()


def again(machines: Ground, cli: Cli, file: str) -> None:
    """A second run changes nothing: no plan, no file, no step, no daemon."""
    before = {one: machines.sh(one, PRINT) for one in machines.machines}
    assert cli("cluster", "up", "-f", file)["changes"] == []
    assert cli("cluster", "apply", "-f", file, "--yes")["changes"] == []
    assert {one: machines.sh(one, PRINT) for one in machines.machines} == before
    for one in machines.machines:
        steps = machines.sh(one, "/opt/hpcli/lifecycle/run.sh").splitlines()
        assert [line for line in steps if line.split()[2] not in ("begin", "same")] == [], steps


PRINT = """
find /etc/slurm /etc/hpcli /etc/munge /opt/hpcli /var/lib/hpcli/steps -type f ! -name '*.pyc' \
    -printf '%p %i %T@\\n' | sort
for service in /run/hpcli/services/*; do echo "$service $(<"$service")"; done
"""
