"""Checks of GPUs: what they gather, and that they keep still where there is nothing to see."""

import asyncio
import json
import shlex
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from health_fakes import FakeHost, answers
from test_health_cases import CASES, build

from hpcli.domain.check import Severity
from hpcli.domain.gpus import (
    Driver,
    Gpu,
    GpuHeat,
    GpuLife,
    GpuMemory,
    GpuNvlink,
    GpuPcie,
    Gpus,
    GpuSetup,
    GpuUse,
    Loss,
)
from hpcli.health.check import prepare
from hpcli.health.gpu_all import CHECKS
from hpcli.health.gpu_life import DRIVER, HANG, LOST
from hpcli.health.gpu_readings import GpuFault, conclude
from hpcli.health.gpu_setup import ACS, IOMMU, MODULE, parse_acs
from hpcli.health.gpu_use import STRAY, StrayParameters, gather_users
from hpcli.health.run import run_check, run_checks
from hpcli.probe.host import this_machine
from hpcli.probe.nvml import NvmlProbe, Timing
from hpcli.probe.nvml_answer import parse_answer
from hpcli.transport.process import LocalTransport

BY_NAME = {check.name: check for check in CHECKS}
FILES = sorted(path for name in BY_NAME for path in (CASES / name).glob("*.json"))


def gpu(index: int) -> Gpu:
    return Gpu(
        GpuLife(index),
        GpuMemory(index),
        GpuHeat(index),
        GpuPcie(index),
        GpuNvlink(index),
        GpuSetup(index),
        GpuUse(index),
    )


def running(*gpus: Gpu) -> FakeHost:
    return FakeHost(gpus=Gpus(Driver.RUNNING, version="570.86.15", gpus=gpus))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_judgement(path: Path) -> None:
    case = json.loads(path.read_text())
    check, expected = BY_NAME[path.parent.name], case["expected"]
    ready = prepare(check, case["parameters"])
    assert ready is not None
    evidence = build(check.evidence, case["evidence"])
    if "before" in case:
        assert check.judge_change
        result = check.judge_change(build(check.evidence, case["before"]), evidence, ready.parameters)
    else:
        result = check.judge(evidence, ready.parameters)
    assert (result.check, result.severity, result.remedy) == (check.name, expected["severity"], expected["remedy"])
    assert expected["contains"] in result.message
    assert bool(result.hint) or result.severity not in ("warn", "critical")


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_each_check_has_three_cases_an_ugly_one_and_their_origin(name: str) -> None:
    mine = [path for path in FILES if path.parent.name == name]
    assert len(mine) >= 3
    assert any(path.stem.startswith("ugly") for path in mine)
    assert all(json.loads(path.read_text())["origin"] for path in mine)


async def test_this_machine_is_never_critical_by_default() -> None:
    host = this_machine("here", LocalTransport())
    found = await run_checks(CHECKS, host, {})
    host.gpus.close()
    assert found
    assert [result for result in found if result.severity is not Severity.OK] == []


async def test_without_a_driver_nothing_is_found_wrong() -> None:
    for driver in (Driver.MISSING, Driver.UNBOUND, Driver.FOREIGN):
        found = await run_checks(CHECKS, FakeHost(gpus=Gpus(driver, "none")), {"gpu.lost": {"expected": 8}})
        assert {result.severity for result in found} == {Severity.OK}


async def test_gpus_that_tell_nothing_are_not_faulty() -> None:
    found = await run_checks(CHECKS, running(gpu(0), gpu(1)), {})
    assert {result.severity for result in found} == {Severity.OK}


async def test_a_silent_driver_makes_all_others_unknown() -> None:
    host = FakeHost(gpus=Gpus(Driver.SILENT, "NVML has not answered for 40 s", waited=40.0))
    found = {result.check: result.severity for result in await run_checks(CHECKS, host, {})}
    assert found.pop("gpu.hang") is Severity.CRITICAL
    assert set(found.values()) == {Severity.UNKNOWN}


async def test_a_gpu_node_without_a_driver_is_critical() -> None:
    host = FakeHost(gpus=Gpus(Driver.MISSING, "NVML error 9: Driver Not Loaded"))
    result = await run_check(DRIVER, host, {"expected": 8})
    assert result
    assert result.severity is Severity.CRITICAL
    assert await run_check(DRIVER, host, {}) is None


async def test_the_kernel_module_tells_a_missing_binding_from_a_missing_driver() -> None:
    host = FakeHost(gpus=Gpus(Driver.UNBOUND, "nvidia-ml-py is not installed"))
    without = await run_check(DRIVER, host, {"expected": 8})
    host.files["/proc/driver/nvidia/version"] = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15"
    loaded = await run_check(DRIVER, host, {"expected": 8})
    assert without
    assert loaded
    assert (without.severity, loaded.severity) == (Severity.CRITICAL, Severity.UNKNOWN)


async def test_the_bus_says_how_many_the_driver_left_out() -> None:
    host = running(gpu(0))
    host.files |= {f"/sys/bus/pci/drivers/nvidia/0000:1{n}:00.0": "" for n in range(2)}
    host.files["/sys/bus/pci/drivers/nvidia/new_id"] = ""
    result = await run_check(LOST, host, {"expected": 2})
    assert result
    assert "lists 1 GPUs, 2 are on the PCI bus, expected 2" in result.message


def test_the_worst_severity_and_the_strongest_remedy_count() -> None:
    faults = [
        GpuFault(0, Severity.WARN, "a"),
        *(
            GpuFault(n, Severity.CRITICAL, "b", BY_REMEDY)
            for n, BY_REMEDY in enumerate(("drain", "replace", "reset"), 1)
        ),
    ]
    result = conclude("gpu.x", faults, "fine", "look")
    assert (result.severity, result.remedy, result.component) == ("critical", "replace", "gpu1,gpu2,gpu3")


STAT = "{pid} ({name}) S {parent} 1 1 0"


def process(
    pid: int, name: str, *, parent: int = 1, cgroup: str = "0::/user.slice", environ: str = ""
) -> dict[str, str]:
    return {
        f"/proc/{pid}/comm": f"{name}\n",
        f"/proc/{pid}/cgroup": f"{cgroup}\n",
        f"/proc/{pid}/environ": environ,
        f"/proc/{pid}/stat": STAT.format(pid=pid, name=name, parent=parent),
    }


@pytest.mark.parametrize(
    ("files", "stray"),
    [
        (process(50, "python3"), True),
        (process(50, "python3", cgroup="0::/system.slice/slurmstepd.scope/job_12/step_0/user/task_0"), False),
        (process(50, "python3", cgroup="0::/system.slice/c1_slurmstepd.scope/job_12/step_0"), False),
        (process(50, "python3", cgroup="9:devices:/slurm/uid_1000/job_12/step_batch"), False),
        (process(50, "python3", cgroup="0::/user.slice/job_12"), True),
        (process(50, "python3", environ="A=1\0SLURM_JOB_ID=12\0"), False),
        (process(50, "python3", environ="SLURM_JOB_ID=12\0A=1\0"), False),
        (process(50, "python3", environ="MY_SLURM_JOB_ID=12\0"), True),
        (process(50, "a) S 1 (b", parent=40) | process(40, "slurmstepd"), False),
        (process(50, "python3", parent=40) | process(40, "bash"), True),
        ({}, False),
        (process(50, "python3") | {"/proc/50/stat": "50 (python3"}, False),
    ],
)
async def test_whose_process_it_is(files: dict[str, str], stray: bool) -> None:
    host = running(replace(gpu(3), use=GpuUse(3, processes=(50,))))
    host.files |= files
    users = await gather_users(host, StrayParameters())
    assert users.listed == 1
    assert [one.gpu for one in users.outsiders] == ([3] if stray else [])
    result = await run_check(STRAY, host, {})
    assert result
    assert result.severity is (Severity.CRITICAL if stray else Severity.OK)
    assert result.blame == ("user" if stray else "node")


LSPCI = """\
0000:00:01.1 PCI bridge: Broadcom / LSI PEX890xx PCIe Gen 5 Switch (rev b0)
\tCapabilities: [148 v1] Access Control Services
\t\tACSCap:\tSrcValid+ TransBlk+ ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans+
\t\tACSCtl:\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-

0000:00:02.0 PCI bridge: \ufffd
\t\tACSCtl:\tSrcValid- TransBlk- ReqRedir- CmpltRedir- UpstreamFwd- EgressCtrl- DirectTrans-
"""


async def test_acs_is_read_from_lspci() -> None:
    assert parse_acs(LSPCI).on == ("0000:00:01.1",)
    assert parse_acs(LSPCI).bridges == 2
    result = await run_check(ACS, FakeHost(programs={"lspci": answers(LSPCI)}), {"expected": "off"})
    assert result
    assert result.severity is Severity.CRITICAL
    for host in (FakeHost(), FakeHost(programs={"lspci": answers("", 1, "pcilib: Cannot open /proc/bus/pci")})):
        blind = await run_check(ACS, host, {"expected": "off"})
        assert blind
        assert blind.severity is Severity.UNKNOWN


async def test_peermem_and_iommu_are_read_from_proc_and_sysfs() -> None:
    host = FakeHost(
        files={"/proc/modules": "nvidia 1 2 - Live 0x0\nmlx5_core 1 0 - Live 0x0\n\n", "/proc/cmdline": "quiet\n"}
    )
    module, iommu = await run_check(MODULE, host, {"required": True}), await run_check(IOMMU, host, {"expected": "off"})
    assert module
    assert iommu
    assert (module.severity, iommu.severity) == (Severity.CRITICAL, Severity.OK)
    host.files |= {"/sys/kernel/iommu_groups/0": "", "/proc/cmdline": "iommu.passthrough=1\n"}
    through = await run_check(IOMMU, host, {"expected": "pt"})
    assert through
    assert through.severity is Severity.OK


def test_an_answer_of_wrong_types_is_an_answer_that_tells_nothing() -> None:
    groups = {
        "life": {"loss": "exploded", "failed": [1], "pci": 7},
        "memory": {"volatile_uncorrected": "3", "rows_failed": 1},
        "heat": {"celsius": 41.5, "power": 72, "sm_clock": True},
        "pcie": {"width": None},
        "nvlink": {"active": [True, 1], "unheard_of": 1},
        "setup": {},
        "use": {"processes": [4711]},
    }
    found = parse_answer(json.dumps({"driver": "running", "gpus": [groups]}).encode())
    blank = gpu(0)
    assert found.gpus == (replace(blank, heat=GpuHeat(0, power=72), use=GpuUse(0, processes=(4711,))),)


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b'{"driver": "up"}', b'{"driver": "running", "gpus": [{}]}', b"\xff"]
)
def test_an_answer_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        parse_answer(line)


def test_hang_needs_less_time_than_a_check_has() -> None:
    """The probe's patience ends before the frame calls the check itself hung."""
    assert this_machine("here", LocalTransport()).gpus.timing.patience < HANG.timeout
    assert Loss.NONE == ""


@dataclass
class StuckChildren:
    """Children that never answer, and that SIGKILL does not end before `freed`."""

    freed: threading.Event = field(default_factory=threading.Event)
    commands: list[str] = field(default_factory=list)
    ends: list[socket.socket] = field(default_factory=list)

    def spawn(self, command: str) -> tuple[socket.socket, Callable[[], None]]:
        ours, theirs = socket.socketpair()
        self.commands.append(command)
        self.ends.append(theirs)
        return ours, lambda: (self.freed.wait(), None)[1]


async def test_no_second_child_beside_one_that_cannot_be_killed() -> None:
    children = StuckChildren()
    probe = NvmlProbe({"A": "b c"}, timing=Timing(fresh=0.0, patience=0.01, limit=0.05), spawn=children.spawn)
    while (found := await probe.read()).waited < 0.3:
        assert found.driver is Driver.SILENT
        await asyncio.sleep(0.01)
    assert len(children.commands) == 1
    assert shlex.split(children.commands[0])[:2] == ["env", "A=b c"]
    children.freed.set()
    while len(children.commands) == 1:
        assert (await probe.read()).driver is Driver.SILENT
        await asyncio.sleep(0.01)
    probe.close()
    for end in children.ends:
        end.close()
