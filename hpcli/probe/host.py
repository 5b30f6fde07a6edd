"""The real Host port: this machine, or the folder that stands for one of a local cluster's."""

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpcli.domain.gpus import Gpus
from hpcli.errors import HpcliError
from hpcli.ports import Completed, DiskUse, KernelLog, Transport
from hpcli.probe.kernel_log import FileKernelLog
from hpcli.probe.kmsg import KmsgKernelLog
from hpcli.probe.nvml import NvmlProbe

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MACHINE_ID = Path("/etc/machine-id")
OWN_BOOT_ID = Path("/run/hpcli/boot_id")
"""Written at every start where no systemd runs: a container has its host's boot id, which outlives its own boots."""

OWN_INSTANCE_ID = Path("/var/lib/hpcli/instance_id")
"""Made once when the machine was set up, so that a machine behind the same name is told from the last one."""

MAX_READ = 1 << 20
"""Bytes read of a file: what a check looks at is small, and a log named by mistake is not."""

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(slots=True)
class IdFile:
    """A one-line file read again only when it was replaced; "" when it is missing."""

    path: Path
    _seen: tuple[int, int] = (0, 0)
    _text: str = ""

    def read(self) -> str:
        try:
            status = self.path.stat()
            # Files of /proc and those replaced by rename alike get a new inode or a new time.
            if (status.st_ino, status.st_mtime_ns) != self._seen:
                self._text = self.path.read_text(errors="replace").strip()
                self._seen = status.st_ino, status.st_mtime_ns
        except OSError:
            self._seen, self._text = (0, 0), ""
        return self._text


@dataclass(slots=True)
class LocalHost:
    """A node on this machine. `root_map` says which of its folders live elsewhere here."""

    name: str
    root_map: Mapping[str, Path]
    boot: IdFile
    instance: IdFile
    log: KernelLog
    transport: Transport
    mountinfo: Path = field(default=Path("/proc/self/mountinfo"))
    gpus: NvmlProbe = field(default_factory=NvmlProbe)

    def read(self, path: str) -> str:
        with self._here(path).open("rb") as file:
            return file.read(MAX_READ).decode(errors="replace")

    def glob(self, pattern: str) -> tuple[str, ...]:
        mapped = self._root_of(pattern)
        if not mapped:
            return tuple(sorted(glob.glob(pattern)))  # noqa: PTH207
        root, here = mapped, str(self.root_map[mapped])
        found = glob.glob(glob.escape(here) + pattern[len(root) :])  # noqa: PTH207
        return tuple(sorted(root + path[len(here) :] for path in found))

    async def run(self, argv: Sequence[str], *, stdin: str = "", timeout: float = 10.0) -> Completed:
        return await self.transport.run(argv, stdin=stdin, timeout=timeout)

    async def disk(self, path: str, timeout: float) -> DiskUse:
        """Two children that can be killed ask the file system; we ourselves never touch it."""
        here = str(self._here(path))
        fill = await self._stat(path, ["stat", "-f", "-c", "%b %f %a %c %d", "--", here], timeout)
        mount = await self._stat(path, ["stat", "-c", "%m", "--", here], timeout)
        space, inodes = parse_fill(fill)
        return DiskUse(space, inodes, mounted_read_only(self.mountinfo.read_text(errors="replace"), mount))

    def boot_id(self) -> str:
        return self.boot.read()

    def instance_id(self) -> str:
        return self.instance.read()

    def kernel_log(self) -> KernelLog:
        return self.log

    async def nvml(self) -> Gpus:
        return await self.gpus.read()

    async def _stat(self, path: str, argv: Sequence[str], timeout: float) -> str:
        answer = await self.transport.run(argv, env={"LC_ALL": "C"}, timeout=timeout)
        if answer.code:
            raise FileNotFoundError(f"{path}: {answer.err.strip()}")
        return answer.out.rstrip("\n")

    def _here(self, path: str) -> Path:
        root = self._root_of(path)
        return Path(str(self.root_map[root]) + path[len(root) :]) if root else Path(path)

    def _root_of(self, path: str) -> str:
        """The longest mapped folder that holds `path`, "" when none does."""
        holding = [root for root in self.root_map if path == root or path.startswith(root + "/")]
        return max(holding, key=len, default="")


def this_machine(name: str, transport: Transport) -> LocalHost:
    """The machine that we run on, as node `name`."""
    boot = IdFile(OWN_BOOT_ID if OWN_BOOT_ID.exists() else BOOT_ID)
    instance = IdFile(OWN_INSTANCE_ID if OWN_INSTANCE_ID.exists() else MACHINE_ID)
    return LocalHost(name, {}, boot, instance, KmsgKernelLog(boot.read()), transport)


def folder_machine(name: str, folder: Path, transport: Transport) -> LocalHost:
    """The machine that `folder` of a local cluster stands for.

    Its GPUs, if any, are simulated: `nvml` is their state, and `lib` holds the libnvidia-ml.so.1 that reads it. Those
    of the machine below, if any, are not the node's.
    """
    boot = IdFile(folder / "boot_id")
    log = FileKernelLog(folder / "kernel.log", boot.read)
    state = folder / "nvml"
    gpus = NvmlProbe({"HPCLI_NVML_STATE": str(state), "LD_LIBRARY_PATH": str(folder / "lib")}, state)
    roots = {"/dev": folder / "dev", "/sys/bus/pci/drivers/nvidia": folder / "gpus"}
    return LocalHost(name, roots, boot, IdFile(folder / "instance_id"), log, transport, gpus=gpus)


def parse_fill(text: str) -> tuple[float, float]:
    """Percent of space and inodes in use, as df counts: root's reserve is neither used nor free.

    Raises `HpcliError` when `stat -f` printed something else.
    """
    try:
        blocks, free, available, files, files_free = map(int, text.split())
    except ValueError:
        raise HpcliError("stat -f", f"found {text[:80]!r}, expected five numbers", "is this GNU stat?") from None
    used, files_used = blocks - free, files - files_free
    return _percent(used, used + available), _percent(files_used, files)


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole > 0 else 0.0


def mounted_read_only(mountinfo: str, mount_point: str) -> bool:
    """Whether the mount at `mount_point`, the topmost if several, is read-only.

    Fields 5, 6 and the last are mount point, mount options and the file system's own (proc(5)).
    """
    read_only = False
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if len(fields) > 9 and _unescape(fields[4]) == mount_point:
            read_only = "ro" in fields[5].split(",") or "ro" in fields[-1].split(",")
    return read_only


def _unescape(text: str) -> str:
    """mountinfo writes blanks and backslashes of a path in octal."""
    return os.fsdecode(_OCTAL.sub(lambda found: chr(int(found[1], 8)), text).encode("latin-1", errors="replace"))
