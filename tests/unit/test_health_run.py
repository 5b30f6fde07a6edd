"""Gathering, timeouts, overrides: what happens around a judgement."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from health_fakes import FakeHost, answers

from hpcli.domain.check import CheckResult, Severity
from hpcli.errors import UsageFault
from hpcli.health import gpu, slurm, storage, system
from hpcli.health.check import AnyCheck, Check, Context, Scope, prepare, select
from hpcli.health.registry import CHECKS
from hpcli.health.run import CheckRound, run_check, run_checks
from hpcli.ports import DiskUse

GOOD = DiskUse(10.0, 1.0, False)
MEMINFO = "MemTotal:        2113405952 kB\nMemFree:         1 kB\nMemAvailable:    1056702976 kB\nSwapTotal: 0 kB\n"
TRACKING = "A9FEA97B,169.254.169.123,4,1700000000.1,0.000012,-0.000003,0.00002,-8.5,0.0,0.1,0.0005,0.0003,16.2,Normal\n"
CREDENTIAL = "MUNGE:AwQFAAAYXrUb:\n"
METADATA = "STATUS:          0\nENCODE_HOST:     127.0.0.1\nENCODE_TIME:     1795441590\nDECODE_TIME:     1795441591\n"


async def result_of(check: AnyCheck, host: FakeHost, **parameters: object) -> CheckResult:
    result = await run_check(check, host, parameters)
    assert result
    return result


async def test_gpus_are_device_files_and_nothing_else() -> None:
    host = FakeHost(files={"/dev/nvidiactl": "", "/dev/nvidia-uvm": "", "/dev/nvidia0x": ""})
    host.files |= {f"/dev/nvidia{n}": "" for n in range(12)}
    assert (await result_of(gpu.COUNT, host, expected=12)).severity is Severity.OK
    del host.files["/dev/nvidia10"]
    found = await result_of(gpu.COUNT, host, expected=12)
    assert (found.severity, found.component) == (Severity.CRITICAL, "gpu10")


async def test_checks_with_nothing_to_check_do_not_run() -> None:
    assert await run_check(gpu.COUNT, FakeHost(), {}) is None
    assert await run_check(gpu.COUNT, FakeHost(), {"expected": 8, "enabled": False}) is None
    names = {result.check for result in await run_checks(CHECKS, FakeHost(), {})}
    assert {"disk.free", "disk.read_only", "mem.free", "time.sync", "munge", "proc.zombie", "ib.flap"} <= names
    wanting = {
        "gpu.count",
        "slurmd.alive",
        "cpu.count",
        "swap",
        "proc.required",
        "node.module",
        "disk.count",
        "ib.count",
    }
    assert names.isdisjoint(wanting | {"efa.count", "svc.active", "fs.file", "net.link", "pci.manifest", "cloud.event"})


async def test_a_bare_host_is_unknown_and_never_critical() -> None:
    results = await run_checks(CHECKS, FakeHost(), {"slurmd.alive": {"pid_file": "/run/slurmd.pid"}, "munge": {}})
    critical = [result.check for result in results if result.severity is Severity.CRITICAL]
    assert critical == ["slurmd.alive"]


async def test_memory_from_meminfo() -> None:
    host = FakeHost(files={"/proc/meminfo": MEMINFO})
    assert "50 %" in (await result_of(system.FREE, host)).message
    assert (await result_of(system.TOTAL, host, expected=2063873)).severity is Severity.OK


@pytest.mark.parametrize("ugly", ["", "MemTotal: lots\n", "MemTotal: 1 kB\n", "\x00\ufffd"])
async def test_ugly_meminfo_is_unknown(ugly: str) -> None:
    host = FakeHost(files={"/proc/meminfo": ugly})
    assert (await result_of(system.FREE, host)).severity is Severity.UNKNOWN


async def test_clock_from_chrony_then_timedatectl_then_nothing() -> None:
    host = FakeHost(files={"/proc/stat": "cpu 1\nbtime 1700000000\n"})
    host.programs["timedatectl"] = answers("no\n")
    assert (await result_of(system.SYNC, host)).message.startswith("timedatectl: the clock is not")
    host.programs["chronyc"] = answers(TRACKING)
    assert (await result_of(system.SYNC, host)).message == "chronyd: 0.000 s off"
    host.programs = {"chronyc": answers("506 Cannot talk to daemon\n", 1), "timedatectl": answers("", 1)}
    assert "no time service" in (await result_of(system.SYNC, host)).message


@pytest.mark.parametrize("ugly", ["506 Cannot talk to daemon", TRACKING.replace("0.000012", "nan"), "," * 13])
async def test_ugly_tracking_is_unknown(ugly: str) -> None:
    host = FakeHost(files={"/proc/stat": "btime 5"}, programs={"chronyc": answers(ugly)})
    assert (await result_of(system.SYNC, host)).severity is Severity.UNKNOWN


async def test_a_step_of_the_clock_shows_from_one_round_to_the_next() -> None:
    host = FakeHost(files={"/proc/stat": "btime 1700000000\n"}, programs={"timedatectl": answers("yes\n")})
    sync = select(CHECKS, {}, context=Context.CONTINUOUS, scope=Scope.MACHINE)
    check_round = CheckRound(host, tuple(ready for ready in sync if ready.name == "time.sync"))
    assert (await check_round())[0].severity is Severity.OK
    host.files["/proc/stat"] = "btime 1700000100\n"
    assert (await check_round())[0].message == "the clock was set +100 s"
    assert (await check_round())[0].severity is Severity.OK


async def test_munge_round_trip_uses_the_socket() -> None:
    seen = []
    host = FakeHost()
    host.programs["munge"] = lambda argv, stdin: seen.append(tuple(argv)) or answers(CREDENTIAL)(argv, stdin)  # type: ignore[func-returns-value]
    host.programs["unmunge"] = lambda argv, stdin: seen.append((*argv, stdin)) or answers(METADATA)(argv, stdin)  # type: ignore[func-returns-value]
    assert (await result_of(slurm.MUNGE, host, socket="/run/m.sock")).severity is Severity.OK
    assert seen[0] == ("munge", "-n", "-S", "/run/m.sock")
    assert seen[1][-1] == CREDENTIAL and "/run/m.sock" in seen[1]


async def test_munge_faults_and_nonsense() -> None:
    host = FakeHost(programs={"munge": answers("", 6, "munge: Error: no munged\n"), "unmunge": answers(METADATA)})
    assert (await result_of(slurm.MUNGE, host)).message == "munge: Error: no munged"
    host.programs = {"munge": answers(CREDENTIAL), "unmunge": answers("", 15, "unmunge: Error: Expired credential\n")}
    assert (await result_of(slurm.MUNGE, host)).severity is Severity.CRITICAL
    host.programs["unmunge"] = answers("hello")
    assert (await result_of(slurm.MUNGE, host)).severity is Severity.UNKNOWN


async def test_slurmd_from_proc() -> None:
    host = FakeHost(files={"/p": "77\n", "/proc/77/stat": "77 (slurmd) S 1 77 77 0 -1\n"})
    assert (await result_of(slurm.SLURMD_ALIVE, host, pid_file="/p")).severity is Severity.OK
    host.files["/proc/77/stat"] = "77 (a) Z (x) T 1 77\n"
    assert "is 'a) Z (x'" in (await result_of(slurm.SLURMD_ALIVE, host, pid_file="/p")).message
    host.files["/p"] = "\x00garbage"
    assert (await result_of(slurm.SLURMD_ALIVE, host, pid_file="/p")).severity is Severity.UNKNOWN
    host.files["/p"] = "77"
    host.files["/proc/77/stat"] = ""
    assert (await result_of(slurm.SLURMD_ALIVE, host, pid_file="/p")).severity is Severity.UNKNOWN


async def test_disks_of_several_paths_and_a_stale_one() -> None:
    host = FakeHost(disks={"/": GOOD, "/tmp": replace(GOOD, space_percent=97.0)})
    assert (await result_of(storage.FREE, host)).component == "/tmp"
    del host.disks["/tmp"]
    assert (await result_of(storage.FREE, host)).severity is Severity.UNKNOWN
    assert (await result_of(storage.FREE, host, path="/")).severity is Severity.OK


@dataclass
class Stuck:
    """Gathers for ever, even when cancelled, until `freed` is set."""

    freed: asyncio.Event = field(default_factory=asyncio.Event)
    started: int = 0

    async def gather(self, host: object, parameters: object) -> str:
        self.started += 1
        while not self.freed.is_set():
            try:
                await self.freed.wait()
            except asyncio.CancelledError:
                continue
        return "free"

    def check(self) -> Check[str, Any]:
        return Check(
            name="stuck",
            detects="",
            source="",
            scope=Scope.NODE,
            parameters=system.MemoryFreeParameters,
            gather=self.gather,
            judge=lambda evidence, parameters: CheckResult("stuck", Severity.OK, evidence),
            evidence=str,
            timeout=0.01,
        )


async def test_a_check_that_cannot_be_ended_is_unknown_and_never_piles_up() -> None:
    stuck = Stuck()
    ready = prepare(stuck.check(), {})
    assert ready
    check_round = CheckRound(FakeHost(), (ready,))
    assert (await check_round())[0].message.endswith("no answer within 0.01 s")
    assert (await check_round())[0].message.endswith("still hangs since an earlier round")
    assert stuck.started == 1
    stuck.freed.set()
    while (result := (await check_round())[0]).severity is not Severity.OK:
        await asyncio.sleep(0)
    assert (result.message, stuck.started) == ("free", 2)


async def test_two_rounds_at_once_share_one_look() -> None:
    stuck = Stuck()
    ready = prepare(replace(stuck.check(), timeout=5.0), {})
    assert ready
    check_round = CheckRound(FakeHost(), (ready,))
    both = asyncio.gather(check_round(), check_round())
    while not stuck.started:
        await asyncio.sleep(0)
    stuck.freed.set()
    first, second = await both
    assert first[0].severity is second[0].severity is Severity.OK
    assert stuck.started == 1


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        ({"gpu.cuont": {}}, "gpu.cuont", "did you mean gpu.count?"),
        ({"disk.free": {"critcal": 9}}, "critcal", "did you mean critical?"),
        ({"disk.free": {"critical": "high"}}, "found 'high', expected a number", ""),
        ({"gpu.count": {"expected": True}}, "found True, expected a whole number", ""),
        ({"munge": {"socket": 7}}, "found 7, expected text", ""),
    ],
)
def test_impossible_overrides_are_refused(overrides: dict[str, dict[str, object]], message: str, hint: str) -> None:
    with pytest.raises(UsageFault) as refused:
        select(CHECKS, overrides, context=Context.CONTINUOUS)
    assert message in refused.value.message
    assert hint in refused.value.hint


def test_a_whole_number_will_do_for_a_number() -> None:
    ready = prepare(storage.FREE, {"critical": 90})
    assert ready and ready.parameters.critical == 90.0
