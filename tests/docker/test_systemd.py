"""Machines that run systemd: units, restarts, reboots, jobs in cgroups, and logins by pam_slurm_adopt."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docker.ground import Ground
from tests.docker.systemd_ground import systemd_ground
from tests.e2e.life import Cli, wait

NAME = "jsd"
ADA = 2001
BEGUN_ANEW = {"22.05": "econfigur", "24.11": "slurmd started"}
JOBS = "/var/lib/slurm/slurmctld/job_state"
SERVICES = {
    "ctl": ("munge", "mariadb", "slurmdbd", "slurmctld", "hpcli-keeper", "hpcli-controller"),
    "login1": ("munge",),
    "c1": ("munge", "hpcli-agent", "slurmd"),
    "c2": ("munge", "hpcli-agent", "slurmd"),
}
SPEC = """
name: jsd
provider: hosts
controller: {{name: ctl}}
login: {{count: 1}}
compute: [{{name: cpu, nodes: "c[1-2]", cpus: 2, memory: 1G}}]
accounting: {{enabled: true}}
accounts: [{{name: lab, description: The lab}}]
users: [{{name: ada, uid: {uid}, account: lab, keys: ["{key}"]}}]
health: {{interval: 1s}}
hosts:
  user: admin
  identity: {folder}/id
  known_hosts: {folder}/known_hosts
  addresses: {addresses}
"""
pytestmark = pytest.mark.docker


@dataclass(frozen=True)
class Standing:
    """A cluster on machines with systemd, and a person's key."""

    series: str
    ground: Ground
    cli: Cli
    spec: Path

    def sh(self, machine: str, script: str, *, fine: bool = False) -> str:
        return self.ground.sh(machine, script, fine=fine)

    def ada(self, machine: str, *words: str) -> "subprocess.CompletedProcess[str]":
        return self.ground.ssh(machine, "ada", *words, key="ada")

    def submit(self, node: str) -> str:
        """Start a job of ada's that sleeps; gives its number when it runs."""
        ran = self.ada(
            "login1", "sbatch", "--parsable", "-w", node, "--mem=200", "-o", "/dev/null", "--wrap", "'sleep 700'"
        )
        job = ran.stdout.strip()
        assert job.isdigit(), ran
        wait(f"job {job} runs", lambda: self.state(job) == "RUNNING")
        return job

    def state(self, job: str) -> str:
        return self.sh("ctl", f"squeue -h -j {job} -o %T", fine=True)

    def end(self, job: str) -> None:
        self.sh("ctl", f"scancel {job}")
        try:
            wait("both nodes are idle", self.idle)
        except AssertionError as error:
            seen = self.sh("ctl", "sinfo -N -o '%N %T %E'; squeue", fine=True)
            raise AssertionError(f"{error}\n{seen}") from None

    def idle(self) -> bool:
        return self.sh("ctl", "sinfo -h -o %T", fine=True) == "idle"

    def active(self, machine: str) -> bool:
        """All services of a machine run."""
        names = SERVICES[machine]
        found = self.sh(machine, f"systemctl is-active {' '.join(names)}", fine=True).split()
        return found == ["active"] * len(names)

    def whole(self) -> bool:
        return all(map(self.active, SERVICES)) and self.cli("cluster", "status", NAME, code=None)["exit_code"] == 0

    def apply(self, *, adopt: bool) -> None:
        text = self.spec.read_text().replace("pam_slurm_adopt: true\n", "")
        self.spec.write_text(text + "pam_slurm_adopt: true\n" * adopt)
        self.cli("cluster", "apply", "-f", str(self.spec), "--yes")


@pytest.fixture(scope="module", params=["22.05", "24.11"])
def standing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    folder = tmp_path_factory.mktemp("systemd")
    ground = systemd_ground(request.param, folder, "j-systemd", "172.29.91.128/25")
    ground.make()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "ada"], check=True)
    spec, cli = folder / "cluster.yaml", Cli(folder / "state")
    key = (folder / "ada.pub").read_text().strip()
    spec.write_text(SPEC.format(uid=ADA, key=key, folder=folder, addresses=ground.addresses()))
    try:
        up = cli("cluster", "up", "-f", str(spec))
        print(f"\n  {request.param} with systemd: {up['seconds']} s, {up['hosts']}", flush=True)
        yield Standing(request.param, ground, cli, spec)
        cli("cluster", "down", NAME, "--yes")
        assert left_over(ground) == []
    finally:
        ground.remove()


def left_over(ground: Ground) -> list[str]:
    find = "find /etc/hpcli /opt/hpcli /etc/systemd/system -name '*hpcli*' 2>/dev/null; grep -il hpcli /etc/pam.d/*"
    running = "pgrep -a 'slurm|munged|mariadbd'"
    return [line for one in ground.machines for line in ground.sh(one, f"{find}; {running}; true").splitlines()]


def test_units_are_enabled_and_run(standing: Standing) -> None:
    for machine, names in SERVICES.items():
        enabled = standing.sh(machine, f"systemctl is-enabled {' '.join(names)}").split()
        assert enabled == ["enabled"] * len(names), machine
        assert standing.active(machine), machine
        assert standing.sh(machine, "systemctl --failed --no-legend --plain") == ""
    assert standing.whole()


def test_units_have_no_fault_that_systemd_would_name(standing: Standing) -> None:
    for machine, names in SERVICES.items():
        units = " ".join(f"{name}.service" for name in names)
        assert standing.sh(machine, f"systemd-analyze verify --man=no {units} 2>&1") == "", machine


def test_the_database_listens_on_its_socket_alone(standing: Standing) -> None:
    assert ":0CEA " not in standing.sh("ctl", "cat /proc/net/tcp /proc/net/tcp6")


@pytest.mark.parametrize(
    ("machine", "unit", "may", "may_not"),
    [
        ("c1", "hpcli-agent", "/run/hpcli/c1", "/usr/bin"),
        ("ctl", "hpcli-controller", "/var/lib/hpcli/controller", "/var/log"),
        ("ctl", "hpcli-keeper", "/etc/hpcli/keeper", "/usr/bin"),
    ],
)
def test_a_daemon_writes_where_it_must_and_nowhere_else(
    standing: Standing, machine: str, unit: str, may: str, may_not: str
) -> None:
    """Tried as root, in the daemon's own view of the machine."""
    inside = f"nsenter --mount --target $(systemctl show -P MainPID {unit}) --"
    standing.sh(machine, f"{inside} touch {may}/tried && {inside} rm {may}/tried")
    assert "Read-only" in standing.sh(machine, f"{inside} touch {may_not}/tried 2>&1; true")
    assert standing.sh(machine, f"grep NoNewPrivs /proc/$(systemctl show -P MainPID {unit})/status").endswith("1")


def test_slurmd_is_found_alive_after_a_reconfigure(standing: Standing) -> None:
    """Debian 13's slurmd would get a new pid, and leave no file that says which."""
    said = f"grep -cE '{BEGUN_ANEW[standing.series]}' /var/log/slurm/slurmd.log"
    before = standing.sh("c1", said, fine=True)
    standing.sh("ctl", "scontrol reconfigure")
    wait("it has begun anew", lambda: standing.sh("c1", said, fine=True) != before)
    pid = standing.sh("c1", "systemctl show -P MainPID slurmd")
    assert standing.sh("c1", "cat /run/slurm/slurmd.pid") == pid == standing.sh("c1", "pgrep -x slurmd")


def test_the_gate_has_its_verdict(standing: Standing) -> None:
    assert standing.sh("c1", "cat /run/hpcli/c1/verdict").split()[0] == "ok"


def test_a_job_is_held_by_its_cgroup(standing: Standing) -> None:
    ran = standing.ada("login1", "srun", "-N2", "hostname")
    assert sorted(ran.stdout.split()) == ["machine-c1", "machine-c2"], ran
    job = standing.submit("c1")
    held = standing.sh("c1", "cat /proc/$(pgrep -x sleep)/cgroup")
    print(f"\n{held}", flush=True)
    assert f"/job_{job}/step_batch" in held
    standing.sh("c1", f"setsid --fork runuser -u ada -- setsid sleep 5 & scancel {job}")
    wait("its processes are gone", lambda: "700" not in standing.sh("c1", "pgrep -ax sleep", fine=True))
    standing.end(job)


def test_jobs_live_on_while_slurmd_restarts(standing: Standing) -> None:
    job = standing.submit("c1")
    pid = standing.sh("c1", "pgrep -x sleep")
    standing.sh("c1", "/opt/hpcli/lifecycle/service restart slurmd")
    assert standing.sh("c1", "pgrep -x sleep") == pid and standing.state(job) == "RUNNING"
    kill(standing, "c1", "slurmd")
    wait("slurmd is back", lambda: standing.active("c1"))
    assert standing.sh("c1", "pgrep -x sleep") == pid and standing.state(job) == "RUNNING"
    standing.end(job)


def kill(standing: Standing, machine: str, name: str) -> None:
    standing.sh(machine, f"kill -9 $(systemctl show -P MainPID {name})")


def test_killed_daemons_come_back(standing: Standing) -> None:
    job = standing.submit("c2")
    # slurmctld writes jobs down every five seconds: one that it has not written yet would be lost with it.
    standing.sh("ctl", "touch /tmp/submitted")
    wait("the job is written down", lambda: standing.sh("ctl", f"find {JOBS} -newer /tmp/submitted"))
    for name in SERVICES["ctl"]:
        kill(standing, "ctl", name)
    for name in ("munge", "hpcli-agent"):
        kill(standing, "c1", name)
    wait("everything is back", standing.whole, 90)
    assert standing.state(job) == "RUNNING"
    assert standing.cli("recovery", "status", "-C", NAME, code=None)["data"]["repairs"] == []
    standing.end(job)


def test_who_may_log_in_where_pam_slurm_adopt_is_on(standing: Standing) -> None:
    before = standing.sh("c1", "sha256sum /etc/pam.d/*")
    assert standing.ada("c1", "true").returncode == 0
    standing.apply(adopt=True)
    refused = standing.ada("c1", "true")
    assert refused.returncode and "no active jobs on this node" in refused.stderr, refused
    assert standing.ground.ssh("c1", "admin", "true").returncode == 0
    assert standing.ada("login1", "true").returncode == 0
    job = standing.submit("c1")
    adopted(standing, job)
    assert standing.ada("c2", "true").returncode
    standing.end(job)
    standing.apply(adopt=False)
    assert standing.sh("c1", "sha256sum /etc/pam.d/*") == before
    assert standing.ada("c1", "true").returncode == 0
    assert standing.cli("cluster", "plan", "-f", str(standing.spec))["changes"] == []


def adopted(standing: Standing, job: str) -> None:
    """A session is in the job's cgroups, in every one that limits jobs, and ends with the job."""
    inside = standing.ada("c1", "cat", "/proc/self/cgroup")
    assert inside.returncode == 0, inside
    print(f"\n{inside.stdout}", flush=True)
    rows = dict(line.split(":", 2)[1:] for line in inside.stdout.splitlines())
    limiting = [rows[name] for name in ("memory", "freezer", "cpuset", "devices") if name in rows] or [rows[""]]
    assert all(f"/job_{job}/step_extern" in path for path in limiting), inside.stdout
    admin = standing.ground.ssh("c1", "admin", "cat", "/proc/self/cgroup").stdout
    assert "user-1000.slice" in admin and "job_" not in admin
    session = subprocess.Popen(
        [
            "ssh",
            "-F",
            "none",
            "-o",
            f"UserKnownHostsFile={standing.ground.folder}/known_hosts",
            "-i",
            str(standing.ground.folder / "ada"),
            f"ada@{standing.ground.address('c1')}",
            "sleep",
            "600",
        ],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait("the session's program runs", lambda: "sleep 600" in standing.sh("c1", "pgrep -ax sleep", fine=True))
    standing.sh("ctl", f"scancel {job}")
    assert session.wait(timeout=60)
    wait("it is gone", lambda: "sleep 600" not in standing.sh("c1", "pgrep -ax sleep", fine=True))


def test_machines_that_reboot_bring_everything_back(standing: Standing) -> None:
    """The controller's, the login node and a node; a job elsewhere does not notice."""
    job = standing.submit("c2")
    before = {one: standing.sh(one, STARTED) for one in ("ctl", "login1", "c1")}
    for machine in before:
        standing.sh(machine, "/opt/hpcli/lifecycle/reboot")
    for machine, started in before.items():
        wait(f"{machine} started anew", lambda one=machine, old=started: again(standing, one, old))
    wait("everything is back", standing.whole, 90)
    assert standing.state(job) == "RUNNING"
    standing.end(job)
    assert standing.cli("cluster", "plan", "-f", str(standing.spec))["changes"] == []


STARTED = "stat -c %Y.%y /proc/1"


def again(standing: Standing, machine: str, old: str) -> bool:
    return standing.sh(machine, STARTED, fine=True) not in ("", old)
