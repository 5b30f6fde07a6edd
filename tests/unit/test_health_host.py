"""The real Host port on this machine, and on a folder that stands for one."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hpcli.domain.check import Severity
from hpcli.errors import HpcliError
from hpcli.health import gpu, slurm, storage, system
from hpcli.health.run import run_check
from hpcli.ports import Completed
from hpcli.probe.host import IdFile, LocalHost, folder_machine, mounted_read_only, parse_fill, this_machine
from hpcli.transport.process import LocalTransport

# Recorded from /proc/self/mountinfo, but for the last three lines, which are composed.
MOUNTINFO = r"""40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
42 27 254:0 /var/lib/docker /var/lib/docker rw,relatime shared:1 - ext4 /dev/vda rw,discard,resv_strict
43 27 254:0 / / ro,relatime shared:1 master:2 - ext4 /dev/vda rw
44 27 8:1 / /mnt/my\040disk rw,relatime - ext4 /dev/sda1 ro,errors=remount-ro
45 27 8:1 / /mnt/twice ro - ext4 /dev/sda1 rw
46 27 8:2 / /mnt/twice rw - ext4 /dev/sda2 rw
broken line
"""


def folder_host(folder: Path) -> LocalHost:
    (folder / "dev").mkdir()
    for number in (0, 1):
        (folder / "dev" / f"nvidia{number}").touch()
    (folder / "boot_id").write_text("b-1\n")
    (folder / "instance_id").write_text("i-1\n")
    (folder / "kernel.log").write_text("hello\n")
    return folder_machine("c1", folder, LocalTransport())


async def test_a_folder_looks_like_a_machine(tmp_path: Path) -> None:
    folder = tmp_path / "odd [name]*"
    folder.mkdir()
    host = folder_host(folder)
    assert host.glob("/dev/nvidia[0-9]*") == ("/dev/nvidia0", "/dev/nvidia1")
    assert (host.boot_id(), host.instance_id()) == ("b-1", "i-1")
    assert [record.text for record in host.kernel_log().poll()] == ["hello"]
    (folder / "dev" / "nvidia0").write_bytes(b"\xff\xfe")
    assert host.read("/dev/nvidia0") == "\ufffd\ufffd"
    (folder / "dev" / "nvidia1").unlink()
    result = await run_check(gpu.COUNT, host, {"expected": 2})
    assert result and result.component == "gpu1"


def test_what_is_not_mapped_is_the_machines_own(tmp_path: Path) -> None:
    host = folder_host(tmp_path)
    assert host.read("/proc/self/comm").strip()
    assert "/proc/meminfo" in host.glob("/proc/mem*")
    assert host.glob("/device/nvidia*") == ()
    with pytest.raises(FileNotFoundError):
        host.read("/dev/nothing")


def test_an_id_is_read_again_when_its_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "boot_id"
    file = IdFile(path)
    assert file.read() == ""
    path.write_text("b-1\n")
    assert file.read() == "b-1"
    (tmp_path / "new").write_text("b-2\n")
    (tmp_path / "new").replace(path)
    assert file.read() == "b-2"
    path.unlink()
    assert file.read() == ""


async def test_a_real_disk() -> None:
    use = await this_machine("c1", LocalTransport()).disk("/proc", 5.0)
    assert (use.space_percent, use.read_only) == (0.0, False)
    real = os.statvfs("/")
    used = real.f_blocks - real.f_bfree
    found = await this_machine("c1", LocalTransport()).disk("/", 5.0)
    assert found.space_percent == pytest.approx(100 * used / (used + real.f_bavail), abs=1.0)


async def test_a_disk_that_is_not_there_is_unknown() -> None:
    host = this_machine("c1", LocalTransport())
    with pytest.raises(OSError, match="/nowhere"):
        await host.disk("/nowhere", 5.0)
    result = await run_check(storage.FREE, host, {"path": "/nowhere"})
    assert result and result.severity is Severity.UNKNOWN


@pytest.mark.parametrize(
    ("mount_point", "expected"),
    [
        ("/", True),
        ("/mnt/my disk", True),
        ("/mnt/twice", False),
        ("/var/lib/docker", False),
        ("/sys/fs/cgroup/systemd", False),
        ("/not/mounted", False),
    ],
)
def test_read_only_mounts(mount_point: str, expected: bool) -> None:
    assert mounted_read_only(MOUNTINFO, mount_point) is expected


def test_fill_as_df_counts() -> None:
    assert parse_fill("1000 300 200 100 40\n") == (pytest.approx(77.78, abs=0.01), 60.0)
    assert parse_fill("0 0 0 0 0") == (0.0, 0.0)
    with pytest.raises(HpcliError, match="expected five numbers"):
        parse_fill("? ? ? 1 2")


async def test_real_memory_and_clock() -> None:
    host = this_machine("c1", LocalTransport())
    memory = await run_check(system.FREE, host, {})
    clock = await run_check(system.SYNC, host, {})
    assert memory and memory.severity in (Severity.OK, Severity.WARN)
    assert clock and clock.severity is not Severity.UNKNOWN


async def test_a_frozen_process_and_a_dead_one(tmp_path: Path) -> None:
    host, pid_file = this_machine("c1", LocalTransport()), tmp_path / "slurmd.pid"
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        pid_file.write_text(f"{child}\n")
        os.kill(child, signal.SIGSTOP)
        os.waitpid(child, os.WUNTRACED)
        frozen = await slurm.gather_slurmd(host, slurm.SlurmdParameters(str(pid_file)))
        assert (frozen.pid, frozen.state) == (child, "T")
    finally:
        os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert (await slurm.gather_slurmd(host, slurm.SlurmdParameters(str(pid_file)))).state == "Z"
    os.waitpid(child, 0)
    assert (await slurm.gather_slurmd(host, slurm.SlurmdParameters(str(pid_file)))).state == ""


class Sleeper:
    """A transport on which every program takes for ever."""

    def __init__(self, child_pid: Path) -> None:
        self.inner, self.child_pid = LocalTransport(), child_pid

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        script = f"sleep 1000 & echo $! > {self.child_pid}; wait"
        return await self.inner.run(["sh", "-c", script], timeout=timeout)


async def test_a_check_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    child_pid = tmp_path / "child"
    host = this_machine("c1", Sleeper(child_pid))
    result = await run_check(replace(slurm.MUNGE, timeout=0.5), host, {})
    assert result and result.severity is Severity.UNKNOWN
    async with asyncio.timeout(10.0):
        while _alive(int(child_pid.read_text())):
            await asyncio.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False
