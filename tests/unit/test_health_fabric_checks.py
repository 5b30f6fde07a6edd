"""Checks of disks, mounts, services, network, fabric and board: from files and programs to the judgement.

A case under tests/cases/health may hold the `machine` that its evidence was gathered from (`machine_before` for
`before`): `files` by path, and `programs` by the beginning of their command line. Here that machine is built in a
folder and asked through the real Host port, whose folders live there; what the check gathers must be the evidence.
"""

import asyncio
import ctypes
import json
import os
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from test_health_cases import build

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.errors import NotFound, TimedOut, UsageFault
from hpcli.health import (
    accounts,
    adapters,
    bmc,
    board,
    cloud,
    disks,
    efa,
    files,
    infiniband,
    mounts,
    network,
    peers,
    roce,
    services,
    smart,
)
from hpcli.health.check import AnyCheck, Context, prepare, select
from hpcli.health.run import CheckRound, run_check
from hpcli.ports import Completed
from hpcli.probe.host import IdFile, LocalHost, this_machine
from hpcli.probe.kernel_log import FileKernelLog
from hpcli.transport.process import LocalTransport

CASES = Path(__file__).parents[1] / "cases" / "health"
MODULES = (
    disks,
    smart,
    mounts,
    files,
    services,
    accounts,
    peers,
    network,
    board,
    bmc,
    cloud,
    infiniband,
    adapters,
    roce,
    efa,
)
CHECKS: tuple[AnyCheck, ...] = tuple(check for module in MODULES for check in module.CHECKS)
BY_NAME = {check.name: check for check in CHECKS}
PATHS = sorted(path for check in BY_NAME for path in CASES.glob(f"{check}/*.json"))
MNT_DETACH = 2
ROOTS = ("/sys", "/proc", "/etc", "/run", "/dev", "/var")


@dataclass(frozen=True)
class Programs:
    """A transport on which only the named programs exist, each with one answer."""

    answers: Sequence[Mapping[str, Any]]

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        line = " ".join(argv)
        fitting = [answer for answer in self.answers if line.startswith(answer["argv"])]
        if not fitting:
            raise NotFound(argv[0], "no such program on this machine")
        answer = max(fitting, key=lambda each: len(each["argv"]))
        if answer.get("hangs"):
            raise TimedOut(argv[0], f"no answer within {timeout:g} s")
        return Completed(tuple(argv), answer.get("code", 0), answer.get("out", ""), answer.get("err", ""))


def machine(folder: Path, described: Mapping[str, Any]) -> LocalHost:
    """Build the machine that a case describes. Lone surrogates stand for bytes that are not UTF-8."""
    folder.mkdir()
    for path, text in described.get("files", {}).items():
        file = folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
    here = {root: folder / root.lstrip("/") for root in ROOTS}
    boot = IdFile(folder / "boot_id")
    log = FileKernelLog(folder / "kernel.log", boot.read)
    return LocalHost("c1", here, boot, boot, log, Programs(described.get("programs", ())))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_what_is_gathered(path: Path, tmp_path: Path) -> None:
    case = json.loads(path.read_text())
    assert case["origin"].startswith(("composed", "recorded"))
    check = BY_NAME[path.parent.name]
    ready = prepare(check, case["parameters"])
    assert ready
    for described, evidence in (("machine", "evidence"), ("machine_before", "before")):
        assert (described in case) == (evidence in case)
        if described in case:
            gathered = await check.gather(machine(tmp_path / described, case[described]), ready.parameters)
            assert gathered == build(check.evidence, case[evidence])


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_is_judged(path: Path) -> None:
    case = json.loads(path.read_text())
    result = judged(case, BY_NAME[path.parent.name])
    expected = case["expected"]
    assert (result.severity, result.remedy) == (expected["severity"], expected["remedy"])
    assert expected["contains"] in result.message
    assert result.check == path.parent.name
    assert (result.severity is Severity.CRITICAL) == (result.remedy is not Remedy.NONE)
    if result.severity in (Severity.WARN, Severity.CRITICAL):
        assert result.hint


def judged(case: Mapping[str, Any], check: AnyCheck) -> CheckResult:
    ready = prepare(check, case["parameters"])
    assert ready
    evidence = build(check.evidence, case["evidence"])
    if "before" not in case:
        return check.judge(evidence, ready.parameters)
    assert check.judge_change
    return check.judge_change(build(check.evidence, case["before"]), evidence, ready.parameters)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_each_check_has_three_cases_and_an_ugly_one(name: str) -> None:
    stems = [path.stem for path in PATHS if path.parent.name == name]
    assert len(stems) >= 3
    assert any(stem.startswith("ugly") for stem in stems)


def test_every_name_is_there_once() -> None:
    assert len(CHECKS) == len(BY_NAME) == 35


async def test_this_machine_is_well() -> None:
    """With nothing set, an ordinary machine, virtual machine or container has no fault of any kind."""
    ready = select(CHECKS, {}, context=Context.ACCEPTANCE)
    results = await CheckRound(this_machine("c1", LocalTransport()), ready)()
    assert {result.check: result.message for result in results if result.severity is not Severity.OK} == {}


async def test_a_machine_without_anything_is_no_fault(tmp_path: Path) -> None:
    """No /sys, no /proc, no program: whatever cannot be seen is OK or UNKNOWN."""
    results = await CheckRound(machine(tmp_path / "bare", {}), select(CHECKS, {}, context=Context.ACCEPTANCE))()
    assert {result.severity for result in results} <= {Severity.OK, Severity.UNKNOWN}


EXPECTATIONS: dict[str, dict[str, object]] = {
    "disk.count": {"expected": 4},
    "fs.mount": {"required": "/home", "fstab": True},
    "fs.file": {"files": "/etc/slurm/slurm.conf has=x"},
    "svc.active": {"units": "slurmd"},
    "svc.restarts": {"units": "slurmd"},
    "svc.package": {"packages": "slurmd"},
    "auth.lookup": {"users": "alice"},
    "net.dns": {"names": "head"},
    "net.ping": {"peers": "head"},
    "net.port": {"peers": "head:6817"},
    "ssh.reach": {"peers": "head"},
    "net.link": {"interfaces": "eth0"},
    "pci.manifest": {"manifest": "10de:2330*8"},
    "cloud.event": {"cloud": "aws"},
    "ib.count": {"expected": 8},
    "ib.rate": {"rate": 400.0},
    "ib.firmware": {"version": "28.39.*"},
    "ib.pcie": {"width": 16},
    "roce.config": {"mtu": 9000},
    "efa.count": {"expected": 4},
}


async def test_an_absent_source_is_never_critical_even_where_something_is_expected(tmp_path: Path) -> None:
    ready = select(CHECKS, EXPECTATIONS, context=Context.ACCEPTANCE)
    assert len(ready) == len(CHECKS)
    results = await CheckRound(machine(tmp_path / "bare", {}), ready)()
    assert {result.severity for result in results} <= {Severity.OK, Severity.UNKNOWN}


def test_what_a_site_expects_is_checked_only_when_it_says_so() -> None:
    applying = {ready.name for ready in select(CHECKS, {}, context=Context.ACCEPTANCE)}
    assert applying.isdisjoint(EXPECTATIONS)


@pytest.mark.parametrize(
    ("check", "override"),
    [
        (files.FILE, {"files": "relative/path"}),
        (files.FILE, {"files": "/etc/passwd colour=blue"}),
        (board.MANIFEST, {"manifest": "10de"}),
        (board.MANIFEST, {"manifest": "10de:2330*many"}),
        (cloud.EVENT, {"cloud": "moon"}),
    ],
)
def test_an_impossible_parameter_is_refused_before_anything_runs(check: AnyCheck, override: dict[str, object]) -> None:
    with pytest.raises(UsageFault):
        prepare(check, override)


@pytest.mark.parametrize("listed", ["", " ", "junk\n", "1 2", "\udcff\udcfe", "a - b", "9 " * 5000])
def test_mountinfo_may_be_anything(listed: str) -> None:
    assert mounts.parse_mountinfo(listed) == ()


@pytest.fixture
def silent_mount(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A file system whose server never answers (ours to serve, and we do not), and what makes the server die."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"/dev/fuse: {error.strerror}")
    point = tmp_path / "a mount"
    point.mkdir()
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
    if libc.mount(b"silent", os.fsencode(point), b"fuse", 0, options.encode()):
        os.close(server)
        pytest.skip(f"mount: {os.strerror(ctypes.get_errno())}")
    dead = list[int]()

    def die() -> None:
        if not dead:
            os.close(server)
            dead.append(server)

    try:
        yield point, die
    finally:
        die()
        libc.umount2(os.fsencode(point), MNT_DETACH)


async def test_a_mount_whose_server_is_silent_and_then_dead(
    silent_mount: tuple[Path, Callable[[], None]],
) -> None:
    point, die = silent_mount
    host = this_machine("c1", LocalTransport())
    override = {"types": "fuse", "limit": 0.3}
    started = time.monotonic()
    silent = await run_check(mounts.STALE, host, override)
    assert time.monotonic() - started < 3
    die()
    dead = await run_check(mounts.STALE, host, override)
    assert silent and dead
    assert (silent.severity, silent.remedy, silent.component) == (Severity.CRITICAL, Remedy.EVICT, str(point))
    assert (dead.severity, dead.component) == (Severity.CRITICAL, str(point))
    assert "no answer" in silent.message
    assert "not connected" in dead.message


@asynccontextmanager
async def serving(answer: Callable[[bytes], bytes]) -> AsyncIterator[int]:
    """A server on loopback that reads once, answers once and closes; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = answer(b"")
        writer.write(greeting if greeting else answer(await reader.read(4096)))
        # Whoever only connects is gone before the answer.
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


async def said(check: AnyCheck, override: Mapping[str, object]) -> CheckResult:
    result = await run_check(check, this_machine("c1", LocalTransport()), override)
    assert result
    return result


async def test_peers_on_loopback() -> None:
    async with serving(lambda _: b"SSH-2.0-OpenSSH_9.2p1\r\n") as port:
        peer = f"127.0.0.1:{port}"
        assert (await said(peers.REACH, {"peers": peer})).severity is Severity.OK
        assert (await said(peers.PORT, {"peers": peer})).severity is Severity.OK
    async with serving(lambda _: b"220 mail\r\n") as port:
        other = await said(peers.REACH, {"peers": f"127.0.0.1:{port}"})
    assert (other.severity, "220 mail" in other.message) == (Severity.WARN, True)
    closed = await said(peers.PORT, {"peers": peer})
    assert (closed.severity, "Connection refused" in closed.message) == (Severity.WARN, True)


async def test_a_peer_is_never_code() -> None:
    result = await said(peers.PORT, {"peers": "$(touch /tmp/never):1"})
    assert result.severity is Severity.WARN
    assert not Path("/tmp/never").exists()


async def test_lookups_on_this_machine() -> None:
    assert (await said(accounts.LOOKUP, {"users": "root"})).severity is Severity.OK
    unknown = await said(accounts.LOOKUP, {"users": "root,--help,nobody-of-this-name"})
    assert (unknown.severity, "nobody-of-this-name" in unknown.message) == (Severity.CRITICAL, True)
    assert (await said(peers.DNS, {"names": "localhost"})).severity is Severity.OK
    assert (await said(peers.DNS, {"names": "no-such-name.invalid"})).severity is Severity.WARN


async def test_files_on_this_machine(tmp_path: Path) -> None:
    file = tmp_path / "beat"
    file.write_text("alive and well\n")
    file.chmod(0o640)
    rule = f"{file} mode=640 age=600 has=alive and well"
    assert (await said(files.FILE, {"files": rule})).severity is Severity.OK
    os.utime(file, (0, 0))
    old = await said(files.FILE, {"files": rule})
    assert (old.severity, "limit 600 s" in old.message) == (Severity.CRITICAL, True)


async def test_the_metadata_service_is_asked_with_a_token_that_no_argument_shows() -> None:
    asked = list[bytes]()

    def answer(request: bytes) -> bytes:
        if not request:
            return b""
        asked.append(request)
        body = b"SECRET" if request.startswith(b"PUT /latest/api/token ") else SPOT if b"/spot/" in request else b"[]"
        return b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    transport = Recorder()
    async with serving(answer) as port:
        override = {"cloud": "aws", "address": f"http://127.0.0.1:{port}"}
        result = await run_check(cloud.EVENT, this_machine("c1", transport), override)
    assert result
    assert (result.severity, "spot terminate" in result.message) == (Severity.CRITICAL, True)
    assert [b"X-aws-ec2-metadata-token: SECRET\r\n" in request for request in asked] == [False, True, True]
    assert not any("SECRET" in word for argv in transport.seen for word in argv)


SPOT = b'{"action": "terminate", "time": "2026-11-23T23:17:00Z"}'


@dataclass
class Recorder(LocalTransport):
    """The real transport, keeping the arguments of what it ran."""

    seen: list[Sequence[str]] = field(default_factory=list)

    async def run(self, argv: Sequence[str], **how: Any) -> Completed:
        self.seen.append(argv)
        return await super().run(argv, **how)


async def test_the_continuous_suite_is_cheap() -> None:
    """CPU seconds of one round, children included: the frame allows 0.05 s for all checks together."""
    round_ = CheckRound(this_machine("c1", LocalTransport()), select(CHECKS, {}, context=Context.CONTINUOUS))
    await round_()
    before = cpu_seconds()
    for _ in range(10):
        await round_()
    assert (cpu_seconds() - before) / 10 < 0.025


def cpu_seconds() -> float:
    times = os.times()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return times.user + times.system + children.ru_utime + children.ru_stime
