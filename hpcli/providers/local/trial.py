"""A throw-away slurmctld beside a local cluster: does it take this configuration?"""

import asyncio
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcli.providers.local.daemons import Daemons
from hpcli.providers.local.free_ports import reserve
from hpcli.providers.local.layout import Layout
from hpcli.providers.local.loopback import short_host_name
from hpcli.providers.local.record import Record
from hpcli.render.trial import trial_files
from hpcli.transport import proc
from hpcli.transport.process import spawn_detached

UP = "Running as primary controller"
LIMIT = 10.0
POLL = 0.02


@dataclass(frozen=True, slots=True)
class Trial:
    """Runs below the cluster's runtime folder and leaves nothing there."""

    layout: Layout
    record: Record
    slurmctld: str

    async def words(self, files: Mapping[str, str]) -> str:
        """ "" when slurmctld comes up with these files, given by name; else what it says."""
        folder = self.layout.runtime / f"trial-{os.getpid()}"
        reservation = reserve(1, self.record.ports.all)
        [port] = reservation.ports
        try:
            made = trial_files(files, str(folder), port, host=short_host_name(), address=self.record.address)
            _write(folder, made)
            reservation.release()
            return await self._run(folder)
        finally:
            reservation.release()
            shutil.rmtree(folder, ignore_errors=True)

    async def _run(self, folder: Path) -> str:
        environment = Daemons.of(self.layout, self.record).environment()
        environment["SLURM_CONF"] = str(folder / "slurm.conf")
        log = folder / "out"
        pid = spawn_detached([self.slurmctld, "-D"], env=environment, log=log)
        deadline = time.monotonic() + LIMIT
        try:
            while not _says(log, folder / "slurmctld.log", UP):
                if time.monotonic() > deadline:
                    return f"it did not come up within {LIMIT:g} s; {_complaint(log, folder / 'slurmctld.log')}"
                if proc.look_up(pid) is None:
                    return _complaint(log, folder / "slurmctld.log")
                await asyncio.sleep(POLL)
            return ""
        finally:
            proc.end([pid], 0.0)


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for inside in (folder, folder / "state", folder / "spool"):
        inside.mkdir(mode=0o700, exist_ok=True)
    for name, text in files.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(text)


def _lines(*logs: Path) -> list[str]:
    return [line for log in logs if log.exists() for line in log.read_text(errors="replace").splitlines()]


def _says(out: Path, log: Path, words: str) -> bool:
    return any(words in line for line in _lines(out, log))


def _complaint(out: Path, log: Path) -> str:
    """The errors that led to the end, for the last of them alone often says little."""
    lines = [line.partition("slurmctld: ")[2] or line for line in _lines(out, log)]
    told = [line.strip() for line in lines if "fatal" in line or "error" in line.lower()]
    return "; ".join(dict.fromkeys(told[-3:])) or "it ended without a word"
