"""Bringing a docker or hosts cluster up from nothing, or on from where an earlier try ended; and down again."""

import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from hpcli.domain.blueprint import Blueprint, Place, Role
from hpcli.errors import HpcliError, Unreachable, Unsafe, UsageFault
from hpcli.ports import Clock, Progress
from hpcli.providers.remote.adopted import make_adopted
from hpcli.providers.remote.blueprint import Fragments, Ingredients, Secrets, common_series, make_blueprint
from hpcli.providers.remote.facts import Facts, complaint
from hpcli.providers.remote.ground import Ground
from hpcli.providers.remote.keeper_files import authorized_line
from hpcli.providers.remote.keeper_process import KeeperBeside
from hpcli.providers.remote.layout import RemoteHome, RemoteRecord, write_record, write_secret
from hpcli.providers.remote.machines import RemoteMachines
from hpcli.spec.effective import effective_text
from hpcli.spec.model import Spec

MOST_TOLD = 10


@dataclass(slots=True)
class RemoteBuild:
    """One remote cluster and what its spec makes of it. Machines in `left_out` are for a later time."""

    home: RemoteHome
    spec: Spec
    spec_text: str
    ground: Ground
    machines: RemoteMachines
    progress: Progress
    clock: Clock
    left_out: frozenset[str] = frozenset()

    async def goal(self, applied: Blueprint | None = None) -> Blueprint:
        """What the spec asks for, by what new machines say of themselves. Touches nothing.

        Raises `HpcliError` naming every machine that cannot be what it should.
        """
        self._make_home()
        places = await self._places(applied.places if applied else ())
        return await self._blueprint(places, applied)

    async def up(self, ready: Callable[[], Awaitable[object]]) -> Blueprint:
        """Make, bootstrap and start everything; `ready` waits until it is whole. Safe to repeat."""
        self._make_home()
        places = await self._places(())
        self.remember(places, complete=False)
        await self.ground.make(places)
        goal = await self._blueprint(places, None)
        await self.machines.create(goal, [place.name for place in goal.places])
        await self._start(goal.places)
        await ready()
        await self.machines.keep_applied(goal)
        self.remember(goal.places, goal.slurm_version, complete=True)
        return goal

    async def unreachable(self) -> Mapping[str, HpcliError]:
        """Which machines do not let us in now, and why."""
        places = await self._places(())
        self.machines.learn(places)
        _facts, faults = await self.machines.answers(places)
        return {name: fault for name, fault in faults.items() if isinstance(fault, Unreachable)}

    async def _places(self, known: Sequence[Place]) -> tuple[Place, ...]:
        wanted = await self.ground.places(self.spec, known)
        return tuple(place for place in wanted if place.name not in self.left_out)

    async def explained(self, error: HpcliError) -> HpcliError:
        """The same error with the last words of whichever daemon may be behind it, and where its log is."""
        suspects = [("hpcli-controller", Role.CONTROLLER), ("hpcli-agent", Role.COMPUTE)]
        if not self._adopted:
            suspects += [("slurmctld", Role.CONTROLLER), ("slurmd", Role.COMPUTE)]
        told = []
        for service, role in suspects:
            host = self._suspect(error, role)
            with suppress(HpcliError):
                if words := await self.machines.last_words(service, host):
                    told.append(f"{service} on {host}: {words}")
        message = f"{error.message}; last words: {'; '.join(told)}" if told else error.message
        logs = "/var/log/hpcli" if self._adopted else "/var/log/hpcli and /var/log/slurm"
        return type(error)(error.subject, message, f"logs there: {logs}; then run it again")

    def _suspect(self, error: HpcliError, role: Role) -> str:
        """The machine that the error names, else the first of its role."""
        names = [place.name for place in self.machines.places if place.role is role]
        return next((name for name in names if name in error.message), names[0])

    async def revive(self, places: Sequence[Place], version: str) -> tuple[str, ...]:
        """Start machines of ours that are off, and set those up anew that are gone; says which were gone.

        Raises `Unsafe` when the controller's is: what slurmctld knew went with it.
        """
        self.machines.learn(places)
        gone = await self.ground.missing(places)
        controller = next(place.name for place in places if place.role is Role.CONTROLLER)
        if controller in gone:
            raise Unsafe(
                f"cluster {self.spec.name}",
                f"found its controller's machine {controller} gone, expected it: slurmctld's state went with it",
                f"begin anew: hpcli cluster down {self.spec.name}, then hpcli cluster up",
            )
        await self.ground.places(self.spec, places)
        await self.ground.make(places)
        applied = await self.machines.applied()
        if gone and applied:
            await self.machines.bootstrap(applied, gone)
            await self.machines.service("start", "all", gone)
        self.remember(places, version, complete=True)
        return gone

    async def down(self, places: Sequence[Place]) -> None:
        """Stop everything of ours, remove what we made, forget the cluster. Safe to repeat."""
        self.machines.learn(places)
        if not self.ground.bound:
            await self._leave(await self._present(places))
        await self.ground.destroy()
        shutil.rmtree(self.home.folder)

    async def _present(self, places: Sequence[Place]) -> Sequence[Place]:
        """The keeper may have put other machines in their places since; the controller's machine knows."""
        try:
            applied = await self.machines.applied()
        except HpcliError:
            return places
        return applied.places if applied else places

    async def _leave(self, places: Sequence[Place]) -> None:
        """Take everything of ours off machines that stay. A later call goes on with those that did not answer."""
        self.remember(places, complete=False)
        self.machines.learn(places)
        if key := await self.ground.cluster_key():
            controller = next(place for place in places if place.role is Role.CONTROLLER)
            self.machines.authorize = authorized_line(key, controller)
        try:
            await self.machines.retire([place.name for place in places])
        except HpcliError as error:
            hint = f"the others are clean; mend that and run the same again; gone for good? remove {self.home.folder}"
            raise type(error)(error.subject, error.message, hint) from None

    async def _blueprint(self, places: Sequence[Place], applied: Blueprint | None) -> Blueprint:
        """Machines that are known need not be asked again."""
        known = {place.name: place for place in applied.places} if applied else {}
        asked = [place for place in places if not _same_machine(place, known.get(place.name))]
        # Machines of an apply that was interrupted may be in neither, and must be found again to be retired.
        found = {place.name: place for place in (*self.machines.places, *known.values(), *asked)}
        self.machines.learn(tuple(found.values()))
        facts = await self._facts(asked)
        series = (
            self.spec.slurm.version or ""
            if self._adopted
            else common_series(
                {place.name: facts[place.name].series if place.name in facts else _series(applied) for place in places}
            )
        )
        keys = await self._host_keys(asked)
        whole = [
            replace(
                place,
                hostname=facts[place.name].hostname,
                systemd=facts[place.name].systemd,
                host_key=keys.get(place.name, ""),
            )
            if place.name in facts
            else known[place.name]
            for place in places
        ]
        if self._adopted:
            return make_adopted(self.spec, self.spec_text, whole, series, self.machines.release().id)
        return make_blueprint(self.spec, self.spec_text, whole, series, await self._ingredients(whole))

    @property
    def _adopted(self) -> bool:
        return self.machines.adopted

    def _make_home(self) -> None:
        self.home.make(key=not self._adopted)

    async def _host_keys(self, places: Sequence[Place]) -> Mapping[str, str]:
        wanted = self.ground.keeper_inside and not self._adopted
        return await self.machines.host_keys(places) if wanted else {}

    async def _facts(self, places: Sequence[Place]) -> Mapping[str, Facts]:
        if places:
            self.progress.step(f"asking {len(places)} machines what they are")
        facts, faults = await self.machines.answers(places)
        now, sizes = self.clock.now(), not self.ground.bound
        answered = [one for one in places if one.name in facts]
        told = {one.name: complaint(one, facts[one.name], self.spec, now, sizes=sizes) for one in answered}
        complaints = {name: why for name, why in told.items() if why}
        if faults or complaints:
            raise _all_in_one(self.spec.name, faults, complaints)
        return facts

    async def _ingredients(self, places: Sequence[Place]) -> Ingredients:
        key = await self.ground.cluster_key()
        controller = next(place for place in places if place.role is Role.CONTROLLER)
        self.machines.authorize = authorized_line(key, controller) if key else ""
        return Ingredients(
            provider=self.spec.provider,
            admin=self.ground.admin,
            bound=self.ground.bound,
            can_replace=self.ground.can_replace(self.spec),
            port=self.ground.reach.port,
            secrets=Secrets(self.home.munge_key.read_text(), self._password()),
            release=self.machines.release().id,
            key=key,
            fragments=Fragments(_scripts(self.spec.prolog), _scripts(self.spec.epilog)),
        )

    def _password(self) -> str:
        database = self.spec.accounting.database
        return Path(database.password_file).read_text().strip() if database else ""

    async def _start(self, places: Sequence[Place]) -> None:
        """slurmctld after the accounting, everybody else after slurmctld."""
        controller = next(place.name for place in places if place.role is Role.CONTROLLER)
        others = [place.name for place in places if place.role in (Role.LOGIN, Role.COMPUTE)]
        if self.spec.accounting.enabled:
            self.progress.step("starting the accounting")
            for name in ([] if self.spec.accounting.database else ["mariadb"]) + ["slurmdbd"]:
                await self.machines.service("start", name, [controller])
            await self.machines.machine(controller).script("accounts")
        self.progress.step(f"starting {'the controller' if self._adopted else 'slurmctld'}")
        await self.machines.service("start", "all", [controller])
        self.progress.step(f"starting {len(others)} machines")
        await self.machines.service("start", "all", others)

    def remember(self, places: Sequence[Place], version: str = "", *, complete: bool) -> None:
        """Write down where the machines are, without which nobody here could find them again; a keeper that runs
        here learns of new nodes."""
        record = RemoteRecord(
            name=self.spec.name,
            provider=self.spec.provider,
            created=self.clock.now(),
            reach=self.ground.reach,
            slurm_version=version,
            places=tuple(places),
            complete=complete,
            programs=self.spec.adopted.programs or "",
        )
        write_record(self.home, record)
        write_secret(self.home.spec, effective_text(self.spec))
        if complete and not self.ground.keeper_inside:
            KeeperBeside(self.home, self.spec.name, self.spec.provider, self.spec.node_names).start()


def _all_in_one(cluster: str, faults: Mapping[str, HpcliError], complaints: Mapping[str, str]) -> HpcliError:
    """Whatever is wrong with any machine; a fault that is alone keeps its class and hint."""
    if len(faults) == 1 and not complaints:
        name, fault = next(iter(faults.items()))
        return type(fault)(f"{name}: {fault.subject}", fault.message, fault.hint)
    lines = [f"{name}: {fault.subject}: {fault.message}" for name, fault in faults.items()]
    lines += [f"{name}: {why}" for name, why in complaints.items()]
    more = f"; and {len(lines) - MOST_TOLD} more" if len(lines) > MOST_TOLD else ""
    kind = Unreachable if faults and not complaints else HpcliError
    hints = dict.fromkeys(fault.hint for fault in faults.values() if fault.hint)
    hint = "; ".join([*hints, "no machine was changed: mend that, then run the same command again"])
    return kind(f"cluster {cluster}", "; ".join(lines[:MOST_TOLD]) + more, hint)


def _same_machine(wanted: Place, known: Place | None) -> bool:
    return bool(
        known
        and known.hostname
        and (known.address, known.base, known.role) == (wanted.address, wanted.base, wanted.role)
    )


def _series(applied: Blueprint | None) -> str:
    return applied.slurm_version if applied else ""


def _scripts(paths: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Raises `UsageFault` for a script that has gone since the spec was read."""
    try:
        return tuple((Path(path).name, Path(path).read_text()) for path in paths)
    except OSError as error:
        raise UsageFault(str(error.filename), f"found {error.strerror}, expected a readable script") from None
