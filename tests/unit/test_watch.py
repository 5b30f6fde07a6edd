"""One node's watch, from kernel-log line and check to report, acceptance and verdict."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from health_fakes import FakeClock, FakeHost

from hpcli import app
from hpcli.daemons.agent import _assemble as assemble
from hpcli.daemons.link import ControllerLink
from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.domain.report import Acceptance, NodeReport
from hpcli.domain.settings import Address, AgentNode, AgentSettings
from hpcli.health import gpu, slurm
from hpcli.health.kernel_log import load_table
from hpcli.services.agent import AgentService
from hpcli.services.watch import NodeWatch, verdict, write_verdict

XID = "NVRM: Xid (PCI:0000:18:00): 79, pid=1, GPU has fallen off the bus."
TABLE = load_table({})
PARAMETERS = {"gpu.count": {"expected": 2}, "slurmd.alive": {"pid_file": "/run/slurmd.pid"}}
DISK_FULL = CheckResult("disk.free", Severity.CRITICAL, "full", Remedy.DRAIN)


def healthy_host() -> FakeHost:
    host = FakeHost(files={"/run/slurmd.pid": "9", "/proc/9/stat": "9 (slurmd) S 1"})
    host.plug_gpus(0, 1)
    return host


@dataclass
class Bench:
    host: FakeHost = field(default_factory=healthy_host)
    clock: FakeClock = field(default_factory=FakeClock)
    watch: NodeWatch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = self.another_watch()

    def another_watch(self) -> NodeWatch:
        return NodeWatch(self.host, (gpu.COUNT, slurm.SLURMD_ALIVE), PARAMETERS, TABLE, self.clock)

    @property
    def report(self) -> NodeReport:
        report = self.watch.report()
        assert report
        return report

    @property
    def causes(self) -> list[str]:
        return [incident.cause for incident in self.report.incidents]

    def reboot(self) -> None:
        self.host.boot += "+"
        self.clock.time += 30.0


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_healthy_node(bench: Bench) -> None:
    assert bench.watch.poll_log(), "a boot not seen before is news"
    assert not bench.report.complete
    await bench.watch.sample(())
    assert not bench.watch.poll_log()
    report = bench.report
    assert (report.node, report.boot_id, report.instance_id) == ("c1", "boot-1", "i-1")
    assert report.complete and report.incidents == ()
    assert {result.check: result.severity for result in report.results} == {
        "gpu.count": Severity.OK,
        "slurmd.alive": Severity.OK,
    }


async def test_a_kernel_log_line_is_news_once(bench: Bench) -> None:
    await bench.watch.sample(())
    bench.host.say("noise", XID, "NVRM: Xid (PCI:0000:18:00): 45, pid=1")
    assert bench.watch.poll_log()
    assert bench.causes == ["xid79"]
    bench.host.say(XID)
    assert not bench.watch.poll_log()
    bench.host.plug_gpus(0)
    await bench.watch.sample(())
    assert bench.causes == ["xid79", "gpu.count"]


async def test_a_reboot_clears_the_log_but_not_a_gpu_that_stays_away(bench: Bench) -> None:
    bench.host.say(XID)
    bench.host.plug_gpus(0)
    bench.watch.poll_log()
    await bench.watch.sample(())
    bench.reboot()
    assert bench.watch.poll_log()
    assert (bench.causes, bench.report.complete) == ([], False)
    await bench.watch.sample(())
    assert (bench.causes, bench.report.complete) == (["gpu.count"], True)
    bench.host.instance, bench.host.boot = "i-2", "boot-9"
    bench.host.plug_gpus(0, 1)
    assert bench.watch.poll_log()
    await bench.watch.sample(())
    assert (bench.causes, bench.report.instance_id) == ([], "i-2")


async def test_a_node_that_is_off_says_nothing_and_reads_nothing(bench: Bench) -> None:
    bench.host.say(XID)
    bench.host.boot = ""
    assert not bench.watch.poll_log()
    await bench.watch.sample(())
    await bench.watch.accept("r1")
    assert bench.watch.report() is None
    assert bench.host.log.waiting, "the lines wait for the next boot"


async def test_lines_of_a_boot_noticed_late_belong_to_it(bench: Bench) -> None:
    bench.watch.poll_log()
    before = bench.host.boot

    class LateHost(FakeHost):
        def boot_id(self) -> str:
            return before

    late = LateHost(**vars(bench.host))
    late.boot = "boot-2"
    late.say(XID)
    bench.watch.host = late
    assert bench.watch.poll_log()
    late.boot_id = lambda: "boot-2"  # type: ignore[method-assign]
    assert [i.cause for i in bench.report.incidents] == ["xid79"]
    assert bench.report.boot_id == "boot-2"


async def test_complete_waits_for_checks_that_have_not_struck_out(bench: Bench) -> None:
    bench.host.files.pop("/run/slurmd.pid")
    for _ in range(2):
        await bench.watch.sample(())
        assert (bench.report.complete, bench.causes) == (False, [])
        bench.clock.time += 10.0
    await bench.watch.sample(())
    assert (bench.report.complete, bench.causes) == (True, ["slurmd.alive"])


async def test_slurmd_that_comes_up_late_is_no_fault(bench: Bench) -> None:
    pid = bench.host.files.pop("/run/slurmd.pid")
    await bench.watch.sample(())
    bench.host.files["/run/slurmd.pid"] = pid
    bench.clock.time += 10.0
    await bench.watch.sample(())
    assert (bench.report.complete, bench.causes) == (True, [])


async def test_a_shared_result_counts_once_however_often_it_is_handed_in() -> None:
    bench = Bench()
    bench.watch = NodeWatch(bench.host, (gpu.COUNT, replace(slurm.MUNGE, name="disk.free")), {}, TABLE, bench.clock)
    shared = (DISK_FULL,)
    for _ in range(3):
        await bench.watch.sample(shared)
        bench.clock.time += 10.0
    assert bench.causes == []
    await bench.watch.sample((DISK_FULL, DISK_FULL))
    assert bench.causes == ["disk.free"]


async def test_sequence_numbers_go_up_over_a_restart_of_the_agent(bench: Bench) -> None:
    first = [bench.report.seq for _ in range(1000)]
    assert first == sorted(set(first))
    bench.clock.time += 0.5
    restarted = bench.another_watch().report()
    assert restarted and restarted.seq > first[-1]


async def test_acceptance_runs_afresh_and_ends_with_the_boot(bench: Bench) -> None:
    await bench.watch.accept("r1")
    assert bench.report.acceptance == Acceptance("r1", True, "2 checks passed")
    bench.host.plug_gpus(1)
    await bench.watch.accept("r2")
    failed = bench.report.acceptance
    assert failed and (failed.repair, failed.passed) == ("r2", False)
    assert failed.message.startswith("gpu.count: GPU 0 missing")
    bench.reboot()
    assert bench.report.acceptance is None


async def test_acceptance_fails_on_what_the_log_said(bench: Bench) -> None:
    bench.host.say(XID)
    bench.watch.poll_log()
    await bench.watch.accept("r1")
    assert bench.report.acceptance == Acceptance("r1", False, "xid79: GPU has fallen off the bus")


@dataclass
class Slow:
    """A check's gathering that the test holds up."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def gather(self, host: object, parameters: object) -> gpu.GpuDevices:
        self.begun.set()
        await self.go_on.wait()
        return gpu.GpuDevices(())


@pytest.mark.parametrize("what", ["sample", "accept"])
async def test_what_was_half_seen_before_a_reboot_does_not_count(bench: Bench, what: str) -> None:
    slow = Slow()
    held_up = replace(gpu.COUNT, gather=slow.gather)
    bench.watch = NodeWatch(bench.host, (held_up,), {"gpu.count": {"expected": 2}}, TABLE, bench.clock)
    work = asyncio.create_task(bench.watch.sample(()) if what == "sample" else bench.watch.accept("r1"))
    await slow.begun.wait()
    bench.reboot()
    slow.go_on.set()
    await work
    report = bench.report
    assert (report.results, report.incidents, report.complete, report.acceptance) == ((), (), False, None)


async def test_only_a_fault_that_evicts_closes_the_gate(bench: Bench) -> None:
    assert verdict(bench.report, gate=True) == "ok\n"
    bench.host.say("EXT4-fs error (device sda2): x")
    bench.watch.poll_log()
    assert bench.causes == ["ext4_error"]
    assert verdict(bench.report, gate=True) == "ok\n"
    bench.host.say(XID)
    bench.watch.poll_log()
    assert verdict(bench.report, gate=True) == "fail xid79\nGPU has fallen off the bus\n"
    assert verdict(bench.report, gate=False) == "ok\n"


def test_the_verdict_is_replaced_in_one_step_and_only_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "verdict"
    assert write_verdict(path, "ok\n")
    first = path.stat()
    assert write_verdict(path, "ok\n")
    assert path.stat().st_mtime_ns == first.st_mtime_ns
    with path.open() as reader:
        assert write_verdict(path, "fail xid79\n")
        assert reader.read() == "ok\n", "who has it open reads the old text to its end"
    assert (path.read_text(), [entry.name for entry in tmp_path.iterdir()]) == ("fail xid79\n", ["verdict"])


def test_a_verdict_that_cannot_be_written_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not write_verdict(tmp_path / "gone" / "verdict", "ok\n")
    assert "verdict not written" in caplog.text
    (tmp_path / "verdict").mkdir()
    assert not write_verdict(tmp_path / "verdict", "ok\n")


@pytest.mark.parametrize("gate", [True, False])
def test_the_agents_settings_say_how_the_gate_stands_at_first(tmp_path: Path, gate: bool) -> None:
    node = AgentNode("c1", str(tmp_path), str(tmp_path / "verdict"))
    address = Address("127.0.0.1", 1)
    settings = AgentSettings("it", address, "/m.sock", "", 500, 1.0, (node,), gate=gate)
    link = ControllerLink(address, app.credentials("/m.sock"), 500)
    assert assemble(settings, [node], link).gate is gate


class SeenVerdicts:
    """A link that looks at the verdict file with every report, and waits for the fault's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[str] = []
        self.told = asyncio.Event()

    async def send(self, reports: Sequence[NodeReport]) -> None:
        self.seen.append(self.path.read_text())
        if any(report.complete and report.incidents for report in reports):
            self.told.set()


@pytest.mark.parametrize(("gate", "last"), [(False, "ok\n"), (True, "fail xid79\n")])
async def test_an_agent_begins_with_the_gate_as_its_settings_say(
    bench: Bench, tmp_path: Path, gate: bool, last: str
) -> None:
    """The fault is there before the agent is, and no controller answers."""
    bench.host.say(XID)
    path = tmp_path / "verdict"
    link = SeenVerdicts(path)

    async def shared() -> Sequence[CheckResult]:
        return (CheckResult("ntp", Severity.OK, ""),)

    def kill(_job: str, _node: str) -> int:
        return 0

    service = AgentService({"c1": bench.watch}, {"c1": path}, shared, kill, link, bench.clock, 1.0, gate)
    work = asyncio.create_task(service.run())
    await asyncio.wait_for(link.told.wait(), 5)
    assert any(text.startswith("fail") for text in link.seen) is gate
    assert path.read_text().startswith(last)
    await service.obey({"order": "gate", "closed": not gate})
    assert path.read_text().startswith("ok") is gate
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
