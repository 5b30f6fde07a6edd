"""The machines of a local cluster, as plan and apply touch them: folders, daemons and files of this machine."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hpcli.domain.blueprint import Blueprint, ConfigFile
from hpcli.domain.difference import is_slurms
from hpcli.machines import FoundFile
from hpcli.ports import Transport
from hpcli.providers.local.accounting import Accounting
from hpcli.providers.local.blueprint import HERE, at_places, blueprint_of, both, wanted_record
from hpcli.providers.local.folders import check_room, disk_errors, needed_mib
from hpcli.providers.local.kept import Kept
from hpcli.providers.local.layout import Layout
from hpcli.providers.local.loopback import find_loopback
from hpcli.providers.local.own_files import read_found, write_files
from hpcli.providers.local.programs import find_programs, slurm_version
from hpcli.providers.local.record import Record, read_record, write_record
from hpcli.providers.local.services import Services
from hpcli.providers.local.trial import Trial
from hpcli.providers.local.turn import cluster_lock
from hpcli.spec.load import default_files, parse_spec
from hpcli.spec.model import Spec


@dataclass(frozen=True, slots=True)
class LocalMachines:
    """Implements `machines.Machines` for a cluster that stands. `spec` is the one that is wanted."""

    layout: Layout
    spec: Spec
    spec_text: str
    services: Services
    transport: Transport

    @classmethod
    def open(cls, spec: Spec, spec_text: str, transport: Transport) -> "LocalMachines":
        """Raises `NotFound` when there is no such cluster, `HpcliError` when programs are missing."""
        layout = Layout.existing(spec.name)
        accounting = spec.accounting.enabled or read_record(layout.record).accounting
        return cls(layout, spec, spec_text, Services(layout, find_programs(accounting), transport), transport)

    @property
    def kept(self) -> Kept:
        return Kept(self.layout)

    @property
    def record(self) -> Record:
        return read_record(self.layout.record)

    async def goal(self, _: Blueprint | None = None) -> Blueprint:
        """What the spec makes of this cluster. Touches nothing."""
        self.layout.check_lengths(self.spec.node_names)
        record = await self._wanted(self.spec)
        return blueprint_of(self.layout, self.spec, self.spec_text, record)

    async def standing(self) -> Blueprint:
        """What a cluster must have been built from that says nothing of it. Raises `SpecInvalid`."""
        text = (self.layout.home / "cluster.yaml").read_text()
        return blueprint_of(self.layout, self._parsed(text), text, self.record)

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        with cluster_lock(self.layout):
            yield

    async def applied(self) -> Blueprint | None:
        return self.kept.applied()

    async def keep_applied(self, blueprint: Blueprint) -> None:
        """The record comes to know the nodes of the blueprint alone."""
        record = at_places(await self._wanted(self._spec_of(blueprint)), blueprint)
        with disk_errors(self.layout.home):
            (self.layout.home / "cluster.yaml").write_text(blueprint.spec_text)
            self.kept.write_applied(blueprint)
            write_record(self.layout.record, record)
            self.kept.pending_file.unlink(missing_ok=True)

    async def pending(self) -> tuple[Blueprint, ...]:
        return self.kept.pending()

    async def keep_pending(self, goal: Blueprint) -> None:
        """From here on the record knows the nodes that come and those that go."""
        wanted = at_places(await self._wanted(self.spec), goal)
        with disk_errors(self.layout.home):
            self.kept.write_pending(goal)
            write_record(self.layout.record, both(wanted, self.record))

    async def read(self, wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Mapping[str, FoundFile]]:
        return {host: read_found(paths) for host, paths in wanted.items()}

    async def write(self, files: Mapping[str, Sequence[ConfigFile]]) -> None:
        with disk_errors(self.layout.home):
            write_files(files.get(HERE, ()))

    async def remove(self, paths: Mapping[str, Sequence[str]]) -> None:
        with disk_errors(self.layout.home):
            for path in paths.get(HERE, ()):
                Path(path).unlink(missing_ok=True)

    async def service(self, verb: str, name: str, hosts: Sequence[str]) -> None:
        await self.services.act(verb, name, hosts)

    async def last_words(self, name: str, host: str) -> str:
        return self.services.last_words(name, host)

    async def try_slurm(self, goal: Blueprint) -> str:
        files = {file.name: file.text for file in goal.files[HERE] if is_slurms(file.path)}
        with disk_errors(self.layout.runtime):
            return await Trial(self.layout, self.record, self.services.programs["slurmctld"]).words(files)

    async def keep_state(self) -> str:
        with disk_errors(self.layout.home):
            return await asyncio.to_thread(self.kept.copy_state)

    async def restore_state(self, copy: str) -> None:
        with disk_errors(self.layout.home):
            await asyncio.to_thread(self.kept.put_state_back, copy)

    async def create(self, goal: Blueprint, hosts: Sequence[str]) -> None:
        """Assemble folders; `service` boots them."""
        del goal
        check_room(self.layout.home, needed_mib(len(hosts), accounting=False))
        with disk_errors(self.layout.home):
            for host in hosts:
                machine = self.services.nodes.machine(host)
                if not machine.instance_id:
                    machine.assemble()

    async def retire(self, hosts: Sequence[str]) -> None:
        """Switch off, and remove their folders and logs."""
        nodes = self.services.nodes
        known = [host for host in hosts if host in nodes.record.nodes]
        await asyncio.to_thread(nodes.switch_off, known)
        nodes.daemons.stop(f"agent-{host}" for host in known)
        with disk_errors(self.layout.home):
            for host in hosts:
                shutil.rmtree(self.layout.node(host), ignore_errors=True)
                shutil.rmtree(self.layout.spool / host, ignore_errors=True)
                for log in self.layout.log.glob(f"slurmd-{host}.*"):
                    log.unlink(missing_ok=True)

    async def rerun(self, goal: Blueprint, hosts: Sequence[str]) -> None:
        """Plug in and out what the nodes' machines are to have; make the cluster known to the accounting."""
        del hosts
        nodes = self.services.nodes
        with disk_errors(self.layout.home):
            for place in goal.places:
                if place.name in nodes.record.nodes and nodes.machine(place.name).instance_id:
                    nodes.machine(place.name).fit()
        if self.spec.accounting.enabled and nodes.daemons.alive("slurmdbd"):
            await Accounting(self.layout, self.services.programs, nodes.daemons, self.transport).add_cluster()

    def _spec_of(self, blueprint: Blueprint) -> Spec:
        """The wanted one, or that of the last good blueprint when an apply came to nothing."""
        if blueprint.spec_text == self.spec_text:
            return self.spec
        return self._parsed(blueprint.spec_text)

    def _parsed(self, text: str) -> Spec:
        return parse_spec(text, str(self.layout.home / "cluster.yaml"), defaults=default_files(os.environ))

    async def _wanted(self, spec: Spec) -> Record:
        version = await slurm_version(self.transport, self.services.programs["slurmctld"])
        return wanted_record(self.layout, spec, self.record, version, find_loopback())
