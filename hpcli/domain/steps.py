"""The order in which a plan becomes true: nothing before what it needs, all of it safe to repeat.

There is no journal of steps. An apply that was killed is finished by the next one, which takes every step again;
what makes a change count is the last step alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from hpcli.domain.blueprint import ADOPTED, Blueprint, ConfigFile, Place, Role
from hpcli.domain.change import Change, Disruption, Part
from hpcli.domain.difference import file_part, is_keepers, is_release, is_slurms
from hpcli.domain.names import expand, fold

BATCH = 100
"""Nodes whose slurmd restarts at once; each registers with slurmctld when it is back."""


class Act(StrEnum):
    """What a step does; the text says it to people."""

    TRY = "try the configuration on a throw-away slurmctld"
    BEGIN = "write down what is to be"
    CREATE = "make and set up"
    DRAIN = "drain and wait until empty"
    REBUILD = "make anew"
    QUIET = "stop the agents on"
    WRITE = "write the files"
    RERUN = "run the lifecycle scripts again on"
    MUNGE = "restart munge on"
    DATABASE = "start the database"
    SLURMDBD = "restart slurmdbd"
    ACCOUNTS = "put the accounts right"
    STOP = "stop slurmctld"
    KEEP = "copy slurmctld's state"
    START = "start slurmctld"
    RECONFIGURE = "scontrol reconfigure"
    SLURMD = "restart slurmd on"
    SETTLE = "wait for the nodes"
    AGENT = "restart the agents on"
    KEEPER = "restart the keeper"
    CONTROLLER = "restart hpcli's controller"
    RESUME = "resume what was drained"
    NO_ACCOUNTING = "stop the accounting"
    RETIRE = "take out"
    COMMIT = "write down what is"


@dataclass(frozen=True, slots=True)
class Step:
    """One step and the machines it is taken on."""

    act: Act
    hosts: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.act.value} {fold(self.hosts)}" if self.hosts and self.act in _ON_MANY else self.act.value


_ON_MANY = {
    Act.CREATE,
    Act.DRAIN,
    Act.REBUILD,
    Act.QUIET,
    Act.RERUN,
    Act.MUNGE,
    Act.SLURMD,
    Act.SETTLE,
    Act.AGENT,
    Act.RESUME,
    Act.RETIRE,
}
"""Steps that say on which machines; all others are taken on the controller's, or everywhere."""


def steps(before: Sequence[Blueprint], goal: Blueprint, changes: Sequence[Change]) -> tuple[Step, ...]:
    """What leads to the goal. `before` holds every state that the cluster may be in, the last good one first.

    `changes` are all that lead from any of them to the goal.
    """
    return tuple(_Course(tuple(before), goal, tuple(changes)).steps())


def must_be_empty(before: Sequence[Blueprint], changes: Iterable[Change]) -> tuple[str, ...]:
    """Nodes on which no job may run while these changes are made."""
    nodes = {place.name for one in before for place in one.places if place.role is Role.COMPUTE}
    touched = {name for change in changes if change.disruption >= Disruption.DRAIN for name in expand(change.hosts)}
    return expand(fold(nodes & touched))


@dataclass(frozen=True, slots=True)
class _Course:
    before: tuple[Blueprint, ...]
    goal: Blueprint
    changes: tuple[Change, ...]

    def steps(self) -> Iterator[Step]:
        yield from self._prepare()
        yield Step(Act.WRITE)
        yield from self._around_slurm()
        yield from self._slurm()
        yield from self._after_slurm()
        yield Step(Act.COMMIT)

    def _prepare(self) -> Iterator[Step]:
        if self._restart >= Disruption.RECONFIGURE or self._differ(is_slurms):
            yield Step(Act.TRY)
        yield Step(Act.BEGIN)
        yield from _on(Act.CREATE, self._added)
        yield from _on(Act.DRAIN, must_be_empty(self.before, self.changes))
        yield from _on(Act.REBUILD, self._rebuilt)
        # An agent must not take a machine that is being changed, or a slurmd that is being restarted, for a faulty one.
        yield from _on(Act.QUIET, self._quiet)

    def _around_slurm(self) -> Iterator[Step]:
        """What Slurm's daemons need before they start."""
        rerun = self._differ(lambda path: file_part(path)[0] is Part.LIFECYCLE and not is_slurms(path))
        yield from _on(Act.RERUN, rerun)
        if self._munge:
            yield Step(Act.MUNGE, tuple(self.goal.files))
        accounting = _slurmdbd_conf(self.goal)
        if accounting and self._differ(lambda path: path.endswith(("slurmdbd.conf", "munge.key"))):
            if "StoragePass" not in accounting.text:
                yield Step(Act.DATABASE, (self._controller,))
            yield Step(Act.SLURMDBD, (self._controller,))
            yield Step(Act.ACCOUNTS, (self._controller,))

    def _slurm(self) -> Iterator[Step]:
        if self.goal.provider == ADOPTED:
            return
        nodes = self._compute
        fresh = tuple(name for name in nodes if name in {*self._added, *self._rebuilt})
        if self._restart >= Disruption.RESTART or self._munge:
            yield from (Step(act, (self._controller,)) for act in (Act.STOP, Act.KEEP, Act.START))
            fresh = nodes
        elif self._restart == Disruption.RECONFIGURE:
            yield Step(Act.RECONFIGURE, (self._controller,))
        for batch in self._batches(fresh):
            yield Step(Act.SLURMD, batch)
        if fresh:
            yield Step(Act.SETTLE, fresh)

    def _after_slurm(self) -> Iterator[Step]:
        fresh = {*self._added, *self._rebuilt} & self.goal.files.keys()
        own = self._differ(is_release)
        agents = {*self._differ(_names("agent.json", "hpcli-agent.service")), *fresh, *self._quiet, *own}
        having = [host for host in self.goal.files if host in agents and _has(self.goal, host, "agent.json")]
        yield from _on(Act.AGENT, having)
        if self._differ(is_keepers) or (own and _has(self.goal, self._controller, "keeper.json")):
            yield Step(Act.KEEPER, (self._controller,))
        if own or self._differ(_names("controller.json", "hpcli-controller.service")) or self._added or self._gone:
            yield Step(Act.CONTROLLER, (self._controller,))
        empty = must_be_empty(self.before, self.changes)
        if empty or len(self.before) > 1:
            # An apply that was interrupted may have drained others.
            yield Step(Act.RESUME, empty)
        if any(_slurmdbd_conf(one) for one in self.before) and not _slurmdbd_conf(self.goal):
            yield Step(Act.NO_ACCOUNTING, (self._controller,))
        yield from _on(Act.RETIRE, self._gone)

    def _batches(self, nodes: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """One of the old nodes first: what a slurmd does not take must not cost more than one of them."""
        known = {place.name for one in self.before for place in one.places}
        first = next((name for name in nodes if name in known), "")
        rest = tuple(name for name in nodes if name != first)
        if first:
            yield (first,)
        for start in range(0, len(rest), BATCH):
            yield rest[start : start + BATCH]

    @property
    def _quiet(self) -> tuple[str, ...]:
        if self._restart >= Disruption.RESTART or self._munge:
            return tuple(
                host
                for host in self.goal.files
                if all(_has(one, host, "agent.json") for one in (self.before[0], self.goal))
            )
        return self._differ(_names("agent.json")) if must_be_empty(self.before, self.changes) else ()

    @property
    def _controller(self) -> str:
        return next(place.name for place in self.goal.places if place.role is Role.CONTROLLER)

    @property
    def _compute(self) -> tuple[str, ...]:
        return tuple(place.name for place in self.goal.places if place.role is Role.COMPUTE)

    @property
    def _restart(self) -> Disruption:
        """What Slurm's own daemons need."""
        costs = (change.disruption for change in self.changes if change.part is Part.SLURM)
        return max(costs, default=Disruption.NONE)

    @property
    def _munge(self) -> bool:
        return any(change.part is Part.MUNGE for change in self.changes)

    @property
    def _added(self) -> tuple[str, ...]:
        """New to any state that the cluster may be in: making a machine that is there already changes nothing."""
        known = [_by_name(one) for one in self.before]
        fresh = (place for place in self.goal.places if any(_is_news(place, names) for names in known))
        return tuple(place.name for place in fresh)

    @property
    def _rebuilt(self) -> tuple[str, ...]:
        goal = _by_name(self.goal)
        old = (place for one in self.before for place in one.places if _has_services(place) and place.name in goal)
        another = {place.name for place in old if _machine(place) != _machine(goal[place.name])}
        return tuple(name for name in goal if name in another)

    @property
    def _gone(self) -> tuple[str, ...]:
        goal = _by_name(self.goal)
        names = dict.fromkeys(place.name for one in self.before for place in one.places)
        return tuple(name for name in names if name not in goal)

    def _differ(self, concerned: Callable[[str], bool]) -> tuple[str, ...]:
        """Hosts on which such a file differs from any state that the cluster may be in; new ones do not count."""
        return tuple(
            host
            for host, files in self.goal.files.items()
            if any(_files_differ(one.files[host], files, concerned) for one in self.before if host in one.files)
        )


def _by_name(blueprint: Blueprint) -> dict[str, Place]:
    return {place.name: place for place in blueprint.places}


def _has_services(place: Place) -> bool:
    return place.role is not Role.SPARE


def _is_news(place: Place, known: Mapping[str, Place]) -> bool:
    """A spare machine is known by its address: its name is but a number."""
    old = known.get(place.name)
    return old is None or (not _has_services(place) and old.address != place.address)


def _machine(place: Place) -> tuple[str, str]:
    return place.base, place.address


def _files_differ(old: Iterable[ConfigFile], new: Iterable[ConfigFile], concerned: Callable[[str], bool]) -> bool:
    was = {file.path: file for file in old if concerned(file.path)}
    return was != {file.path: file for file in new if concerned(file.path)}


def _on(act: Act, hosts: Iterable[str]) -> Iterator[Step]:
    chosen = tuple(hosts)
    if chosen:
        yield Step(act, chosen)


def _names(*names: str) -> Callable[[str], bool]:
    return lambda path: path.rpartition("/")[2] in names


def _has(blueprint: Blueprint, host: str, name: str) -> bool:
    return any(file.name == name for file in blueprint.files.get(host, ()))


def _slurmdbd_conf(blueprint: Blueprint) -> ConfigFile | None:
    files = (file for own in blueprint.files.values() for file in own)
    return next((file for file in files if file.name == "slurmdbd.conf"), None)
