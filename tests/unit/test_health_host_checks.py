"""Gathering for the checks of processors, memory, processes and nodes: from folders, from ugly text, and for real."""

import asyncio
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from health_fakes import FakeHost

from hpcli.domain.check import Blame, CheckResult, Severity
from hpcli.health import cpu, memory, node, processes
from hpcli.health.check import Overrides
from hpcli.health.processes import Process, ProcessTable, Snapshot, carry, parse_stat
from hpcli.health.run import run_check, run_checks
from hpcli.probe.host import LocalHost, folder_machine, this_machine
from hpcli.transport.process import LocalTransport

CHECKS = (*cpu.CHECKS, *memory.CHECKS, *processes.CHECKS, *node.CHECKS)
BY_NAME = {check.name: check for check in CHECKS}
EXPECTATIONS: Overrides = {
    "cpu.count": {"expected": 64, "sockets": 2, "cores": 32},
    "cpu.governor": {"expected": "performance"},
    "cpu.clocksource": {"expected": "tsc"},
    "mem.idle_used": {"limit": 4096},
    "swap": {"expected": 0},
    "proc.required": {"names": "munged"},
    "proc.forbidden": {"names": "xmrig"},
    "proc.user_lineage": {"uid_min": 1000},
    "node.module": {"names": "nvidia"},
    "node.bios": {"bios_version": "1.2"},
    "node.dmi": {"product_name": "X"},
}
"""For every check that asks for one."""

# Recorded on a virtual machine, but for its second node, which is composed.
BUDDYINFO = """Node 0, zone      DMA      0      0      0      0      0      0      0      0      1      1      3 
Node 0, zone    DMA32    561    481    458    288    141     79     26      6      6      6    732 
Node 0, zone   Normal   4172   6678   4605  11333   4471   1493    421    120     52      0   4275 
Node 1, zone   Normal      2      0      0      0      0      0      0      0      1      0      1 
"""  # noqa: W291
MEMINFO = "MemTotal:       24684092 kB\nMemFree: 1 kB\nMemAvailable:   23210480 kB\nShmem:             8192 kB\n"
PID_MAX = Path("/proc/sys/kernel/pid_max")
CPU = "/sys/devices/system/cpu"
MC = "/sys/devices/system/edac/mc"


def machine(folder: Path, files: Mapping[str, str]) -> LocalHost:
    """A machine whose /proc and /sys are folders."""
    host = folder_machine("c1", folder, LocalTransport())
    host.root_map = {root: folder / root[1:] for root in ("/proc", "/sys")}
    write(host, files)
    return host


def write(host: LocalHost, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        here = host.root_map[path[:5] if path.startswith("/proc") else "/sys"].parent / path[1:]
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_bytes(text.encode(errors="surrogateescape"))


async def result_of(name: str, host: LocalHost | FakeHost, **parameters: object) -> CheckResult:
    result = await run_check(BY_NAME[name], host, parameters)
    assert result
    return result


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(CHECKS) == 20


def test_checks_that_need_an_expectation_ask_for_it() -> None:
    bare = {check.name for check in CHECKS if check.applies(check.parameters())}
    assert bare == BY_NAME.keys() - EXPECTATIONS.keys()


async def test_this_machine_is_healthy_by_default() -> None:
    results = await run_checks(CHECKS, this_machine("c1", LocalTransport()), {})
    found = {result.check: result.severity for result in results if result.severity is not Severity.OK}
    # These three tell the truth about a machine that runs many tests, or that booted for them.
    if os.getloadavg()[2] > 1.8 * len(os.sched_getaffinity(0)):
        assert found.pop("cpu.load", Severity.WARN) is Severity.WARN
    if int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2]) > 0.09 * int(PID_MAX.read_text()):
        assert found.pop("proc.pids", Severity.WARN) is Severity.WARN
    if time.clock_gettime(time.CLOCK_BOOTTIME) < 610:
        assert found.pop("node.uptime", Severity.WARN) is Severity.WARN
    assert found == {}, results


async def test_a_machine_without_any_source_is_never_at_fault() -> None:
    results = await run_checks(CHECKS, FakeHost(), EXPECTATIONS)
    assert len(results) == len(CHECKS)
    faults = [result for result in results if result.severity in (Severity.WARN, Severity.CRITICAL)]
    assert faults == []


SOURCES = {
    "cpu.count": f"{CPU}/online",
    "cpu.load": "/proc/loadavg",
    "mem.fragment": "/proc/buddyinfo",
    "mem.ecc": f"{MC}/mc0/ce_count",
    "mem.idle_used": "/proc/meminfo",
    "swap": "/proc/swaps",
    "proc.pids": "/proc/loadavg",
    "proc.fds": "/proc/sys/fs/file-nr",
}


@pytest.mark.parametrize("ugly", ["", "\n", "soon 1", "\0\udcff", "1,5 2"])
@pytest.mark.parametrize("name", ["node.uptime", "proc.zombie", "proc.dstate"])
async def test_without_uptime_nothing_is_known(name: str, ugly: str, tmp_path: Path) -> None:
    host = machine(tmp_path, {"/proc/uptime": ugly, f"{CPU}/online": "0-1"})
    assert (await result_of(name, host)).severity is Severity.UNKNOWN


@pytest.mark.parametrize("ugly", ["", "\n", "0-", "a b c d e f", "1 2", "\0\udcff", "9" * 5000, "-1 -1/-1 x", "3-1,4"])
@pytest.mark.parametrize("name", SOURCES)
async def test_an_ugly_source_is_unknown(name: str, ugly: str, tmp_path: Path) -> None:
    good = {
        f"{CPU}/online": "0-1",
        "/proc/loadavg": "0 0 0 1/2 3",
        "/proc/uptime": "5.0 5.0",
        f"{MC}/mc0/ue_count": "0",
    }
    host = machine(tmp_path, good | {f"{MC}/mc0/seconds_since_reset": "1", SOURCES[name]: ugly})
    assert (await result_of(name, host, **EXPECTATIONS.get(name, {}))).severity is Severity.UNKNOWN


def topology(sockets: int, cores: int, threads: int) -> dict[str, str]:
    """Siblings far apart, as on real machines: CPU 0's second thread is CPU 64."""
    files, whole = {}, sockets * cores
    files[f"{CPU}/online"] = f"0-{whole * threads - 1}\n"
    for number in range(whole * threads):
        core = number % whole
        first = core // cores * cores
        siblings = ",".join(str(core + whole * thread) for thread in range(threads))
        spans = ",".join(f"{first + whole * t}-{first + whole * t + cores - 1}" for t in range(threads))
        files[f"{CPU}/cpu{number}/topology/thread_siblings_list"] = siblings + "\n"
        files[f"{CPU}/cpu{number}/topology/core_siblings_list"] = spans + "\n"
    return files


async def test_sockets_and_cores_are_counted(tmp_path: Path) -> None:
    host = machine(tmp_path, topology(2, 4, 2))
    expected = {"expected": 16, "sockets": 2, "cores": 8}
    assert (await result_of("cpu.count", host, **expected)).severity is Severity.OK
    write(host, {f"{CPU}/online": "0-2,4-10,12-15\n"})
    found = await result_of("cpu.count", host, **expected)
    assert found.message == "found 14 CPUs, expected 16, found 2 sockets, expected 2, found 7 cores, expected 8"


def test_lists_of_cpus() -> None:
    assert cpu.parse_cpu_list("0-2,8\n") == {0, 1, 2, 8}
    for ugly in ("", "0-", "3-1", "0-99999", "0,,2"):
        with pytest.raises(ValueError):
            cpu.parse_cpu_list(ugly)


def frequencies(number: int, present: str, ceiling: str = "3700000", governor: str = "performance") -> dict[str, str]:
    policy = f"{CPU}/cpufreq/policy{number}"
    limits = {f"{policy}/cpuinfo_max_freq": "3700000\n", f"{policy}/scaling_max_freq": f"{ceiling}\n"}
    return limits | {f"{policy}/scaling_cur_freq": present, f"{policy}/scaling_governor": f"{governor}\n"}


async def test_frequencies_count_only_while_cpus_are_busy(tmp_path: Path) -> None:
    host = machine(tmp_path, {f"{CPU}/online": "0-1", "/proc/loadavg": "64.00 9.00 9.00 1/900 77\n"})
    write(host, frequencies(0, "400000\n") | frequencies(1, "400000\n"))
    waiting = await result_of("cpu.freq", host)
    assert (waiting.severity, waiting.message) == (Severity.OK, "CPUs run at 400 MHz with 0.50 tasks each")
    write(host, {"/proc/loadavg": "2.00 9.00 9.00 2/900 77\n"})
    assert (await result_of("cpu.freq", host)).severity is Severity.CRITICAL
    write(host, frequencies(0, "3100000\n") | frequencies(1, "<unknown>\n"))
    assert (await result_of("cpu.freq", host)).message.startswith("CPUs run at 3100 MHz")
    write(host, frequencies(1, "3100000\n", "1200000", "powersave"))
    assert "limited to 1200 MHz" in (await result_of("cpu.freq", host)).message
    found = await result_of("cpu.governor", host, expected="performance")
    assert found.message.startswith("found performance, powersave")


def test_buddyinfo() -> None:
    blocks = memory.parse_buddyinfo(BUDDYINFO)
    assert blocks.large == 52 + 4275 + 1 + 1
    pages = 4172 + 13356 + 18420 + 90664 + 71536 + 47776 + 26944 + 15360 + 13312 + 4377600 + 2 + 256 + 1024
    assert blocks.worth == pages // 256
    assert memory.parse_buddyinfo("Node 0, zone    DMA32    561    481 \n") == memory.FreeBlocks(0, 0)


def controller(number: int, ce: int, ue: int, dimms: Mapping[str, tuple[str, int, int]]) -> dict[str, str]:
    files = {"ce_count": f"{ce}\n", "ue_count": f"{ue}\n", "seconds_since_reset": "864000\n"}
    for dimm, (label, dimm_ce, dimm_ue) in dimms.items():
        own = {"dimm_label": label, "dimm_ce_count": f"{dimm_ce}\n", "dimm_ue_count": f"{dimm_ue}\n"}
        files |= {f"{dimm}/{name}": text for name, text in own.items()}
    return {f"{MC}/mc{number}/{name}": text for name, text in files.items()}


async def test_memory_errors_name_the_module(tmp_path: Path) -> None:
    host = machine(tmp_path, controller(0, 0, 0, {"dimm0": ("CPU0_A1\n", 0, 0)}))
    write(host, controller(1, 3, 1, {"dimm0": ("CPU1_A1\n", 3, 0), "dimm3": ("\n", 0, 1)}))
    found = await result_of("mem.ecc", host)
    assert (found.message, found.component) == ("mc1 dimm3: 1 uncorrected memory error, expected 0", "mc1 dimm3")
    write(host, controller(1, 20000, 0, {"dimm0": ("CPU1_A1\n", 20000, 0), "dimm3": ("\n", 0, 0)}))
    assert (await result_of("mem.ecc", host)).message == "mc1 CPU1_A1: 2000 corrected memory errors a day, limit 1000"


def test_swaps() -> None:
    text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/zram0  partition\t4194300\t0\t100\n"
    assert memory.parse_swaps(text) == memory.Swap(4095, ("/dev/zram0",))
    with pytest.raises(ValueError, match="/proc/swaps"):
        memory.parse_swaps(text + "/dev/sda3 partition 77\n")


def stat(pid: int, name: str, parent: int = 1, state: str = "S", threads: int = 1, start: int = 100) -> dict[str, str]:
    rest = " ".join(["0"] * 15)
    return {f"/proc/{pid}/stat": f"{pid} ({name}) {state} {parent} {rest} {threads} 0 {start} 0 0\n"}


def test_a_name_can_hold_anything() -> None:
    found = parse_stat(7, stat(7, "a) Z 1 (\x1b[31m\n", parent=5)["/proc/7/stat"])
    assert found == Process(7, 5, "a) Z 1 (?[31m?", "S", 1, 100)
    assert parse_stat(7, "") is parse_stat(7, "7 (sh) S 1 0") is parse_stat(7, "7 sh S") is None


@dataclass
class CountingHost(FakeHost):
    seen: Counter[str] = field(default_factory=Counter)

    def read(self, path: str) -> str:
        self.seen[path] += 1
        return super().read(path)


def kernel(*threads: int) -> dict[str, str]:
    """A /proc with kernel threads. Their own files are there as well, and big machines have thousands of them."""
    listed = {"/proc/2/comm": "kthreadd\n", "/proc/2/task/2/children": "".join(f"{pid} " for pid in threads)}
    parts = (stat(pid, "kworker/0:1", 2, "D") for pid in threads)
    files = {"/proc/uptime": "1000.00 9\n", f"{CPU}/online": "0-1\n"} | listed
    return files | {path: text for part in parts for path, text in part.items()}


async def test_one_look_serves_all_checks_and_skips_the_kernels_threads() -> None:
    host = CountingHost(files=kernel(3, 4) | stat(1, "systemd", 0) | stat(50, "munged"))
    results = await run_checks(processes.CHECKS, host, {})
    assert {r.check for r in results if r.severity is Severity.OK} == {"proc.zombie", "proc.dstate"}
    assert (await result_of("proc.required", host, names="munged:systemd")).severity is Severity.OK
    assert host.seen["/proc/50/stat"] == 1
    assert host.seen["/proc/3/stat"] == host.seen["/proc/2/stat"] == 0


async def test_the_kernels_threads_are_left_out_where_they_are_not_listed() -> None:
    host = FakeHost(files=kernel(3, 4))
    del host.files["/proc/2/task/2/children"]
    assert (await processes.gather_stuck(host, processes.StuckParameters())).processes == ()


async def test_in_a_container_process_2_is_anybody() -> None:
    host = FakeHost(files=kernel() | stat(2, "bash") | stat(9, "dd", 2, "D"))
    host.files["/proc/2/comm"] = "bash\n"
    assert [one.pid for one in (await processes.gather_stuck(host, processes.StuckParameters())).processes] == [9]


def switches(pid: int, count: int) -> dict[str, str]:
    return {f"/proc/{pid}/status": f"voluntary_ctxt_switches:\t{count}\nnonvoluntary_ctxt_switches:\t5\n"}


async def test_stuck_is_who_does_not_run_for_five_minutes() -> None:
    host = FakeHost(files=kernel() | stat(70, "cat", state="D") | switches(70, 8) | stat(71, "dd", state="D"))
    host.files["/proc/70/wchan"] = "rpc_wait_bit_killable"
    for elapsed in range(0, 301, 10):
        # dd is in state D whenever one looks, but it gets on.
        host.files |= {"/proc/uptime": f"{1000 + elapsed}.00 9\n"} | switches(71, elapsed)
        found = await result_of("proc.dstate", host)
        assert found.severity is (Severity.CRITICAL if elapsed >= 300 else Severity.OK), elapsed
    assert found.message == "1 stuck: cat (70) in rpc_wait_bit_killable for 300 s"
    host.files |= {"/proc/uptime": "1310.00 9\n"} | stat(70, "cat", state="D", start=131000)
    assert (await result_of("proc.dstate", host)).severity is Severity.OK, "another process with the same pid"


async def test_zombies_are_counted_by_how_long_they_are_dead() -> None:
    host = FakeHost(files=kernel())
    for pid in range(100, 201):
        host.files |= stat(pid, "sh", 1, "Z")
    assert (await result_of("proc.zombie", host)).message.startswith("0 zombies")
    host.files["/proc/uptime"] = "1300.00 9\n"
    found = await result_of("proc.zombie", host)
    assert (found.severity, found.message) == (
        Severity.CRITICAL,
        "101 zombies older than 300 s, 101 of them init's, limit 100",
    )
    for pid in range(100, 201):
        host.files |= stat(pid, "sh", 77, "Z")
    host.files["/proc/uptime"] = "1700.00 9\n"
    await result_of("proc.zombie", host)
    host.files["/proc/uptime"] = "2100.00 9\n"
    theirs = await result_of("proc.zombie", host)
    assert (theirs.severity, theirs.blame) == (Severity.WARN, Blame.USER)


def test_a_boot_or_another_host_starts_anew() -> None:
    process = Process(7, 1, "cat", "D", 1, 100, since=5.0)
    before, now = Snapshot(900.0, {7: process}), Snapshot(60.0, {7: Process(7, 1, "cat", "D", 1, 100, since=60.0)})
    assert carry(before, now) == now
    table, files = ProcessTable(), kernel() | stat(7, "cat", state="D")
    first, second = FakeHost(files=files), FakeHost(files=files | {"/proc/uptime": "1500.00 9\n"})
    assert table.look(first).processes[7].since == 1000.0
    assert table.look(second).processes[7].since == 1500.0


def uid(pid: int, number: int) -> dict[str, str]:
    return {f"/proc/{pid}/status": f"Name:\tx\nPPid:\t1\nUid:\t{number}\t0\t0\t0\n"}


async def test_who_belongs_to_a_job_and_who_does_not() -> None:
    files = kernel() | stat(1, "systemd", 0) | stat(20, "slurmstepd") | stat(21, "bash", 20) | stat(22, "python", 21)
    for pid, number in ((1, 0), (20, 0), (21, 1000), (22, 1000)):
        files |= uid(pid, number)
    host = FakeHost(files=files)
    lineage = {"uid_min": 1000}
    assert (await result_of("proc.user_lineage", host, **lineage)).severity is Severity.OK
    # By ssh, adopted into the job; and by ssh, not adopted; and a daemon with a user of its own.
    files |= (
        stat(30, "python") | uid(30, 1000) | stat(31, "python") | uid(31, 1001) | stat(32, "exporter") | uid(32, 998)
    )
    files |= {"/proc/30/cgroup": "0::/system.slice/slurmstepd.scope/job_7/step_extern/user/task_0\n"}
    files |= {"/proc/31/cgroup": "0::/user.slice/user-1001.slice/session-3.scope\n"}
    files |= stat(33, "systemd") | uid(33, 1001) | stat(34, "x") | uid(34, 65534)
    host = FakeHost(files=files)
    found = await result_of("proc.user_lineage", host, **lineage)
    assert found.message == "outside any job: python (31) of uid 1001"
    assert (await result_of("proc.forbidden", host, names="python")).message == found.message
    assert (await result_of("proc.forbidden", host, names="bash")).severity is Severity.OK


@pytest.mark.parametrize(
    ("cgroup", "inside"),
    [
        ("5:memory:/slurm/uid_1000/job_7/step_0/task_0", True),
        ("5:memory:/slurm_c1/uid_1000/job_7/step_0", True),
        ("0::/system.slice/c1_slurmstepd.scope/job_7/step_0/user", True),
        ("0::/system.slice/slurmd.service", False),
        ("0::/user.slice/slurmers/x", False),
    ],
)
async def test_cgroups_of_jobs(cgroup: str, inside: bool) -> None:
    host = FakeHost(files=kernel() | stat(30, "python") | uid(30, 1000) | {"/proc/30/cgroup": f"{cgroup}\n"})
    found = await result_of("proc.user_lineage", host, uid_min=1000)
    assert found.severity is (Severity.OK if inside else Severity.CRITICAL)


async def test_a_users_process_is_not_slurmstepd_because_it_says_so() -> None:
    files = kernel() | stat(40, "slurmstepd") | uid(40, 1000) | stat(41, "miner", 40) | uid(41, 1000)
    found = await result_of("proc.user_lineage", FakeHost(files=files), uid_min=1000)
    assert found.message == "outside any job: slurmstepd (40) of uid 1000 and 1 more"


async def test_an_idle_node_has_no_steps() -> None:
    host = FakeHost(files=kernel() | {"/proc/meminfo": MEMINFO} | stat(40, "slurmstepd"))
    host.files["/proc/40/cmdline"] = "/usr/sbin/slurmstepd\0infinity\0"
    idle = await result_of("mem.idle_used", host, limit=1000)
    assert idle.message == "1439 MiB in use without a job, 8 MiB of it shared, limit 1000 MiB"
    host.files |= {"/proc/uptime": "1010.00 9\n", "/proc/41/cmdline": "slurmstepd: [7.batch]\0"} | stat(
        41, "slurmstepd"
    )
    assert (await result_of("mem.idle_used", host, limit=1000)).message == "nothing to check: jobs are running"


async def test_modules_and_firmware(tmp_path: Path) -> None:
    host = machine(
        tmp_path, {"/sys/module/nvidia_peermem/version": "1\n", "/sys/class/dmi/id/bios_version": "2.19.0 \n"}
    )
    assert (await result_of("node.module", host, names="nvidia-peermem")).severity is Severity.OK
    assert (await result_of("node.module", host, names="gdrdrv")).message == "not in the kernel: gdrdrv"
    assert (await result_of("node.bios", host, bios_version="2.18:2.19.0")).severity is Severity.OK
    assert (await result_of("node.bios", host, bios_version="2.1")).severity is Severity.CRITICAL
    assert (await result_of("node.bios", host, bios_date="x")).severity is Severity.UNKNOWN


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(20.0):
        while not done():
            await asyncio.sleep(0.005)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@contextmanager
def started(program: str, *args: str) -> Iterator["subprocess.Popen[bytes]"]:
    child = subprocess.Popen([sys.executable, "-c", program, *args])
    try:
        yield child
    finally:
        child.kill()
        child.wait()


async def test_a_real_zombie() -> None:
    real = this_machine("c1", LocalTransport())
    child = os.fork()
    if child == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        found = (await processes.gather_zombies(real, processes.ZombieParameters())).processes
        assert [one.parent for one in found if one.pid == child] == [os.getpid()]
    finally:
        os.waitpid(child, 0)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of the system call exit is x86_64's")
async def test_a_first_thread_that_ended_is_no_zombie() -> None:
    real = this_machine("c1", LocalTransport())
    thread = "threading.Thread(target=time.sleep, args=(60,)).start()"
    with started(f"import ctypes, threading, time; {thread}; ctypes.CDLL(None).syscall(60, 0)") as child:
        await until(lambda: state_of(child.pid) == "Z")
        assert child.poll() is None
        found = (await processes.gather_zombies(real, processes.ZombieParameters())).processes
        assert child.pid not in {one.pid for one in found}


SPAWN = """
import os, sys
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])
"""


async def test_a_real_process_in_state_d(tmp_path: Path) -> None:
    """The parent of a vfork waits in state D for a child that here waits for a FIFO."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    real = this_machine("c1", LocalTransport())
    with started(SPAWN, str(fifo)) as child:
        await until(lambda: state_of(child.pid) == "D")
        stuck = await processes.gather_stuck(real, processes.StuckParameters())
        other_end = os.open(fifo, os.O_WRONLY)
        assert child.wait() == 0
        os.close(other_end)
    mine = next(one for one in stuck.processes if one.pid == child.pid)
    assert mine.where in ("", "0") or mine.where.partition(".")[0] in processes.StuckParameters().ignore.split(":")


async def test_a_real_daemon_is_found() -> None:
    real = this_machine("c1", LocalTransport())
    own = Path("/proc/self/comm").read_text().strip()
    assert (await result_of("proc.required", real, names=own)).severity is Severity.OK
    assert (await result_of("proc.required", real, names="no-such-daemon")).severity is Severity.CRITICAL
