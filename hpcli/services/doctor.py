"""What is right and wrong with the Slurm that commands here speak to: gather, then judge."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpcli.domain.diagnosis import (
    Configuration,
    Finding,
    Partition,
    note,
    ok,
    parse_configuration,
    parse_partitions,
    worst_first,
    wrong,
)
from hpcli.domain.diagnosis_agents import Care, care_of, each_agent, judge_agents, judge_controller
from hpcli.domain.diagnosis_hooks import in_place_of, judge_hooks
from hpcli.domain.diagnosis_jobs import Cluster, judge_jobs
from hpcli.domain.diagnosis_machine import (
    Sight,
    disk_paths,
    files_to_see,
    hook_paths,
    judge_machine,
    parse_denied,
    parse_filled,
    parse_modes,
)
from hpcli.domain.diagnosis_nodes import judge_nodes
from hpcli.domain.node import Node
from hpcli.errors import HpcliError, NotFound
from hpcli.ports import Completed, Controller, SlurmGateway, Transport
from hpcli.version import __version__

CONFIGURATION = "date +%s; scontrol show config; date +%s"
"""For sh: the machine's clock on both sides of slurmctld's."""

LIMIT = 20.0
MUNGE_LIMIT = 5.0
ABSENT = 127


@dataclass(frozen=True, slots=True)
class Ground:
    """Where Slurm's commands run: `env` names the cluster, `controller` is hpcli's, None where none is known."""

    transport: Transport
    env: Mapping[str, str] = field(default_factory=dict)
    controller: Controller | None = None

    async def run(self, argv: Sequence[str], *, stdin: str = "", timeout: float = LIMIT) -> Completed:
        """What cannot be run has failed, with its words on standard error."""
        env = {**self.env, "LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}
        try:
            return await self.transport.run(argv, stdin=stdin, env=env, timeout=timeout)
        except HpcliError as error:
            return Completed(tuple(argv), ABSENT, "", str(error))


async def examine(gateway: SlurmGateway, ground: Ground) -> tuple[Finding, ...]:
    """Everything that can be seen from there; what does not answer is a finding. Slurm itself first."""
    try:
        year, month = await gateway.version()
    except HpcliError as error:
        return (wrong("Slurm", error.message, "nothing works here", error.hint),)
    version = ok("Slurm", f"version {year}.{month:02}")
    try:
        nodes = await gateway.nodes()
    except HpcliError as error:
        return version, wrong("slurmctld", error.message, "no job starts, and recovery is blind", error.hint)
    out = sum(not node.schedulable for node in nodes)
    told = f"answers; {len(nodes) - out} of {len(nodes)} nodes in service"
    configured, partitions = await asyncio.gather(
        ground.run(["sh", "-c", CONFIGURATION]), ground.run(["scontrol", "-a", "show", "partition", "-o"])
    )
    conf = parse_configuration(configured.out)
    if conf is None:
        words = configured.err.strip() or "no configuration in what scontrol show config says"
        return version, note("slurmctld", told, f"nothing more can be judged: {words}", "run: scontrol show config")
    before, after = _clocks(configured.out)
    sight, care = await asyncio.gather(_look(ground, conf, before, after), _care(ground))
    cluster = _cluster(conf, parse_partitions(partitions.out), nodes)
    here = ok("hpcli", f"{__version__} runs this command")
    agents = _judge_care(care, tuple(node.name for node in nodes), after)
    found = (*judge_jobs(cluster), *judge_nodes(cluster), *judge_machine(sight, conf), here, *agents)
    if isinstance(care, Care) and care.adopted:
        found = in_place_of(found, judge_hooks(conf, sight.hooks))
    return version, ok("slurmctld", told), *worst_first(found)


def _cluster(conf: Configuration, partitions: tuple[Partition, ...], nodes: Sequence[Node]) -> Cluster:
    addresses = {node.addr for node in nodes}
    return Cluster(conf, partitions, len(nodes), one_machine=len(nodes) > 1 and len(addresses) == 1)


def _clocks(text: str) -> tuple[float, float]:
    lines = text.split()
    first, last = (lines[0], lines[-1]) if lines else ("", "")
    return (float(first), float(last)) if first.isdigit() and last.isdigit() else (0.0, 0.0)


async def _look(ground: Ground, conf: Configuration, before: float, after: float) -> Sight:
    who, munge, hooks, modes, filled = await asyncio.gather(
        ground.run(["id", "-un"]),
        _munge(ground, conf),
        _hooks(ground, conf),
        _modes(ground, conf),
        _disks(ground, conf),
    )
    return Sight(
        user=who.out.strip(),
        munge=munge,
        before=before,
        after=after,
        hooks=hooks,
        modes=parse_modes(modes.out),
        filled=filled,
        denied=parse_denied(modes.err),
    )


async def _munge(ground: Ground, conf: Configuration) -> str | None:
    """None where Slurm does without it, or munge's programs are not there: Slurm itself has been believed already."""
    if conf.text("AuthType") != "auth/munge":
        return None
    socket = conf.option("AuthInfo", "socket")
    option = ["-S", socket] if socket else []
    credential = await ground.run(["munge", "-n", *option], timeout=MUNGE_LIMIT)
    if credential.code == ABSENT:
        return None
    if credential.code:
        return credential.err.strip() or f"munge ended with {credential.code}"
    decoded = await ground.run(["unmunge", "-n", "-N", *option, "-m", "-"], stdin=credential.out, timeout=MUNGE_LIMIT)
    return (decoded.err.strip() or f"unmunge ended with {decoded.code}") if decoded.code else ""


async def _hooks(ground: Ground, conf: Configuration) -> dict[str, str | None]:
    paths = hook_paths(conf)
    read = await asyncio.gather(*(ground.run(["cat", "--", path]) for path in paths))
    return {path: None if one.code else one.out for path, one in zip(paths, read, strict=True)}


async def _modes(ground: Ground, conf: Configuration) -> Completed:
    return await ground.run(["stat", "-c", "%a %U %G %n", "--", *files_to_see(conf)])


async def _disks(ground: Ground, conf: Configuration) -> dict[str, int]:
    """The fuller of space and inodes of each path; one that is not on this machine is left out."""
    paths = disk_paths(conf)
    asked = [ground.run(["df", kind, "--", path]) for path in paths for kind in ("-Pk", "-Pi")]
    told = [parse_filled(one.out) for one in await asyncio.gather(*asked)]
    pairs = zip(paths, zip(told[::2], told[1::2], strict=True), strict=True)
    return {path: max(kinds) for path, pair in pairs if (kinds := [one for one in pair if one is not None])}


async def _care(ground: Ground) -> Care | Finding:
    """What hpcli's controller tells, or what is found in its place."""
    none = ok("controller", "none of hpcli's is known here: jobs only, no health and no recovery")
    if ground.controller is None:
        return none
    try:
        return care_of(await ground.controller.ask("status"))
    except NotFound:
        return none
    except HpcliError as error:
        cost = "nothing is decided and nothing repaired; agents and gate go on by themselves"
        return wrong("controller", error.message, cost, error.hint)


def _judge_care(care: Care | Finding, nodes: Sequence[str], now: float) -> tuple[Finding, ...]:
    if isinstance(care, Finding):
        return (care,)
    return (*judge_controller(care), *judge_agents(care, nodes, now), *each_agent(care, nodes))
