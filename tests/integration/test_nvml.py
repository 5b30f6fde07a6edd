"""The real nvidia-ml-py against a simulated libnvidia-ml.so.1, through the child process."""

import asyncio
import importlib.util
import os
import shlex
import time
from collections.abc import AsyncIterator
from dataclasses import astuple, dataclass
from pathlib import Path

import pytest

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.domain.gpus import Driver, Gpus, Loss
from hpcli.health.check import Context, select
from hpcli.health.gpu_all import CHECKS
from hpcli.health.run import CheckRound, run_checks
from hpcli.probe.host import LocalHost, folder_machine
from hpcli.probe.nvml import NvmlProbe, Timing
from hpcli.transport import proc
from hpcli.transport.process import LocalTransport, spawn_on_socket
from tests.nvml.build import build, compiler

if not compiler():
    pytest.skip("no C compiler here: install gcc and libc6-dev", allow_module_level=True)
if importlib.util.find_spec("pynvml") is None:
    pytest.skip("no nvidia-ml-py here: install hpcli's extra gpu", allow_module_level=True)

QUICK = Timing(fresh=0.0, retry=0.0, patience=20.0, limit=60.0)
"""Each look asks anew, and waits as long as a busy machine needs."""

EIGHT = {"gpu.lost": {"expected": 8}, "gpu.driver": {"expected": 8}}


@dataclass
class Node:
    """A node with simulated GPUs."""

    host: LocalHost
    state: Path

    def is_now(self, *lines: str) -> None:
        """Replace the GPUs' state; a call never sees half of it."""
        fresh = self.state.with_suffix(".new")
        fresh.write_text("".join(f"{line}\n" for line in lines))
        fresh.replace(self.state)

    def with_timing(self, timing: Timing) -> NvmlProbe:
        self.host.gpus.timing = timing
        return self.host.gpus

    async def faults(self) -> dict[str, CheckResult]:
        """What is not OK."""
        return {result.check: result for result in await run_checks(CHECKS, self.host, EIGHT) if not _fine(result)}

    def child(self) -> int:
        child = self.host.gpus._child
        assert child
        return child.pid


def _fine(result: CheckResult) -> bool:
    return result.severity is Severity.OK


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    (tmp_path / "lib").symlink_to(build())
    host = folder_machine("c1", tmp_path, LocalTransport())
    host.gpus.timing = QUICK
    found = Node(host, tmp_path / "nvml")
    found.is_now("count 8")
    yield found
    host.gpus.close()


async def test_healthy_gpus_tell_everything_and_nothing_is_wrong(node: Node) -> None:
    gpus = await node.host.nvml()
    assert (gpus.driver, gpus.version, len(gpus.gpus)) == (Driver.RUNNING, "570.86.15", 8)
    # A field that the child misspells would be None for ever. Pages are of older GPUs, which have no rows.
    names = [(group, value) for gpu in gpus.gpus for group in astuple(gpu) for value in group]
    assert sum(value is None for _, value in names) == 8 * 3
    assert await node.faults() == {}


async def test_an_older_gpu_retires_pages(node: Node) -> None:
    node.is_now(
        "count 1", "gpu * rows.corrected -", "gpu 0 pages.single 7", "gpu 0 pages.double 60", "gpu 0 pages.pending 1"
    )
    memory = (await node.host.nvml()).gpus[0].memory
    assert (memory.rows_failed, memory.pages_single, memory.pages_double, memory.pages_pending) == (None, 7, 60, True)


FAULTS = {
    "lost": (["gpu 3 lost"], "gpu.lost", Severity.CRITICAL, Remedy.REBOOT, "gpu3: lost"),
    "reset required": (["gpu 3 reset_required"], "gpu.lost", Severity.CRITICAL, Remedy.RESET, "gpu3: needs a reset"),
    "fewer": (["count 7"], "gpu.lost", Severity.CRITICAL, Remedy.REBOOT, "lists 7 GPUs, expected 8"),
    "calls fail": (
        ["gpu 2 fail nvmlDeviceGetPowerUsage 999"],
        "gpu.lost",
        Severity.WARN,
        Remedy.NONE,
        "gpu2: NVML calls fail (00000000:12:00.0): nvmlDeviceGetPowerUsage: 999",
    ),
    "uncorrected": (
        ["gpu 1 ecc.volatile.uncorrected 2"],
        "gpu.ecc_ue_vol",
        Severity.CRITICAL,
        Remedy.RESET,
        "gpu1: 2 ",
    ),
    "SRAM": (
        ["gpu 1 ecc.aggregate.uncorrected.sram 5"],
        "gpu.ecc_sram_ue_agg",
        Severity.CRITICAL,
        Remedy.REPLACE,
        "gpu1",
    ),
    "corrected": (["gpu 1 ecc.volatile.corrected.dram 30000000"], "gpu.ecc_ce", Severity.WARN, Remedy.NONE, "30000000"),
    "remap failed": (["gpu 6 rows.failed 1"], "gpu.remap_failed", Severity.CRITICAL, Remedy.REPLACE, "gpu6"),
    "remap pending": (["gpu 6 rows.pending 1"], "gpu.remap_pending", Severity.CRITICAL, Remedy.DRAIN, "gpu6"),
    "many remaps": (["gpu 6 rows.uncorrected 600"], "gpu.remap_count", Severity.CRITICAL, Remedy.REPLACE, "600 rows"),
    "hot": (["gpu 0 temperature 90"], "gpu.temp", Severity.CRITICAL, Remedy.DRAIN, "gpu0: 90 °C"),
    "margin": (
        ["gpu 0 threshold.slowdown -", "gpu 0 margin -2"],
        "gpu.temp",
        Severity.CRITICAL,
        Remedy.DRAIN,
        "-2 °C below",
    ),
    "throttled": (["gpu 0 reasons 0x48"], "gpu.throttle", Severity.CRITICAL, Remedy.DRAIN, "hardware thermal slowdown"),
    "slow": (["gpu 0 clock.sm 345", "gpu 0 utilization 97"], "gpu.clock", Severity.CRITICAL, Remedy.DRAIN, "345 MHz"),
    "narrow": (["gpu 4 pcie.width 8"], "gpu.pcie", Severity.CRITICAL, Remedy.DRAIN, "gpu4: PCIe link x8, expected x16"),
    "link down": (["gpu 5 link.11.active 0"], "gpu.nvlink_down", Severity.CRITICAL, Remedy.RESET, "(down: 11)"),
    "bit errors": (
        ["gpu 5 link.3.ber 0x204"],
        "gpu.nvlink_ber",
        Severity.WARN,
        Remedy.NONE,
        "gpu5: bit error rate 2e-04",
    ),
    "fabric": (["gpu * fabric.state 1"], "gpu.fabric", Severity.CRITICAL, Remedy.DRAIN, "not started"),
    "recovery": (["gpu 7 recovery_action 2"], "gpu.recovery_action", Severity.CRITICAL, Remedy.REBOOT, "reboot"),
    "inforom": (["gpu 7 fail nvmlDeviceValidateInforom 14"], "gpu.inforom", Severity.CRITICAL, Remedy.REPLACE, "gpu7"),
    "vbios": (["gpu 2 vbios 96.00.74.00.01"], "gpu.vbios", Severity.WARN, Remedy.NONE, "gpu2: VBIOS 96.00.74.00.01"),
    "persistence": (["gpu 2 persistence 0"], "gpu.persistence", Severity.WARN, Remedy.NONE, "gpu2"),
    "stray": (
        [f"gpu 2 process {os.getpid()} 4096"],
        "gpu.stray_procs",
        Severity.CRITICAL,
        Remedy.DRAIN,
        str(os.getpid()),
    ),
    "memory held": (["gpu 2 memory.used 4096"], "gpu.mem_used", Severity.CRITICAL, Remedy.DRAIN, "gpu2: 4096 MiB"),
    "no driver": (
        ["fail nvmlInitWithFlags 9"],
        "gpu.driver",
        Severity.CRITICAL,
        Remedy.DRAIN,
        "Driver Not Loaded; expected 8 GPUs",
    ),
    "other library": (["fail nvmlInitWithFlags 18"], "gpu.driver", Severity.CRITICAL, Remedy.DRAIN, "NVML error 18"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_found_by_its_check_and_goes_with_its_cause(node: Node, fault: str) -> None:
    lines, check, severity, remedy, contains = FAULTS[fault]
    node.is_now(*lines)
    found = await node.faults()
    certain = {name for name, result in found.items() if result.severity is not Severity.UNKNOWN}
    assert certain == {check}
    result = found[check]
    assert (result.severity, result.remedy) == (severity, remedy)
    assert contains in result.message
    node.is_now("count 8")
    assert await node.faults() == {}


async def test_a_lost_gpu_is_known_by_its_address_from_before(node: Node) -> None:
    before = (await node.host.nvml()).gpus[3].life
    node.is_now("gpu 3 lost")
    after = (await node.host.nvml()).gpus[3].life
    assert (after.loss, after.pci, after.uuid) == (Loss.LOST, before.pci, before.uuid)
    assert after.pci == "00000000:13:00.0"


async def test_counters_that_rise_between_two_rounds(node: Node) -> None:
    checks = select(CHECKS, {}, context=Context.CONTINUOUS)
    round_ = CheckRound(
        node.host, tuple(ready for ready in checks if ready.name in ("gpu.pcie_replay", "gpu.nvlink_err"))
    )
    assert all(map(_fine, await round_()))
    node.is_now("gpu 1 pcie.replays 5000", "gpu 2 link.7.recovery 900")
    replay, nvlink = await round_()
    assert (replay.severity, replay.component) == (Severity.WARN, "gpu1")
    assert (nvlink.severity, nvlink.component) == (Severity.CRITICAL, "gpu2")
    assert all(map(_fine, await round_()))


async def _hung(node: Node) -> tuple[Gpus, float]:
    """The first snapshot that is over the probe's limit, and the longest that anybody waited for one."""
    longest = 0.0
    while True:
        start = time.monotonic()
        found = await node.host.nvml()
        longest = max(longest, time.monotonic() - start)
        assert found.driver is Driver.SILENT
        if found.waited >= node.host.gpus.timing.limit:
            return found, longest
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("call", ["nvmlDeviceGetTemperature", "nvmlInitWithFlags", "nvmlDeviceGetCount_v2"])
async def test_a_call_that_hangs(node: Node, call: str) -> None:
    """Nobody waits for it longer than the probe's patience; the child is killed at the limit and replaced later."""
    node.is_now(f"hang {call}")
    node.with_timing(Timing(fresh=0.0, patience=0.2, limit=1.5))
    found, longest = await _hung(node)
    assert longest < 1.0
    hung = node.child()
    results = {result.check: result for result in await run_checks(CHECKS, node.host, {"gpu.hang": {"limit": 1.0}})}
    assert (results["gpu.hang"].severity, results["gpu.hang"].remedy) == (Severity.CRITICAL, Remedy.REBOOT)
    assert {result.severity for name, result in results.items() if name != "gpu.hang"} == {Severity.UNKNOWN}
    assert found.waited >= 1.5
    node.is_now("count 8")
    node.with_timing(QUICK)
    while (await node.host.nvml()).driver is Driver.SILENT:
        await asyncio.sleep(0.05)
    assert await node.faults() == {}
    assert node.child() != hung
    assert not Path(f"/proc/{hung}").exists()
    node.is_now(f"hang {call}")
    node.host.gpus.close()
    node.with_timing(Timing(fresh=0.0, patience=0.2, limit=60.0))
    again = await node.host.nvml()
    assert (again.driver, again.waited < found.waited) == (Driver.SILENT, True)


async def test_a_driver_that_hangs_holds_up_one_round_only(node: Node) -> None:
    node.is_now("hang nvmlDeviceGetCount_v2")
    node.with_timing(Timing(fresh=0.0, patience=1.0, limit=60.0))
    start = time.monotonic()
    await node.host.nvml()
    patience = time.monotonic() - start
    for _ in range(3):
        await node.host.nvml()
    assert patience > 0.9
    assert time.monotonic() - start < 2 * patience


async def test_one_gpu_that_hangs_is_a_hang(node: Node) -> None:
    node.is_now("gpu 5 hang nvmlDeviceGetNvLinkState")
    node.with_timing(Timing(fresh=0.0, patience=0.1, limit=0.5))
    found, _ = await _hung(node)
    assert "has not answered" in found.why


async def test_the_child_ends_with_the_one_who_asks(node: Node) -> None:
    """Also while a call hangs: whoever is killed cannot clean up."""
    await node.host.nvml()
    child = node.child()
    node.is_now("hang nvmlDeviceGetCount_v2")
    node.with_timing(Timing(fresh=0.0, patience=0.1, limit=60.0))
    assert (await node.host.nvml()).driver is Driver.SILENT
    held = node.host.gpus._child
    assert held
    held.end.close()
    assert not await asyncio.to_thread(proc.wait_gone, {child}, 10.0)


async def test_the_whole_process_group_of_the_child_is_killed(tmp_path: Path) -> None:
    script = 'sleep 60 & echo "{\\"pid\\": $$}"; echo $! >pid; wait'
    probe = NvmlProbe(
        timing=Timing(fresh=0.0, patience=0.2, limit=0.2),
        spawn=lambda _: spawn_on_socket(shlex.join(["sh", "-c", f"cd {shlex.quote(str(tmp_path))}; {script}"])),
    )
    while (await probe.read()).waited < 0.2:
        await asyncio.sleep(0.01)
    probe.close()
    assert not await asyncio.to_thread(proc.wait_gone, {int((tmp_path / "pid").read_text())}, 10.0)


async def test_a_child_that_dies_is_replaced_and_its_death_is_no_fault_of_the_node(node: Node) -> None:
    await node.host.nvml()
    os.kill(node.child(), 9)
    found = await node.host.nvml()
    assert found.driver is Driver.UNASKED
    while (await node.host.nvml()).driver is not Driver.RUNNING:
        await asyncio.sleep(0.05)


async def test_one_snapshot_serves_a_whole_round(node: Node) -> None:
    node.with_timing(Timing(fresh=60.0))
    first, second = await asyncio.gather(node.host.nvml(), node.host.nvml())
    node.is_now("gpu * lost")
    assert first is second is await node.host.nvml()


async def test_without_its_state_a_node_on_this_machine_has_no_driver(node: Node) -> None:
    node.state.unlink()
    assert (await node.host.nvml()).driver is Driver.FOREIGN
    assert await node.faults() == {}


async def test_the_child_stays_small(node: Node) -> None:
    for _ in range(20):
        await node.host.nvml()
    status = Path(f"/proc/{node.child()}/status").read_text()
    size = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    cached = importlib.util.find_spec("pynvml")
    if not (cached and cached.cached and Path(cached.cached).exists()):
        pytest.skip("nvidia-ml-py is not byte-compiled here, which takes memory")
    assert size < 20 * 1024


async def test_nothing_is_asked_of_a_library_that_is_not_there(node: Node, tmp_path: Path) -> None:
    (tmp_path / "lib").unlink()
    found = await node.host.nvml()
    assert (found.driver, "12" in found.why) == (Driver.MISSING, True)
