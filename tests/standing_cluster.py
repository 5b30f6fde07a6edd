"""A real local cluster that a whole module of tests shares, and what they look at from outside."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpcli.providers.local.layout import Layout
from hpcli.providers.local.sweep import remove
from hpcli.transport import proc
from tests.real_cluster import SPEC, RealCluster, bring_up


@contextmanager
def own_folders(folder: Path) -> Iterator[dict[str, str]]:
    """State and runtime folders of these tests alone, as environment for programs that they start."""
    if not shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.skip("skipped: no slurmctld on this machine")
    runtime = Path(f"/tmp/hpcli-t{os.getpid()}")
    own = {"XDG_STATE_HOME": str(folder / "state"), "HPCLI_RUNTIME_DIR": str(runtime)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        yield own
    shutil.rmtree(runtime, ignore_errors=True)


@contextmanager
def standing_cluster(folder: Path, nodes: int = 3, spec: str = "") -> Iterator[RealCluster]:
    """A cluster named `it` that is up and whole."""
    with own_folders(folder):
        try:
            yield asyncio.run(bring_up(spec or SPEC.format(name="it", nodes=nodes), folder))
        finally:
            remove(Layout.of("it"))


def hpcli(*args: str, timeout: float = 90.0, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in the folders of the test."""
    argv = [sys.executable, "-m", "hpcli", *args]
    return subprocess.run(argv, env={**os.environ, **env}, capture_output=True, text=True, timeout=timeout)


def processes_of(folder: Path) -> list[str]:
    """Everything to whose environment a folder is known that the tests themselves do not know."""
    ours = {name: value for name, value in os.environ.items() if str(folder) in value}
    found = []
    for process in proc.all_processes():
        theirs = proc.environment(process.pid).items() - ours.items()
        command = proc.command(process.pid)
        if process.pid != os.getpid() and any(str(folder) in text for text in (command, *dict(theirs).values())):
            found.append(f"{process.pid} {command}")
    return found


def left_in(folder: Path) -> list[str]:
    """Processes and files of a test's folders, but for the two folders themselves."""
    runtime = Path(os.environ["HPCLI_RUNTIME_DIR"])
    files = [str(path) for root in (folder / "state", runtime) for path in root.glob("*")]
    return processes_of(folder) + files


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[None]:
    """A file system of so many MiB under the state folder."""
    state = folder / "state"
    state.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "tmpfs", str(state)]
    if os.getuid() != 0 or subprocess.run(argv, capture_output=True).returncode:
        pytest.skip("skipped: only root, with the right to mount, can make a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(state)], check=True)


def fill(folder: Path) -> Path:
    """Use up a disk to its last byte, with a file that can be removed again."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                pass
    return ballast
