"""Run a throw-away slurmctld on a trial's files, here or in a container, and hear what it says."""

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
UP = "Running as primary controller"
LIMIT = 20.0


HARMLESS = re.compile(
    "|".join(
        (
            "state (?:save )?file",  # an empty state folder
            r"(?i:munge)",  # nobody runs one for a trial here
            "(?i:mpi)|pmi",  # plugins that Debian splits off
            "High latency for 1000 calls to gettimeofday",
            "gathered, but not stored|you have asked for it not to be stored",  # a trial has no accounting
        )
    )
)
"""What slurmctld calls an error at its first start, whatever its configuration."""


@dataclass(frozen=True)
class Said:
    """What slurmctld wrote until it was up or dead."""

    up: bool
    text: str

    @property
    def complaints(self) -> list[str]:
        said = [line for line in self.text.splitlines() if "error:" in line or "fatal:" in line]
        return [line for line in said if not HARMLESS.search(line)]


def program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    assert found is not None, name
    return found


def installed_version() -> tuple[int, int]:
    said = subprocess.run([program("slurmctld"), "-V"], capture_output=True, text=True, check=True).stdout
    year, month = re.findall(r"\d+", said)[:2]
    return int(year), int(month)


def write(files: dict[str, str], folder: Path) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)


def listen(argv: Sequence[str], stop: Callable[[], object] | None = None, **environment: str) -> Said:
    """Start slurmctld in the foreground, and stop it when it is up, by `stop` where a signal does not reach it."""
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment}
    )
    assert process.stdout is not None
    deadline = threading.Timer(LIMIT, process.kill)
    deadline.start()
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if UP in line:
            (stop or process.terminate)()
            break
    said = "".join(lines)
    process.communicate()
    deadline.cancel()
    return Said(UP in said, said)


def listen_here(folder: Path) -> Said:
    return listen([program("slurmctld"), "-D"], SLURM_CONF=str(folder / "slurm.conf"))


@contextmanager
def short_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hc", dir="/tmp") as name:
        yield Path(name)
