"""The daemons of a standing local cluster by the names that every provider has for them."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpcli.domain.slurm_conf import parse_slurm_conf
from hpcli.errors import HpcliError
from hpcli.ports import Transport
from hpcli.providers.local.accounting import Accounting
from hpcli.providers.local.build import START_LIMIT, start_hpcli
from hpcli.providers.local.daemons import Daemons
from hpcli.providers.local.free_ports import listens
from hpcli.providers.local.layout import Layout
from hpcli.providers.local.nodes import LocalNodes
from hpcli.providers.local.record import Record, read_record
from hpcli.transport import proc

SAVE_LIMIT = 30.0
"""Seconds for slurmctld and the database to write down what they hold before they are killed."""
POLL = 0.02


@dataclass(slots=True)
class Services:
    """Starts, stops and asks them. The record is read anew each time: an apply changes it."""

    layout: Layout
    programs: Mapping[str, str]
    transport: Transport
    _log_begins: dict[str, int] = field(default_factory=dict)

    @property
    def record(self) -> Record:
        return read_record(self.layout.record)

    @property
    def daemons(self) -> Daemons:
        return Daemons.of(self.layout, self.record)

    @property
    def nodes(self) -> LocalNodes:
        return LocalNodes(self.layout, self.record, self.programs["slurmd"], self.daemons)

    async def act(self, verb: str, name: str, hosts: Sequence[str]) -> None:
        """Raises `HpcliError` for a daemon that does not come up."""
        if verb == "reload":
            await self._reload(name)
            return
        if verb in ("stop", "restart"):
            await asyncio.to_thread(self._stop, name, hosts)
        if verb in ("start", "restart"):
            await self._start(name, hosts)

    def last_words(self, name: str, host: str) -> str:
        """Since its last start, as far as that was ours."""
        daemon = f"{name}-{host}" if name == "slurmd" else name.removeprefix("hpcli-")
        log = self.layout.log / f"{daemon}.log"
        text = _from(log, self._log_begins.get(daemon, 0))
        lines = [line.partition("] ")[2] or line for line in text.splitlines()]
        fatal = [line for line in lines if "fatal" in line]
        errors = [line for line in lines if "error" in line.lower()]
        return ((fatal or errors or [""])[-1]).strip()

    def _names(self, name: str, hosts: Sequence[str]) -> tuple[str, ...]:
        """Our daemons behind a service's name."""
        if name == "slurmd":
            return tuple(f"slurmd-{host}" for host in hosts)
        if name == "hpcli-agent":
            return tuple(known for known in self.daemons.known() if known.partition("-")[0] == "agent")
        return ({"munge": "munged", "mariadb": "mariadbd"}.get(name, name.removeprefix("hpcli-")),)

    def _stop(self, name: str, hosts: Sequence[str]) -> None:
        grace = SAVE_LIMIT if name in ("slurmctld", "mariadb", "slurmdbd") else 3.0
        self.daemons.stop(self._names(name, hosts), grace)

    async def _start(self, name: str, hosts: Sequence[str]) -> None:
        for daemon in self._names(name, hosts):
            self._log_begins[daemon] = _size(self.layout.log / f"{daemon}.log")
        if name == "slurmctld":
            await self._start_slurmctld()
        elif name == "slurmd":
            await asyncio.to_thread(self._start_nodes, hosts)
        elif name in ("mariadb", "slurmdbd"):
            accounting = Accounting(self.layout, self.programs, self.daemons, self.transport)
            await (accounting.start_database() if name == "mariadb" else accounting.start_slurmdbd())
        elif name in ("hpcli-agent", "hpcli-controller"):
            start_hpcli(self.layout, self.record, self.daemons)

    async def _start_slurmctld(self) -> None:
        daemons = self.daemons
        daemons.start("slurmctld", [self.programs["slurmctld"], "-D"])
        port = _port(self.layout.slurm_conf)
        deadline = time.monotonic() + START_LIMIT
        while True:
            pid = daemons.pid("slurmctld")
            if pid and listens(frozenset(proc.open_files(pid)), port):
                return
            if pid is None or time.monotonic() > deadline:
                words = self.last_words("slurmctld", "") or f"it does not listen on port {port}"
                raise HpcliError("slurmctld", words, f"see {self.layout.log}/slurmctld.log")
            await asyncio.sleep(POLL)

    def _start_nodes(self, hosts: Sequence[str]) -> None:
        """A machine that is off is booted; on one that runs only slurmd starts, and jobs live on."""
        nodes, daemons = self.nodes, self.daemons
        for host in hosts:
            if nodes.machine(host).boot_id:
                daemons.start(f"slurmd-{host}", [self.programs["slurmd"], "-D", "-N", host])
            else:
                nodes.switch_on(host)

    async def _reload(self, name: str) -> None:
        if name != "slurmctld":
            await self.act("restart", name, ())
            return
        self._log_begins[name] = _size(self.layout.log / f"{name}.log")
        answer = await self.transport.run(["scontrol", "reconfigure"], env=self.daemons.environment(), timeout=60)
        if answer.code:
            raise HpcliError("slurmctld", answer.err.strip() or answer.out.strip(), f"see {self.layout.log}")


def _port(slurm_conf: Path) -> int:
    text = parse_slurm_conf(slurm_conf.read_text()).parameters.get("slurmctldport", "6817")
    return int(text.partition("-")[0])


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _from(path: Path, begin: int) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as log:
        log.seek(begin)
        return log.read().decode(errors="replace")
