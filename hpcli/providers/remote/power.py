"""What the keeper may do to machines: reboot one, put another in its place. Implements `kept.Power`."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hpcli.domain.blueprint import Blueprint, ConfigFile, Place, Role
from hpcli.errors import HpcliError, NotFound, Unreachable, Unsafe
from hpcli.ports import Transport
from hpcli.providers.docker.containers import Containers
from hpcli.providers.remote.blueprint import RELEASE, Fragments, Ingredients, Secrets, make_blueprint
from hpcli.providers.remote.bootstrap import Machine
from hpcli.providers.remote.facts import complaint
from hpcli.providers.remote.ground import ClusterKey
from hpcli.providers.remote.hosts import stand_in
from hpcli.providers.remote.keeper_files import authorized_line, known_hosts_file
from hpcli.providers.remote.machines import RemoteMachines
from hpcli.spec.model import Spec

log = logging.getLogger(__name__)

LOCK_PATIENCE = 600.0
"""Seconds to wait for an apply that is under way."""

LOCK_POLL = 2.0
LONGEST_COMMAND = 1800.0


@dataclass(frozen=True, slots=True)
class DockerPower:
    """Over containers, beside their engine."""

    machines: RemoteMachines
    containers: Containers

    async def reboot(self, node: str) -> None:
        await self.containers.restart(node)

    async def replace(self, node: str) -> None:
        """A new container with the old one's address, set up by the very scripts that set up the first."""
        applied = await _applied(self.machines)
        await self.containers.recreate(node)
        await self.machines.bootstrap(applied, [node])
        await self.machines.service("start", "all", [node])


@dataclass(frozen=True, slots=True)
class HostsPower:
    """Over hosts, from the controller's machine. `local` runs the site's own commands there."""

    machines: RemoteMachines
    spec: Spec
    key: ClusterKey
    user: str
    port: int
    local: Transport
    now: Callable[[], float] = time.time

    async def reboot(self, node: str) -> None:
        """By the machine itself; by the site's command when it does not listen."""
        applied = await _applied(self.machines)
        place = _place(applied, node)
        command = self.spec.hosts.reboot_command
        try:
            await _begin_reboot(self.machines.machine(node))
        except HpcliError as error:
            if not command:
                raise
            await self._site_command(command, place, f"{error}; hosts.reboot_command")

    async def replace(self, node: str) -> None:
        """The site's command gives another machine, or a spare machine takes the place; then bootstrap and start."""
        deadline = asyncio.get_running_loop().time() + LOCK_PATIENCE
        while True:
            try:
                async with self.machines.lock():
                    return await self._replace(node)
            except Unsafe as held:
                if "held by" not in held.message or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(LOCK_POLL)

    async def _replace(self, node: str) -> None:
        applied = await _applied(self.machines)
        old = self.machines.machine(node)
        new, spare = await self._another(applied, _place(applied, node))
        places = [new if place.name == node else place for place in applied.places if place.name != spare]
        try:
            goal = await self._goal(applied, places, new)
            self.machines.learn(goal.places)
            await self.machines.bootstrap(goal, [node])
        except HpcliError:
            # Nothing was taken from the old machine yet: the cluster is as it was applied.
            self.machines.learn(applied.places)
            await self._know_host_keys(applied, applied.places)
            raise
        await self._retire(old)
        await self._tell_everybody(applied, goal, node)
        await self.machines.service("start", "all", [node])
        await self.machines.keep_applied(goal)

    async def _retire(self, old: Machine) -> None:
        """The broken machine must not come back under its old name; it may well be past listening."""
        try:
            await old.script("retire")
            await old.authorize("remove", self.machines.authorize)
        except HpcliError as error:
            log.warning("the old machine of %s was not retired: %s", old.name, error)

    async def _another(self, applied: Blueprint, old: Place) -> tuple[Place, str]:
        """The place with its new machine, and the name of the spare that was taken, if it was one."""
        if self.spec.hosts.replace_command:
            said = await self._site_command(self.spec.hosts.replace_command, old, "hosts.replace_command")
            address, _, host_key = (
                said.strip().splitlines()[-1].strip().partition(" ") if said.strip() else ("", "", "")
            )
            if not address:
                raise HpcliError("hosts.replace_command", "found no output, expected the new address on its last line")
            return stand_in(old, address, host_key or old.host_key), ""
        spare = next((place for place in applied.places if place.role is Role.SPARE), None)
        if spare is None:
            raise Unsafe(f"node {old.name}", "found no spare machine left, expected one in hosts.spare_machines")
        return stand_in(old, spare.address, spare.host_key), spare.name

    async def _goal(self, applied: Blueprint, places: Sequence[Place], new: Place) -> Blueprint:
        """Raises `HpcliError` when the new machine does not let us in, or cannot be what the old one was."""
        await self._know_host_keys(applied, [*places, _place(applied, new.name)])
        self.machines.learn(places)
        facts = (await self.machines.facts([new]))[new.name]
        if unfit := complaint(new, facts, self.spec, self.now()):
            raise HpcliError(f"node {new.name}", f"the new machine {new.address}: {unfit}", "give it another one")
        whole = replace(new, hostname=facts.hostname, systemd=facts.systemd)
        given = self._ingredients(applied)
        known = [whole if place.name == new.name else place for place in places]
        goal = make_blueprint(self.spec, applied.spec_text, known, applied.slurm_version, given)
        return _with_kept_secrets(goal, applied)

    async def _know_host_keys(self, applied: Blueprint, places: Sequence[Place]) -> None:
        """ssh reads them from the file that the blueprint renders; it must know the new machine before it logs in."""
        await self.machines.write({_controller(applied).name: [known_hosts_file(places, self.port)]})

    def _ingredients(self, applied: Blueprint) -> Ingredients:
        controller = _controller(applied)
        self.machines.authorize = authorized_line(self.key, controller)
        munge = applied.file(controller.name, "/etc/munge/munge.key")
        release = applied.file(controller.name, RELEASE)
        return Ingredients(
            provider=applied.provider,
            admin=self.user,
            bound=False,
            can_replace=True,
            port=self.port,
            secrets=Secrets(munge.text if munge else "", "kept"),
            release=release.text.strip() if release else "",
            key=self.key,
            fragments=_fragments(applied),
        )

    async def _tell_everybody(self, applied: Blueprint, goal: Blueprint, node: str) -> None:
        changed = {
            host: [file for file in files if applied.file(host, file.path) != file]
            for host, files in goal.files.items()
            if host != node
        }
        try:
            await self.machines.write({host: files for host, files in changed.items() if files})
            # Names in /etc/hosts are the scripts' work.
            await self.machines.rerun(goal, [host for host, files in changed.items() if _renamed(files)])
        except HpcliError as error:
            # A second machine that is broken must not keep this one from being replaced: the next apply reaches it.
            log.warning("not told of the new machine: %s", error)
        await self.machines.service("reload", "slurmctld", [_controller(goal).name])

    async def _site_command(self, command: Sequence[str], place: Place, what: str) -> str:
        argv = [word.format(node=place.name, address=place.address) for word in command]
        answer = await self.local.run(argv, timeout=LONGEST_COMMAND)
        if answer.code:
            words = (answer.err.strip() or answer.out.strip() or f"ended with {answer.code}").splitlines()[-1]
            raise HpcliError(f"node {place.name}", f"{what}: {words}", f"run by hand: {' '.join(argv)}")
        return answer.out


async def _begin_reboot(machine: Machine) -> None:
    """Raises `HpcliError` for a machine that does not let us in, or refuses."""
    await machine.plain.run(["true"])
    try:
        await machine.script("reboot")
    except Unreachable as error:
        # It let us in and was gone before it could answer: it goes down.
        log.info("%s reboots: %s", machine.name, error)


async def _applied(machines: RemoteMachines) -> Blueprint:
    applied = await machines.applied()
    if applied is None:
        raise NotFound("applied", "found no blueprint of this cluster, expected the one of its last apply")
    machines.learn(applied.places)
    return applied


def _renamed(files: Sequence[ConfigFile]) -> bool:
    return any(file.path == "/etc/hpcli/hosts" for file in files)


def _place(blueprint: Blueprint, node: str) -> Place:
    place = blueprint.place(node)
    if place is None:
        raise NotFound(f"node {node}", f"cluster {blueprint.cluster} has no such node")
    return place


def _controller(blueprint: Blueprint) -> Place:
    return next(place for place in blueprint.places if place.role is Role.CONTROLLER)


def _fragments(applied: Blueprint) -> Fragments:
    """The site's scripts as they were applied: their files are on another machine."""
    nodes = (place.name for place in applied.places if place.role is Role.COMPUTE)
    files = applied.files.get(next(nodes, ""), ())

    def of(kind: str) -> tuple[tuple[str, str], ...]:
        return tuple((file.name[3:], file.text) for file in files if f"/{kind}.d/" in file.path)

    return Fragments(of("prolog"), of("epilog"))


def _with_kept_secrets(goal: Blueprint, applied: Blueprint) -> Blueprint:
    """Files with secrets that this machine does not know stay as they were applied."""
    kept: dict[str, tuple[ConfigFile, ...]] = {}
    for host, files in goal.files.items():
        kept[host] = tuple(
            applied.file(host, file.path) or file if file.name == "slurmdbd.conf" else file for file in files
        )
    return replace(goal, files=kept)
