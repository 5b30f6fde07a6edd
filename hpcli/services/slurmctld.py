"""Getting slurmctld into service with new files, or back into service with the old ones."""

import asyncio
from dataclasses import dataclass, field

from hpcli.domain.blueprint import Blueprint, ConfigFile, Role
from hpcli.domain.difference import version_of
from hpcli.errors import HpcliError
from hpcli.machines import Machines
from hpcli.ports import Clock, Progress, SlurmGateway

SLURMCTLD = "slurmctld"
START_LIMIT = 20.0
"""Seconds from its start until slurmctld must answer; a rollback is over within 30."""
POLL = 0.1
ACCOUNTING = "slurmdbd.conf"


@dataclass(slots=True)
class Slurmctld:
    """slurmctld between two configurations. `old` is the last good one."""

    machines: Machines
    gateway: SlurmGateway
    clock: Clock
    progress: Progress
    old: Blueprint
    new: Blueprint
    kept: str = ""
    restored: bool = field(default=False)

    @property
    def controller(self) -> str:
        return next(place.name for place in self.new.places if place.role is Role.CONTROLLER)

    async def stop(self) -> None:
        await self.machines.service("stop", SLURMCTLD, [self.controller])

    async def keep_state(self) -> None:
        self.kept = await self.machines.keep_state()

    async def start(self, verb: str = "start") -> None:
        """Start or reload it with the new files; the old ones are back in service when this raises `HpcliError`."""
        try:
            await self._serve(verb)
        except HpcliError as failure:
            words = await self._words(failure)
            seconds = await self._back(words)
            raise HpcliError(
                SLURMCTLD,
                f"it did not come up with the new configuration: {words}",
                f"the old configuration is back in service since {seconds:.1f} s later; mend cluster.yaml, plan again",
            ) from failure

    async def answers(self) -> bool:
        try:
            await self.gateway.nodes()
        except HpcliError:
            return False
        return True

    async def restore(self) -> None:
        """Old files on the controller, slurmctld started; then old files everywhere. Raises `HpcliError`."""
        await self.stop()
        await self._old_files([self.controller])
        if self.kept and version_of(self.old) != version_of(self.new):
            await self.machines.restore_state(self.kept)
        await self._old_slurmdbd()
        await self._serve("start")
        await self._old_files([host for host in self.old.files if host != self.controller and host in self.new.files])
        self.restored = True

    async def _back(self, words: str) -> float:
        began = self.clock.now()
        self.progress.step("slurmctld does not come up: putting the old configuration back")
        try:
            await self.restore()
        except HpcliError as again:
            raise HpcliError(
                SLURMCTLD,
                f"it did not come up with the new configuration: {words}; nor with the old one: {again.message}",
                f"its files are the old ones again; its state was copied to {self.kept or 'nowhere'}; read its log",
            ) from again
        return self.clock.now() - began

    async def _serve(self, verb: str) -> None:
        await self.machines.service(verb, SLURMCTLD, [self.controller])
        deadline = self.clock.now() + START_LIMIT
        try:
            async with asyncio.timeout(START_LIMIT):
                while not await self.answers():
                    if self.clock.now() > deadline:
                        raise TimeoutError
                    await self.clock.sleep(POLL)
        except TimeoutError:
            raise HpcliError(SLURMCTLD, f"no answer within {START_LIMIT:g} s of its start") from None

    async def _words(self, failure: HpcliError) -> str:
        """slurmctld's own, else what its service said."""
        try:
            return await self.machines.last_words(SLURMCTLD, self.controller) or failure.message
        except HpcliError:
            return failure.message

    async def _old_files(self, hosts: list[str]) -> None:
        write: dict[str, tuple[ConfigFile, ...]] = {}
        remove: dict[str, tuple[str, ...]] = {}
        for host in hosts:
            new = {file.path: file for file in self.new.files.get(host, ())}
            old = {file.path: file for file in self.old.files.get(host, ())}
            write[host] = tuple(file for path, file in old.items() if new.get(path) != file)
            remove[host] = tuple(path for path in new if path not in old)
        await self.machines.write({host: files for host, files in write.items() if files})
        await self.machines.remove({host: paths for host, paths in remove.items() if paths})

    async def _old_slurmdbd(self) -> None:
        old, new = (_file(one, self.controller) for one in (self.old, self.new))
        if old != new:
            await self.machines.service("restart" if old else "stop", "slurmdbd", [self.controller])


def _file(blueprint: Blueprint, host: str) -> ConfigFile | None:
    return next((file for file in blueprint.files.get(host, ()) if file.name == ACCOUNTING), None)
