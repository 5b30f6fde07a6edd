"""Local clusters from `up` to `down` on real Slurm: what is left, what is kept, what is in the way."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcli.providers.local.layout import Layout
from hpcli.providers.local.sweep import remove
from hpcli.transport import proc
from tests.real_cluster import SPEC, RealCluster, bring_up
from tests.standing_cluster import fill, hpcli, left_in, processes_of, small_disk, standing_cluster

pytestmark = pytest.mark.slurm

DEAF = """
trap '' TERM
srun --mpi=none bash -c 'trap "" TERM; exec sleep 600'
"""
CLINGING = """
srun --mpi=none /bin/bash -c 'trap "" TERM; /usr/bin/env -i /usr/bin/setsid /bin/sleep 6{tag} & /bin/sleep 7{tag}'
"""


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """A cluster beside one whose record is damaged."""
    folder = tmp_path_factory.mktemp("life")
    damaged = folder / "state" / "hpcli" / "clusters" / "damaged" / "cluster.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text('{"name": "dama')
    with standing_cluster(folder, nodes=2) as cluster:
        yield cluster


@pytest.fixture
def spec(standing: RealCluster) -> str:
    path = standing.shared / "it.yaml"
    path.write_text(SPEC.format(name="it", nodes=2))
    return str(path)


class TestOfAClusterThatIsUp:
    def test_nobody_else_can_look_into_its_folders(self, standing: RealCluster) -> None:
        layout = standing.layout
        folders = (layout.home, layout.runtime, layout.runtime.parent)
        secrets = (layout.munge_key, layout.journal, *layout.etc.glob("*.json"), layout.slurm_conf)
        assert [oct(folder.stat().st_mode & 0o777) for folder in folders] == ["0o700"] * 3
        assert {(path.name, oct(path.stat().st_mode & 0o777)) for path in secrets} == {
            (path.name, "0o600") for path in secrets
        }

    async def test_everything_listens_on_loopback_alone(self, standing: RealCluster) -> None:
        job_id = await standing.submit("srun --mpi=none sleep 30", "--nodes=2")
        await standing.until(lambda: "srun" in dict(listeners(standing.shared)), "srun listens")
        found = listeners(standing.shared)
        await standing.gateway.cancel([job_id])
        names = {name for name, _address in found}
        assert {"slurmctld", "slurmd"} <= names
        assert any(name.startswith("python") for name in names), "the controller"
        assert {address for _name, address in found if not address.startswith("127.")} == set()

    async def test_up_again_disturbs_nothing(self, standing: RealCluster, spec: str) -> None:
        job_id = await standing.submit("sleep 60", "--nodes=1")
        await standing.until_running(job_id)
        before = {name: standing.daemons.pid(name) for name in standing.daemons.known()}
        answer = hpcli("cluster", "up", "-f", spec, "--json")
        assert (answer.returncode, json.loads(answer.stdout)["data"]["already_up"]) == (0, True)
        assert {name: standing.daemons.pid(name) for name in standing.daemons.known()} == before
        job = await standing.job(job_id)
        assert (job.state, job.restarts) == ("RUNNING", 0)
        await standing.gateway.cancel([job_id])

    def test_another_spec_under_the_same_name_must_be_agreed_to(self, standing: RealCluster, tmp_path: Path) -> None:
        other = tmp_path / "other.yaml"
        other.write_text(SPEC.format(name="it", nodes=3))
        answer = hpcli("cluster", "up", "-f", str(other))
        assert answer.returncode == 8
        assert "expected --yes" in answer.stderr
        assert all(standing.daemons.alive(name) for name in standing.daemons.known())

    def test_a_damaged_neighbour_is_listed_and_can_be_taken_down(self, standing: RealCluster) -> None:
        listed = json.loads(hpcli("cluster", "list", "--json").stdout)["data"]
        assert {row["name"]: row["dead"] for row in listed} == {"damaged": ["record"], "it": []}
        assert hpcli("cluster", "down", "damaged", "--yes").returncode == 0
        assert not (standing.layout.home.parent / "damaged").exists()

    async def test_killed_daemons_are_revived_and_the_journal_kept(self, standing: RealCluster, spec: str) -> None:
        await standing.ask("pause", reason="before the crash")
        for name in ("slurmctld", "munged", "controller"):
            pid = standing.daemons.pid(name)
            assert pid
            os.kill(pid, signal.SIGKILL)
        await standing.until(lambda: not standing.daemons.alive("munged"), "munged is dead")
        status = hpcli("cluster", "status", "it", "--json")
        assert status.returncode == 1
        assert json.loads(status.stdout)["data"]["dead"] == ["controller", "munged", "slurmctld"]
        revived = hpcli("cluster", "up", "-f", spec, "--json")
        assert (revived.returncode, json.loads(revived.stdout)["data"]["already_up"]) == (0, False), revived
        assert (await standing.ask("status"))["paused"] == "before the crash"
        assert hpcli("cluster", "status", "it").returncode == 0

    async def test_down_ends_what_clings_and_leaves_nothing(self, standing: RealCluster) -> None:
        """Comes last. The job ignores SIGTERM, and has a child without environment in a session of its own."""
        tag = str(os.getpid())
        job_id = await standing.submit(CLINGING.format(tag=tag), "--nodes=2")
        await standing.until(lambda: len(sleepers(tag)) == 4, f"job {job_id} has all of its processes")
        assert processes_of(standing.shared)
        answer = hpcli("cluster", "down", "it", "--yes")
        assert (answer.returncode, answer.stdout) == (0, "cluster it is gone\n")
        assert sleepers(tag) == []
        assert left_in(standing.shared) == []


def sleepers(tag: str) -> list[str]:
    commands = (proc.command(process.pid) for process in proc.all_processes())
    return [text for text in commands if text.startswith(("/bin/sleep 6" + tag, "/bin/sleep 7" + tag))]


def listeners(folder: Path) -> set[tuple[str, str]]:
    """Program and address of everything of a cluster that listens on TCP."""
    inodes = {}
    for line in processes_of(folder):
        pid = int(line.split()[0])
        for target in proc.open_files(pid):
            if target.startswith("socket:"):
                inodes[target[8:-1]] = Path(f"/proc/{pid}/comm").read_text().strip()
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in (text.split() for text in Path(table).read_text().splitlines()[1:]):
            if row[3] == "0A" and row[9] in inodes:
                found.add((inodes[row[9]], _address(row[1].partition(":")[0])))
    return found


def _address(digits: str) -> str:
    """An IPv4 address as the kernel prints it, in the machine's own order of bytes."""
    raw = bytes.fromhex(digits)
    return ".".join(map(str, raw[::-1] if sys.byteorder == "little" else raw)) if len(raw) == 4 else f"ipv6 {digits}"


async def test_two_clusters_side_by_side_do_not_touch_each_other(home: Path) -> None:
    try:
        it = await bring_up(SPEC.format(name="it", nodes=3), home)
        other = await bring_up(SPEC.format(name="other", nodes=3), home)
        both = (it, other)
        jobs = [await cluster.submit(DEAF, "--nodes=2") for cluster in both]
        assert jobs[0] == jobs[1], "both count from one"
        for cluster in both:
            await cluster.until(lambda home=cluster.layout.home: ranks(home) == 2, "both ranks run")
        theirs = processes_of(other.layout.home)
        it.faults.lose_gpu("c1")
        await it.until_running(jobs[0], restarts=1)
        await it.until_closed()
        assert "kill" in [body["step"] for body in await it.kinds("intent")]
        assert processes_of(other.layout.home) == theirs
        assert (await other.job(jobs[1])).restarts == 0
        assert await other.kinds("opened") == []
        remove(it.layout)
        assert processes_of(other.layout.home) == theirs
        assert all(node.schedulable for node in await other.gateway.nodes())
    finally:
        for name in ("it", "other"):
            remove(Layout.of(name))
    assert left_in(home) == []


def ranks(home: Path) -> int:
    return sum(line.split()[1].endswith("sleep") for line in processes_of(home))


async def test_two_ups_at_once_make_one_cluster(home: Path) -> None:
    spec = home / "it.yaml"
    spec.write_text(SPEC.format(name="it", nodes=2))
    argv = [sys.executable, "-m", "hpcli", "cluster", "up", "-f", str(spec)]
    try:
        ups = [await asyncio.create_subprocess_exec(*argv, stderr=subprocess.PIPE) for _ in range(2)]
        said = [(await up.communicate())[1].decode() for up in ups]
        assert [up.returncode for up in ups] == [0, 0], said
        daemons = [line for line in processes_of(home) if "slurmctld -D" in line]
        assert len(daemons) == 1
        assert hpcli("cluster", "status", "it").returncode == 0
    finally:
        remove(Layout.of("it"))


@pytest.mark.cluster(spec=SPEC.format(name="it", nodes=2) + "local: {agents: per-node}\naccounting: {enabled: true}\n")
async def test_accounting_and_an_agent_for_each_node(cluster: RealCluster) -> None:
    job_id = await cluster.submit("true", "--nodes=1")

    async def accounted() -> bool:
        env = {"SLURM_CONF": str(cluster.layout.slurm_conf)}
        argv = ["sacct", "-n", "-P", "-X", "-j", job_id, "-o", "state"]
        return (await run(argv, env)).strip() == "COMPLETED"

    await cluster.until(accounted, "sacct knows the finished job")
    assert await cluster.gateway.admin_level("root") == "Administrator"
    assert await cluster.gateway.admin_level("nobody") in ("", "None")
    assert {address for _name, address in listeners(cluster.shared) if not address.startswith("127.")} == set()
    before = {node: cluster.daemons.pid(f"agent-{node}") for node in ("c1", "c2")}
    instance = cluster.nodes.machine("c2").instance_id
    cluster.faults.lose_gpu("c2")
    await cluster.until_closed()
    assert cluster.nodes.machine("c2").instance_id != instance
    assert cluster.daemons.pid("agent-c1") == before["c1"], "a node's reboot is no business of another's agent"
    assert cluster.daemons.pid("agent-c2") not in (before["c2"], None)


async def run(argv: list[str], env: dict[str, str]) -> str:
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*argv, env={**os.environ, **env}, stdout=pipe, stderr=pipe)
    out, _err = await child.communicate()
    return out.decode()


def test_a_disk_too_small_is_refused_and_nothing_left(home: Path) -> None:
    spec = home / "it.yaml"
    spec.write_text(SPEC.format(name="it", nodes=2))
    with small_disk(home, 32):
        try:
            answer = hpcli("cluster", "up", "-f", str(spec))
            assert answer.returncode == 1
            assert "MiB free, expected at least 66 MiB" in answer.stderr
            assert "hint: free some space" in answer.stderr
            assert left_in(home) == []
        finally:
            remove(Layout.of("it"))


HALF_FULL = SPEC.format(name="it", nodes=3).replace(
    "interval: 1s", "interval: 1s, checks: {disk.free: {warn: 101, critical: 102}}"
)


async def test_a_disk_that_fills_up_stops_repairs_and_they_go_on_when_there_is_room(home: Path) -> None:
    with small_disk(home, 80):
        try:
            cluster = await bring_up(HALF_FULL, home)
            before = len(await cluster.journal())
            # The log's last page has room for more when nothing else has.
            cluster.faults.log("c2", "a line that means nothing")
            ballast = fill(home / "state")
            cluster.faults.lose_gpu("c2")
            log = cluster.daemons.output("controller")
            await cluster.until(lambda: "disk is full" in log.read_text(), "the controller says that the disk is full")
            assert (await cluster.ask("status"))["repairs"] == []
            [node] = await cluster.gateway.nodes("c2")
            assert node.schedulable, "no action without its entry in the journal"
            assert len(await cluster.journal()) == before
            ballast.unlink()
            await cluster.until_closed()
            assert "Traceback" not in log.read_text()
        finally:
            remove(Layout.of("it"))


async def test_a_disk_that_fills_up_in_mid_repair_only_delays_it(home: Path) -> None:
    with small_disk(home, 80):
        try:
            cluster = await bring_up(HALF_FULL, home)
            cluster.faults.lose_gpu("c2")
            await cluster.until(lambda: cluster.kinds("opened"), "the repair begins")
            ballast = fill(home / "state")
            log = cluster.daemons.output("controller")
            await cluster.until(lambda: "disk is full" in log.read_text(), "the controller says that the disk is full")
            ballast.unlink()
            await cluster.until_closed()
            [node] = await cluster.gateway.nodes("c2")
            assert node.schedulable
            assert "Traceback" not in log.read_text()
        finally:
            remove(Layout.of("it"))
