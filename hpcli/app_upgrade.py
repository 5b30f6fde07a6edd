"""Joining upgrades, of hpcli itself and of Slurm, to a cluster's machines."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hpcli import app
from hpcli.domain.blueprint import Blueprint
from hpcli.domain.rollout import Release
from hpcli.domain.slurm_release import Offer, parse_offer
from hpcli.errors import HpcliError, Unsafe
from hpcli.ports import Progress
from hpcli.services.upgrade import Outlook, Turn, Upgrade
from hpcli.services.upgrade_slurm import SlurmDone, SlurmOutlook, SlurmUpgrade
from hpcli.version import __version__

if TYPE_CHECKING:
    from hpcli.providers.remote.build import RemoteBuild
    from hpcli.providers.remote.machines import RemoteMachines

LONGEST_INSTALL = 1800.0
LONGEST_DUMP = 7200.0


@dataclass(frozen=True, slots=True)
class PreviousCode:
    """Implements `services.upgrade.Previous`: every machine keeps the release before beside the present one."""

    machines: "RemoteMachines"
    release: Release
    progress: Progress

    async def put_back(self, old: Blueprint, host: str) -> None:
        machine = self.machines.machine(host)
        await machine.script("unpack", "back", self.release.id)
        await machine.write(old.files[host])
        packages = self.machines.packages()
        offline = await machine.push_packages(packages) if packages else ""
        await machine.lifecycle(lambda step: self.progress.step(f"{host}: {step}"), offline)


@dataclass(frozen=True, slots=True)
class ScriptedPackages:
    """Implements `services.upgrade_slurm.SlurmPackages` by the lifecycle scripts."""

    machines: "RemoteMachines"

    async def offer(self, host: str) -> Offer:
        told = await self._upgrade(host, "look")
        try:
            return parse_offer(told)
        except ValueError as error:
            raise HpcliError(
                f"host {host}", f"upgrade look: {error}", "is Slurm there from Debian's packages?"
            ) from None

    async def fetch(self, host: str, version: str) -> None:
        await self._upgrade(host, "fetch", version)

    async def install(self, host: str, version: str) -> None:
        await self._upgrade(host, "packages", version)

    async def dump(self) -> str:
        return (await self.machines.controller.script("dump", timeout=LONGEST_DUMP)).strip()

    async def accounting_answers(self) -> None:
        await self.machines.controller.script("accounts")

    async def _upgrade(self, host: str, *words: str) -> str:
        machine, packages = self.machines.machine(host), self.machines.packages()
        offline = ["--offline", await machine.push_packages(packages)] if packages else []
        return await machine.script("upgrade", *words, *offline, timeout=LONGEST_INSTALL)


def this_hpcli() -> Release:
    from hpcli.providers.remote.release import this_release

    return Release(__version__, this_release().id)


async def look(name: str, progress: Progress, size: int = 0) -> Outlook:
    """What an upgrade of hpcli would do. Touches nothing. Raises `NotFound`, `Unsafe`."""
    async with _opened(name, progress) as work:
        return await _upgrade(work, progress, size).look()


async def carry_out(name: str, progress: Progress, size: int = 0) -> Sequence[Turn]:
    """Put this hpcli on a cluster. Raises as `services.upgrade.Upgrade.upgrade`."""
    from hpcli import app_remote

    async with _opened(name, progress) as work:
        turns = await _upgrade(work, progress, size).upgrade()
        await _remember(work)
        if not work.ground.keeper_inside and turns and not work.machines.adopted:
            keeper = app_remote.keeper_beside(work.home, work.spec)
            keeper.stop()
            keeper.start()
        return turns


async def look_at_slurm(name: str, progress: Progress, wanted: str, size: int = 0) -> SlurmOutlook:
    """What an upgrade of Slurm would do. Raises `NotFound`, `Unsafe`."""
    async with _opened(name, progress) as work:
        return await _slurm(work, progress, wanted, size).look()


async def carry_out_slurm(name: str, progress: Progress, wanted: str, size: int = 0) -> tuple[SlurmOutlook, SlurmDone]:
    """Upgrade Slurm. Raises as `services.upgrade_slurm.SlurmUpgrade.upgrade`."""
    async with _opened(name, progress) as work:
        return await _slurm(work, progress, wanted, size).upgrade()


def _upgrade(work: "RemoteBuild", progress: Progress, size: int) -> Upgrade:
    from hpcli import app_remote

    release, machines = this_hpcli(), work.machines
    return Upgrade(
        machines=machines,
        previous=PreviousCode(machines, release, progress),
        controller=app_remote.ControllerOverSsh(work.spec.name),
        wanted=lambda applied: _goal(work, applied),
        clock=app.clock(),
        progress=progress,
        release=release,
        size=size,
    )


def _slurm(work: "RemoteBuild", progress: Progress, wanted: str, size: int) -> SlurmUpgrade:
    from hpcli import app_remote

    machines = work.machines
    return SlurmUpgrade(
        machines=machines,
        packages=ScriptedPackages(machines),
        gateway=app_remote.admin_gateway(work.spec.name),
        clock=app.clock(),
        progress=progress,
        release=this_hpcli().id,
        wanted=wanted,
        size=size,
    )


async def _goal(work: "RemoteBuild", applied: Blueprint) -> Blueprint:
    """The applied spec as today's code renders it: whatever else cluster.yaml says by now is for an apply."""
    work.spec_text = applied.spec_text
    goal = await work.goal(applied)
    # Machines stay what they are: a newer hpcli may make another image of the same system.
    known = {(place.name, place.role, place.address): place for place in applied.places}
    places = [known.get((place.name, place.role, place.address), place) for place in goal.places]
    return replace(goal, places=tuple(places))


@asynccontextmanager
async def _opened(name: str, progress: Progress) -> AsyncIterator["RemoteBuild"]:
    """The cluster by the spec that it was last built or changed from here with. Raises `NotFound`, `Unsafe`."""
    _refuse_local(name)
    from hpcli import app_remote
    from hpcli.providers.remote.layout import RemoteHome
    from hpcli.spec.load import parse_spec

    record, home = app_remote.record_of(name), RemoteHome.of(name)
    text = home.spec.read_text()
    work = app_remote.build(parse_spec(text, str(home.spec)), text, progress, app.clock())
    work.machines.learn(record.places)
    try:
        yield work
    finally:
        await work.machines.close()


def _refuse_local(name: str) -> None:
    if not app.is_remote(name):
        raise Unsafe(
            f"cluster {name}",
            "found a local cluster, expected one on other machines: it runs this very hpcli, and Slurm of this machine",
            f"begin anew with it: hpcli cluster down {name}, then hpcli cluster up",
        )


async def _remember(work: "RemoteBuild") -> None:
    if applied := await work.machines.applied():
        work.remember(applied.places, applied.slurm_version, complete=True)
