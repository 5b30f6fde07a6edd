"""A host that exists only in a test."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from hpcli.domain.gpus import Driver, Gpus
from hpcli.errors import NotFound, TimedOut
from hpcli.ports import Completed, DiskUse, LogRecord


@dataclass
class FakeClock:
    time: float = 1000.0

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


@dataclass
class FakeKernelLog:
    waiting: list[LogRecord] = field(default_factory=list)

    def poll(self) -> Sequence[LogRecord]:
        taken, self.waiting = self.waiting, []
        return taken


@dataclass
class FakeHost:
    """`programs` maps a program to what it answers; one that is not named is not installed."""

    name: str = "c1"
    files: dict[str, str] = field(default_factory=dict)
    disks: dict[str, DiskUse] = field(default_factory=dict)
    programs: dict[str, Callable[[Sequence[str], str], Completed]] = field(default_factory=dict)
    boot: str = "boot-1"
    instance: str = "i-1"
    log: FakeKernelLog = field(default_factory=FakeKernelLog)
    gpus: Gpus = field(default_factory=lambda: Gpus(Driver.MISSING))

    def read(self, path: str) -> str:
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.files[path]

    def glob(self, pattern: str) -> tuple[str, ...]:
        return tuple(sorted(path for path in self.files if fnmatchcase(path, pattern)))

    async def run(self, argv: Sequence[str], *, stdin: str = "", timeout: float = 10.0) -> Completed:
        if argv[0] not in self.programs:
            raise NotFound(argv[0], "no such program on this machine")
        return self.programs[argv[0]](argv, stdin)

    async def disk(self, path: str, timeout: float) -> DiskUse:
        if path not in self.disks:
            raise TimedOut(path, f"no answer within {timeout:g} s")
        return self.disks[path]

    def boot_id(self) -> str:
        return self.boot

    def instance_id(self) -> str:
        return self.instance

    def kernel_log(self) -> FakeKernelLog:
        return self.log

    async def nvml(self) -> Gpus:
        return self.gpus

    def say(self, *lines: str) -> None:
        """The kernel says something."""
        self.log.waiting += [LogRecord(self.boot, number, line) for number, line in enumerate(lines, 1)]

    def plug_gpus(self, *numbers: int) -> None:
        self.files = {path: text for path, text in self.files.items() if not path.startswith("/dev/nvidia")}
        self.files |= {f"/dev/nvidia{number}": "" for number in numbers} | {"/dev/nvidiactl": ""}


def answers(out: str, code: int = 0, err: str = "") -> Callable[[Sequence[str], str], Completed]:
    return lambda argv, stdin: Completed(tuple(argv), code, out, err)
