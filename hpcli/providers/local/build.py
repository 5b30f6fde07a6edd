"""Bringing a local cluster up, step by step, and down again without a trace."""

import asyncio
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from hpcli.errors import HpcliError, Unsafe
from hpcli.ports import Progress, Transport
from hpcli.providers.local.accounting import Accounting
from hpcli.providers.local.blueprint import blueprint_of
from hpcli.providers.local.clusters import built
from hpcli.providers.local.config import make_record, ports_of, write_config
from hpcli.providers.local.daemons import Daemons
from hpcli.providers.local.folders import disk_errors, make_folders, make_home, refuse_strangers
from hpcli.providers.local.free_ports import Reservation, is_listening, reserve
from hpcli.providers.local.kept import Kept
from hpcli.providers.local.layout import Layout, clusters_home
from hpcli.providers.local.leftover import mark_owned
from hpcli.providers.local.loopback import find_loopback
from hpcli.providers.local.nodes import LocalNodes
from hpcli.providers.local.programs import find_programs, slurm_version
from hpcli.providers.local.record import Record, ports_of_others, read_record, write_record
from hpcli.providers.local.sweep import remove, sweep
from hpcli.providers.local.turn import cluster_lock, our_turn
from hpcli.spec.model import Spec

START_LIMIT = 20.0
HPCLI = (sys.executable, "-m", "hpcli")


@dataclass(slots=True)
class LocalBuild:
    """One `up`. Whatever goes wrong, nothing that was not there before is left."""

    layout: Layout
    spec: Spec
    spec_text: str
    transport: Transport
    progress: Progress
    owned: bool = False
    _begun: bool = False
    _revived: bool = False

    async def up(self) -> Record:
        """Start everything and return once every daemon has been started; the nodes register by themselves.

        Raises `HpcliError` when a program is missing, a port is taken, the disk is full or a daemon dies.
        """
        self.layout.check_lengths(self.spec.node_names)
        programs = find_programs(self.spec.accounting.enabled)
        version = await slurm_version(self.transport, programs["slurmctld"])
        refuse_strangers(self.layout)
        make_home(clusters_home())
        async with our_turn(clusters_home(), self.progress) as waited:
            if waited and self.standing():
                self._begun = self._revived = True
                return read_record(self.layout.record)
            self._revived = self._clear_the_way()
            self._begun = True
            try:
                with disk_errors(self.layout.home):
                    return await self._start(programs, version)
            except BaseException:
                self.undo()
                raise

    def changes_a_standing_one(self) -> bool:
        """A whole cluster of that name was built from another spec: it is for plan and apply to change it."""
        kept = self.layout.record.exists() and read_record(self.layout.record).complete
        return kept and _other_spec(self.layout, self.spec_text)

    def standing(self) -> bool:
        """Every daemon of this very cluster lives already."""
        if not self.layout.record.exists() or _other_spec(self.layout, self.spec_text):
            return False
        return read_record(self.layout.record).complete and built(self.spec.name).state == "up"

    def undo(self) -> None:
        """Stop what was started; files stay only if they were there before."""
        if not self._begun:
            return
        if self._revived:
            sweep(self.layout)
        else:
            remove(self.layout)

    def _clear_the_way(self) -> bool:
        """Stop what a half-dead earlier cluster left running; True when its state is kept and revived."""
        kept = self.layout.record.exists() and read_record(self.layout.record).complete
        if self.changes_a_standing_one():
            raise Unsafe(
                f"cluster {self.spec.name}",
                f"found one of that name that was built from another spec, expected the one in {self.layout.home}",
                f"change it: hpcli cluster apply; or take it down first: hpcli cluster down {self.spec.name}",
            )
        if kept:
            with cluster_lock(self.layout):
                # Whoever changes it now must not lose its daemons to us.
                pass
        left = sweep(self.layout)
        if left:
            self.progress.step(f"ended {left} processes of an earlier cluster {self.spec.name}")
        if not kept:
            shutil.rmtree(self.layout.home, ignore_errors=True)
        shutil.rmtree(self.layout.runtime, ignore_errors=True)
        return kept

    async def _start(self, programs: Mapping[str, str], version: str) -> Record:
        make_folders(self.layout, len(self.spec.nodes), self.spec.accounting.enabled)
        if self.owned:
            mark_owned(self.layout)
        taken = ports_of_others(clusters_home(), self.layout.record)
        reservation = reserve(len(self.spec.nodes) + 3, taken, self.spec.local.first_port)
        try:
            record = make_record(self.spec, ports_of(reservation), version, find_loopback())
            write_record(self.layout.record, record)
            await self._start_daemons(programs, record, reservation)
        finally:
            reservation.release()
        record = replace(record, complete=True)
        write_record(self.layout.record, record)
        Kept(self.layout).begin_anew(blueprint_of(self.layout, self.spec, self.spec_text, record))
        return record

    async def _start_daemons(self, programs: Mapping[str, str], record: Record, reservation: Reservation) -> None:
        self._configure(record)
        daemons = Daemons.of(self.layout, record)
        nodes = LocalNodes(self.layout, record, programs["slurmd"], daemons)
        self._assemble(nodes, record)
        self.progress.step("starting munged")
        await self._start_munged(daemons, programs)
        if record.accounting:
            self.progress.step("starting MariaDB and slurmdbd")
            reservation.release(record.ports.slurmdbd)
            await self._start_accounting(daemons, programs)
        self.progress.step("starting slurmctld")
        reservation.release(record.ports.slurmctld, record.ports.controller)
        daemons.start("slurmctld", [programs["slurmctld"], "-D"])
        await self._wait_listening(daemons, "slurmctld", record.ports.slurmctld)
        start_hpcli(self.layout, record, daemons)
        await self._start_nodes(nodes, record, reservation)

    def _configure(self, record: Record) -> None:
        (self.layout.home / "cluster.yaml").write_text(self.spec_text)
        write_config(self.layout, self.spec, record)

    def _assemble(self, nodes: LocalNodes, record: Record) -> None:
        for node in record.nodes:
            if not nodes.machine(node).folder.exists():
                nodes.machine(node).assemble()

    async def _start_munged(self, daemons: Daemons, programs: Mapping[str, str]) -> None:
        runtime = self.layout.runtime
        argv = [
            programs["munged"],
            "--foreground",
            "--force",
            f"--key-file={self.layout.munge_key}",
            f"--socket={self.layout.munge_socket}",
            f"--pid-file={runtime / 'munged.pid'}",
            f"--seed-file={runtime / 'munged.seed'}",
            f"--log-file={self.layout.log / 'munged.log'}",
        ]
        daemons.start("munged", argv)
        await self._until(daemons, "munged", lambda: self.layout.munge_socket.exists())

    async def _start_accounting(self, daemons: Daemons, programs: Mapping[str, str]) -> None:
        accounting = Accounting(self.layout, programs, daemons, self.transport)
        await accounting.start()
        await accounting.add_cluster()

    async def _start_nodes(self, nodes: LocalNodes, record: Record, reservation: Reservation) -> None:
        for number, node in enumerate(record.nodes, 1):
            reservation.release(record.ports.slurmd[number - 1])
            nodes.switch_on(node)
            if number % 32 == 0:
                self.progress.step(f"starting slurmd, {number} of {len(record.nodes)}")
                await asyncio.sleep(0)

    async def _wait_listening(self, daemons: Daemons, daemon: str, port: int) -> None:
        await self._until(daemons, daemon, lambda: is_listening(port))

    async def _until(self, daemons: Daemons, daemon: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not ready():
            if time.monotonic() > deadline or not daemons.alive(daemon):
                raise HpcliError(daemon, daemons.last_words(daemon), "mend that, then bring the cluster up again")
            await asyncio.sleep(0.02)


def start_hpcli(layout: Layout, record: Record, daemons: Daemons) -> None:
    """Start the controller and the agents; those that run already are left alone."""
    daemons.start("controller", [*HPCLI, "controller", "--config", str(layout.etc / "controller.json")])
    if not record.agent_per_node:
        daemons.start("agent", agent_argv(layout))
        return
    for node in record.nodes:
        daemons.start(f"agent-{node}", [*agent_argv(layout), "--node", node])


def agent_argv(layout: Layout) -> tuple[str, ...]:
    return (*HPCLI, "agent", "--config", str(layout.etc / "agent.json"))


def _other_spec(layout: Layout, text: str) -> bool:
    try:
        return (layout.home / "cluster.yaml").read_text() != text
    except OSError:
        return True
