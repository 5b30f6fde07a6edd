"""The machines of a docker or hosts cluster, as plan and apply touch them: everything over SSH."""

import getpass
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from hpcli.domain.blueprint import ADOPTED, Blueprint, ConfigFile, Place, Role, from_dict, to_dict, with_goal
from hpcli.errors import HpcliError, NotFound, Unsafe
from hpcli.machines import FoundFile
from hpcli.ports import Progress
from hpcli.providers.remote.bootstrap import Machine
from hpcli.providers.remote.facts import Facts
from hpcli.providers.remote.ground import Ground
from hpcli.providers.remote.release import Release
from hpcli.render.machine import LIFECYCLE
from hpcli.render.trial import trial_files
from hpcli.spec.model import Spec
from hpcli.transport.fanout import fanout
from hpcli.transport.root import AsRoot

APPLIED = "/var/lib/hpcli/applied.json"
PENDING = "/var/lib/hpcli/pending.json"
TRIAL = "/var/lib/hpcli/trial"
TRIAL_PORT = 16817
LONGEST_START = 90.0

Result = TypeVar("Result")


@dataclass(slots=True)
class RemoteMachines:
    """Implements `machines.Machines`. `places` are those known now; `create` learns of new ones from its goal.

    `authorize` is the line that lets the cluster's own key in, "" for none. `wheels` gives a machine's Python packages
    where it must not need a network of its own; `packages` win over it.
    """

    spec: Spec
    ground: Ground
    progress: Progress
    release: Callable[[], Release]
    packages: Callable[[], Release | None]
    places: tuple[Place, ...] = ()
    authorize: str = ""
    wheels: Callable[[Facts], Awaitable[Release]] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    _machines: dict[str, Machine] = field(default_factory=dict)

    def learn(self, places: Sequence[Place]) -> None:
        """Take these for the cluster's machines; connections to addresses that stay are kept."""
        known = {place.name: place for place in self.places}
        for place in places:
            if known.get(place.name) != place:
                self._machines.pop(place.name, None)
        self.places = tuple(places)

    def machine(self, name: str) -> Machine:
        """Raises `HpcliError` for a name that is none of the cluster's."""
        if name not in self._machines:
            place = next((place for place in self.places if place.name == name), None)
            if place is None:
                raise HpcliError(f"host {name}", "found no such machine in this cluster, expected one of its names")
            plain = self.ground.transport(place)
            self._machines[name] = Machine(name, plain, AsRoot(plain))
        return self._machines[name]

    @property
    def adopted(self) -> bool:
        """Slurm there is somebody else's."""
        return self.spec.provider == ADOPTED

    @property
    def controller(self) -> Machine:
        return self.machine(next(place.name for place in self.places if place.role is Role.CONTROLLER))

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        who = f"{getpass.getuser()}@{socket.gethostname()} pid {os.getpid()} since {time.strftime('%F %T')}"
        try:
            context = self.controller.root.hold([f"{LIFECYCLE}/lock", who])
            await context.__aenter__()
        except HpcliError as error:
            if "held by" not in error.message:
                raise
            held = error.message.removeprefix("lock: ")
            words = f"found its lock {held}, expected it free"
            raise Unsafe(f"cluster {self.spec.name}", words, "wait for the other apply to end") from None
        try:
            yield
        finally:
            await context.__aexit__(None, None, None)

    async def applied(self) -> Blueprint | None:
        """Also learns where its machines are by now: the keeper may have put others in their places."""
        applied = next(iter(await self._kept(APPLIED)), None)
        if applied:
            now = {place.name: place for place in applied.places}
            self.learn([now.get(place.name, place) for place in self.places])
        return applied

    async def keep_applied(self, blueprint: Blueprint) -> None:
        await self._keep(APPLIED, (blueprint,))
        await self.controller.remove([PENDING])

    async def pending(self) -> tuple[Blueprint, ...]:
        return await self._kept(PENDING)

    async def keep_pending(self, goal: Blueprint) -> None:
        await self._keep(PENDING, with_goal(await self.pending(), goal))

    async def read(self, wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Mapping[str, FoundFile]]:
        """A machine that was installed anew has none of our files."""

        async def read(name: str) -> Mapping[str, FoundFile]:
            try:
                return await self.machine(name).read(wanted[name])
            except NotFound:
                return {}

        return await self._each(wanted, read)

    async def write(self, files: Mapping[str, Sequence[ConfigFile]]) -> None:
        """To a machine that was installed anew come our scripts first."""

        async def write(name: str) -> None:
            try:
                await self.machine(name).write(files[name])
            except NotFound:
                await self.machine(name).push(self.release())
                await self.machine(name).write(files[name])

        await self._each(files, write)

    async def remove(self, paths: Mapping[str, Sequence[str]]) -> None:
        await self._each(paths, lambda name: self.machine(name).remove(paths[name]))

    async def service(self, verb: str, name: str, hosts: Sequence[str]) -> None:
        await self._each(hosts, lambda host: self.machine(host).script("service", verb, name, timeout=LONGEST_START))

    async def last_words(self, name: str, host: str) -> str:
        return (await self.machine(host).script("last-words", name)).strip()

    async def try_slurm(self, goal: Blueprint) -> str:
        controller = self.controller
        files = {
            file.name: file.text
            for file in goal.files[controller.name]
            if file.path.startswith("/etc/slurm/") and file.name.endswith((".conf", ".yaml"))
        }
        host = (await controller.plain.run(["hostname", "-s"])).out.strip()
        trial = trial_files(files, TRIAL, TRIAL_PORT, host=host, address="127.0.0.1")
        await controller.write(
            [ConfigFile(f"{TRIAL}/{name}", text, 0o640, "root", "slurm") for name, text in trial.items()]
        )
        answer = await controller.root.run([f"{LIFECYCLE}/try-slurm", TRIAL], timeout=LONGEST_START)
        return (answer.out.strip() or answer.err.strip() or "it ended without a word") if answer.code else ""

    async def keep_state(self) -> str:
        return (await self.controller.script("state", "keep", timeout=LONGEST_START)).strip()

    async def restore_state(self, copy: str) -> None:
        await self.controller.script("state", "restore", copy, timeout=LONGEST_START)

    async def create(self, goal: Blueprint, hosts: Sequence[str]) -> None:
        """Make machines and bootstrap them; Slurm's and hpcli's daemons are not started yet, munge is."""
        wanted = [place for place in goal.places if place.name in hosts]
        self.learn([*(place for place in self.places if place.name not in hosts), *wanted])
        await self.ground.make(wanted)
        await self.bootstrap(goal, hosts)

    async def bootstrap(self, goal: Blueprint, hosts: Sequence[str]) -> None:
        """Make hosts what the goal says of them, all at once; a later call goes on where this one failed."""
        self.seconds.update(await self._each(hosts, lambda name: self._bootstrap(goal, name)))

    async def retire(self, hosts: Sequence[str]) -> None:
        """A machine that cannot be reached keeps no other from being retired; the error comes last."""
        try:
            await self._each(hosts, self._retire)
        finally:
            await self.ground.remove(hosts)
            self.learn([place for place in self.places if place.name not in hosts])

    async def rerun(self, goal: Blueprint, hosts: Sequence[str]) -> None:
        """Accounts are put right only once slurmdbd answers: the packages may have come just now."""
        await self._each(hosts, lambda name: self._bootstrap(goal, name))
        if self.controller.name in hosts and goal.file(self.controller.name, "/etc/hpcli/accounts.tsv"):
            running = await self.controller.root.run([f"{LIFECYCLE}/service", "status", "slurmdbd"])
            if not running.code:
                await self.controller.script("accounts", timeout=LONGEST_START)

    async def facts(self, places: Sequence[Place]) -> Mapping[str, Facts]:
        """Facts of each machine, asked or foreseen."""
        return await self._each([place.name for place in places], self._facts_of(places))

    async def answers(self, places: Sequence[Place]) -> tuple[Mapping[str, Facts], Mapping[str, HpcliError]]:
        """Facts of those that give them, and of the others the reason."""
        facts, faults = self._facts_of(places), dict[str, HpcliError]()

        async def answer(name: str) -> Facts | None:
            try:
                return await facts(name)
            except HpcliError as error:
                faults[name] = error
                return None

        found = await self._each([place.name for place in places], answer)
        return {name: one for name, one in found.items() if one}, faults

    async def host_keys(self, places: Sequence[Place]) -> Mapping[str, str]:
        """Each machine's own word for its public host key, over a connection that was verified already."""
        return await self._each([place.name for place in places], lambda name: self.machine(name).host_key())

    async def close(self) -> None:
        await self._each(tuple(self._machines), lambda name: self._machines[name].plain.close())

    def _facts_of(self, places: Sequence[Place]) -> Callable[[str], Awaitable[Facts]]:
        by_name, python = {place.name: place for place in places}, self.spec.adopted.python

        async def facts(name: str) -> Facts:
            return self.ground.foresee(self.spec, by_name[name]) or await self.machine(name).facts(python)

        return facts

    async def _retire(self, name: str) -> None:
        machine = self.machine(name)
        if self.authorize:
            await machine.authorize("remove", self.authorize)
        if any(place.name == name and place.role is not Role.SPARE for place in self.places):
            # Without our scripts it is retired already, or was installed anew.
            with suppress(NotFound):
                await machine.script("uninstall" if self.adopted else "retire", timeout=LONGEST_START)

    async def _kept(self, path: str) -> tuple[Blueprint, ...]:
        text = await self.controller.get(path)
        try:
            return tuple(map(from_dict, json.loads(text))) if text is not None else ()
        except (ValueError, KeyError, TypeError) as error:
            found = f"found what this hpcli cannot read: {error}"
            raise HpcliError(path, found, "use the hpcli that wrote it; put a damaged one back from a copy") from None

    async def _keep(self, path: str, blueprints: Sequence[Blueprint]) -> None:
        text = json.dumps([to_dict(one) for one in blueprints])
        await self.controller.write([ConfigFile(path, text, 0o600, secret=True)])

    async def _bootstrap(self, goal: Blueprint, name: str) -> float:
        machine, began = self.machine(name), time.monotonic()
        if self.authorize:
            await machine.authorize("add", self.authorize)
        if name not in goal.files or not goal.files[name]:
            return time.monotonic() - began
        self.progress.step(f"{name}: pushing hpcli")
        await machine.push(self.release())
        packages = self.packages()
        if packages is None and self.wheels:
            packages = await self.wheels(await machine.facts(self.spec.adopted.python))
        offline = await machine.push_packages(packages) if packages else ""
        await machine.write(goal.files[name])
        await machine.lifecycle(lambda step: self.progress.step(f"{name}: {step}"), offline)
        if not self.adopted:
            await machine.script("service", "start", "munge", timeout=LONGEST_START)
        return time.monotonic() - began

    async def _each(
        self, hosts: Mapping[str, object] | Sequence[str], work: Callable[[str], Awaitable[Result]]
    ) -> dict[str, Result]:
        def on(name: str) -> Callable[[], Awaitable[Result]]:
            return lambda: work(name)

        return await fanout({name: on(name) for name in hosts})
