"""A cluster in memory for plan and apply: files, daemons and what each has read, jobs, drains; touches are counted."""

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from hpcli.domain.blueprint import Blueprint, ConfigFile, Place, Role, with_goal
from hpcli.domain.job import Job
from hpcli.domain.names import expand, fold
from hpcli.domain.node import Node
from hpcli.domain.slurm_conf import parse_slurm_conf
from hpcli.errors import HpcliError, NotFound, Unreachable, Unsafe
from hpcli.machines import FoundFile

CTL = "ctl"
CONF = "/etc/slurm/slurm.conf"
POISON = "poison"
"""slurmctld refuses a configuration that has this word in it; a trial does not see it."""
DEADLY = "deadly"
"""slurmctld takes this one; a slurmd does not come up with it."""
BAD = "badword"
"""A trial refuses this one."""


class Killed(BaseException):
    """kill -9: nothing of ours runs any more."""


class FakeClock:
    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


class Quiet:
    def __init__(self) -> None:
        self.said: list[str] = []

    def step(self, text: str) -> None:
        self.said.append(text)


def make_blueprint(
    nodes: str = "c[1-3]",
    *,
    cpus: int = 4,
    base: str = "image-1",
    rebuilt: str = "",
    version: str = "22.05",
    database: bool = False,
    comment: str = "",
    **parameters: str,
) -> Blueprint:
    """Nodes, a login node, and Slurm parameters of your choice. `rebuilt` nodes stand on another base."""
    names = expand(nodes)
    if database:
        parameters["AccountingStorageType"] = "accounting_storage/slurmdbd"
    lines = [f"{name}={value}" for name, value in sorted(parameters.items())]
    conf = "\n".join(
        [f"# {comment}", "ClusterName=it", *lines, f"NodeName={nodes} CPUs={cpus}", "PartitionName=main Nodes=ALL"]
    )
    slurm = ConfigFile(CONF, conf + "\n")
    agents = {
        name: (slurm, ConfigFile("/etc/hpcli/agent.json", f'{{"cpus": {cpus}}}\n', 0o600), _node_conf(name, base))
        for name in names
    }
    extra = (ConfigFile("/etc/slurm/slurmdbd.conf", "DbdHost=ctl\n", 0o600, secret=True),) if database else ()
    control = (slurm, ConfigFile("/etc/hpcli/controller.json", "{}\n"), _node_conf(CTL, base), *extra)
    places = (
        Place(CTL, Role.CONTROLLER, "10.0.0.1", base),
        Place("login1", Role.LOGIN, "10.0.0.2", base),
        *(
            Place(name, Role.COMPUTE, f"10.0.1.{name[1:]}", "image-2" if name in expand(rebuilt) else base)
            for name in names
        ),
    )
    files = {CTL: control, "login1": (slurm,), **agents}
    return Blueprint("it", "fake", version, f"nodes: {nodes}\n{comment}", places, files)


def _node_conf(name: str, base: str) -> ConfigFile:
    return ConfigFile("/etc/hpcli/node.conf", f"HPCLI_NODE={name}\nHPCLI_BASE={base}\n")


@dataclass
class FakeCluster:
    """What there is. `kill_after`: die when so many touches were made. `jobs` end at their time."""

    clock: FakeClock
    files: dict[str, dict[str, ConfigFile]] = field(default_factory=dict)
    bases: dict[str, str] = field(default_factory=dict)
    slurmctld: str = ""
    slurmd: dict[str, str] = field(default_factory=dict)
    agents: dict[str, str] = field(default_factory=dict)
    drained: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, tuple[str, float]] = field(default_factory=dict)
    slurmdbd: bool = False
    applied: Blueprint | None = None
    pending: tuple[Blueprint, ...] = ()
    locked: bool = False
    touches: list[str] = field(default_factory=list)
    kill_after: int = -1
    lost: list[str] = field(default_factory=list)
    unreachable: frozenset[str] = frozenset()

    @classmethod
    def made_from(cls, blueprint: Blueprint) -> "FakeCluster":
        """A cluster that stands as this one says."""
        world = cls(FakeClock(), applied=blueprint)
        for place in blueprint.places:
            world.bases[place.name] = place.base
            world.files[place.name] = {file.path: file for file in blueprint.files.get(place.name, ())}
        world.slurmctld = world.conf(CTL)
        for name in _compute(blueprint):
            world.slurmd[name] = world.conf(name)
            world.agents[name] = world.files[name]["/etc/hpcli/agent.json"].text
        world.slurmdbd = "/etc/slurm/slurmdbd.conf" in world.files[CTL]
        return world

    def touch(self, what: str) -> None:
        """Say that something was changed just now; die if it was the last thing that we were to do."""
        self.touches.append(what)
        if len(self.touches) == self.kill_after:
            self.locked = False
            raise Killed

    def conf(self, host: str) -> str:
        file = self.files[host].get(CONF)
        return file.text if file else ""

    def busy(self) -> dict[str, str]:
        """Jobs that run now, by id: their nodes."""
        return {job: nodes for job, (nodes, ends) in self.jobs.items() if self.clock.now() < ends}

    def as_wanted(self, goal: Blueprint) -> list[str]:
        """What is not as the goal says; empty when all is."""
        wrong = []
        wanted = {host: {file.path: file for file in own} for host, own in goal.files.items()}
        if self.files != wanted:
            wrong.append(
                f"files of {[host for host in wanted if wanted[host] != self.files.get(host)]} {list(self.files)}"
            )
        if self.bases != {place.name: place.base for place in goal.places}:
            wrong.append(f"machines {self.bases}")
        text = goal.file(CTL, CONF).text
        if _meaning(self.slurmctld) != _meaning(text):
            wrong.append(f"slurmctld runs with {self.slurmctld!r}")
        wrong += [
            f"slurmd of {name}" for name in _compute(goal) if _meaning(self.slurmd.get(name, "")) != _meaning(text)
        ]
        wrong += [
            f"agent of {name}"
            for name in _compute(goal)
            if self.agents.get(name) != goal.file(name, "/etc/hpcli/agent.json").text
        ]
        if self.slurmdbd != bool(goal.file(CTL, "/etc/slurm/slurmdbd.conf")):
            wrong.append("slurmdbd")
        if self.drained or self.pending or self.applied != goal or self.locked:
            wrong.append(f"left: {self.drained} {bool(self.pending)} {self.applied == goal} {self.locked}")
        return wrong + [f"lost job {job}" for job in self.lost]


def _meaning(text: str) -> object:
    conf = parse_slurm_conf(text)
    return conf.parameters, conf.nodes, conf.partitions


def _compute(blueprint: Blueprint) -> list[str]:
    return [place.name for place in blueprint.places if place.role is Role.COMPUTE]


@dataclass
class FakeMachines:
    """Implements `machines.Machines`."""

    world: FakeCluster

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        if self.world.locked:
            raise Unsafe("cluster it", "found an apply under way (somebody), expected none", "wait for it to end")
        self.world.locked = True
        try:
            yield
        finally:
            self.world.locked = False

    async def applied(self) -> Blueprint | None:
        return self.world.applied

    async def keep_applied(self, blueprint: Blueprint) -> None:
        self.world.applied, self.world.pending = blueprint, ()
        self.world.touch("keep_applied")

    async def pending(self) -> tuple[Blueprint, ...]:
        return self.world.pending

    async def keep_pending(self, goal: Blueprint) -> None:
        self.world.pending = with_goal(self.world.pending, goal)
        self.world.touch("keep_pending")

    async def read(self, wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Mapping[str, FoundFile]]:
        self._reach(wanted)
        return {
            host: {path: _found(self.world.files[host][path]) for path in paths if path in self.world.files[host]}
            for host, paths in wanted.items()
        }

    async def write(self, files: Mapping[str, Sequence[ConfigFile]]) -> None:
        self._reach(files)
        for host, own in files.items():
            self.world.files[host].update({file.path: file for file in own})
            self.world.touch(f"write {host}")

    async def remove(self, paths: Mapping[str, Sequence[str]]) -> None:
        for host, own in paths.items():
            for path in own:
                self.world.files[host].pop(path, None)
            self.world.touch(f"remove {host}")

    async def service(self, verb: str, name: str, hosts: Sequence[str]) -> None:
        self._reach(hosts)
        starts, stops = verb in ("start", "restart", "reload"), verb in ("stop", "restart")
        if name == "slurmctld":
            self._slurmctld(starts, stops)
        if verb == "reload":
            # slurmctld passes it on.
            self.world.slurmd = {node: self.world.conf(node) for node, text in self.world.slurmd.items() if text}
        for host in hosts:
            if name == "slurmd":
                self.world.slurmd[host] = self.world.conf(host) if starts else ""
                if starts and DEADLY in self.world.conf(host):
                    self.world.slurmd[host] = ""
                    raise HpcliError(f"host {host}", "slurmd ended at its start")
            if name == "hpcli-agent":
                self.world.agents[host] = self.world.files[host]["/etc/hpcli/agent.json"].text if starts else ""
            if name == "slurmdbd":
                self.world.slurmdbd = starts
        self.world.touch(f"{verb} {name} {fold(hosts)}")

    async def last_words(self, name: str, host: str) -> str:
        wrong = POISON in self.world.conf(host) or (name == "slurmd" and DEADLY in self.world.conf(host))
        return f"fatal: {name} says no" if wrong else ""

    async def try_slurm(self, goal: Blueprint) -> str:
        self.world.touches.append("try")
        return "error: unrecognized key: badword" if BAD in goal.file(CTL, CONF).text else ""

    async def keep_state(self) -> str:
        assert not self.world.slurmctld, "slurmctld runs while its state is copied"
        self.world.touch("keep_state")
        return "/copy/1"

    async def restore_state(self, copy: str) -> None:
        assert not self.world.slurmctld
        self.world.touch(f"restore_state {copy}")

    async def create(self, goal: Blueprint, hosts: Sequence[str]) -> None:
        for host in hosts:
            self.world.bases[host] = goal.place(host).base
            self.world.files[host] = {file.path: file for file in goal.files.get(host, ())}
            self.world.touch(f"create {host}")

    async def retire(self, hosts: Sequence[str]) -> None:
        self._reach(hosts)
        for host in hosts:
            self._end_jobs(host)
            for known in (self.world.bases, self.world.files, self.world.slurmd, self.world.agents):
                known.pop(host, None)
            self.world.touch(f"retire {host}")

    async def rerun(self, goal: Blueprint, hosts: Sequence[str]) -> None:
        self._reach(hosts)
        self.world.touch(f"rerun {fold(hosts)}")

    def _slurmctld(self, starts: bool, stops: bool) -> None:
        world = self.world
        if stops:
            world.slurmctld = ""
        if not starts:
            return
        text = world.conf(CTL)
        if POISON in text:
            world.slurmctld = ""
            raise HpcliError("slurmctld", "it ended")
        gone = parse_slurm_conf(world.slurmctld).nodes.keys() - parse_slurm_conf(text).nodes.keys()
        for node in gone:
            self._end_jobs(node)
            world.drained.pop(node, None)
        known = parse_slurm_conf(text).nodes
        world.slurmctld = text
        # slurmctld forgets the drains of nodes that are none.
        world.drained = {node: reason for node, reason in world.drained.items() if node in known}

    def _end_jobs(self, node: str) -> None:
        for job, nodes in self.world.busy().items():
            if node in expand(nodes):
                self.world.lost.append(job)

    def _reach(self, hosts: Iterable[str]) -> None:
        if dead := self.world.unreachable & set(hosts):
            raise Unreachable(f"host {fold(dead)}", "no route to it")


@dataclass
class FakeGateway:
    """The part of a SlurmGateway that an apply needs."""

    world: FakeCluster

    async def nodes(self, hostlist: str = "") -> tuple[Node, ...]:
        self._up()
        busy = {node for nodes in self.world.busy().values() for node in expand(nodes)}
        return tuple(
            Node(name, frozenset(self._states(name, name in busy)), self.world.drained.get(name, ""))
            for name in parse_slurm_conf(self.world.slurmctld).nodes
        )

    async def jobs(self) -> tuple[Job, ...]:
        self._up()
        return tuple(
            Job(job, job, "work", "ann", "main", "RUNNING", nodes=nodes) for job, nodes in self.world.busy().items()
        )

    async def update_nodes(self, hostlist: str, state: str, reason: str = "") -> None:
        self._up()
        for name in expand(hostlist):
            if name not in parse_slurm_conf(self.world.slurmctld).nodes:
                raise NotFound(f"node {name}", "no such node")
            if state == "drain":
                self.world.drained[name] = reason
            else:
                self.world.drained.pop(name, None)
        self.world.touch(f"{state} {hostlist}")

    def _states(self, name: str, busy: bool) -> Iterable[str]:
        yield "MIXED" if busy else "IDLE"
        if name in self.world.drained:
            yield "DRAIN"
        if not self.world.slurmd.get(name):
            yield "NOT_RESPONDING"

    def _up(self) -> None:
        if not self.world.slurmctld:
            raise Unreachable("slurmctld", "connection refused")


def _found(file: ConfigFile) -> FoundFile:
    digest = hashlib.sha256(file.text.encode()).hexdigest()
    return FoundFile(digest, file.mode, file.owner, file.group, file.text)


def with_edit(world: FakeCluster, host: str, path: str, text: str) -> None:
    """Somebody edits a file by hand."""
    world.files[host][path] = replace(world.files[host][path], text=text)
