"""Joining what puts hpcli on a cluster that somebody else built, checks the site's lines, and takes it off again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpcli import app, app_plan, app_remote
from hpcli.app_plan import Order
from hpcli.domain.adoption_lines import Line, lines_for, paths_of, still_there
from hpcli.domain.blueprint import ADOPTED, Blueprint
from hpcli.domain.diagnosis import Configuration, parse_configuration
from hpcli.domain.names import fold
from hpcli.errors import HpcliError, Unsafe, UsageFault
from hpcli.ports import Progress, Transport

if TYPE_CHECKING:
    from hpcli.providers.remote.layout import RemoteRecord

LIMIT = 30.0
OURS = "hpcli:"


@dataclass(frozen=True, slots=True)
class Leaving:
    """What an uninstall would do. `drained` are nodes that hpcli took out of service and that stay so.

    `in_the_way` are lines of the site's slurm.conf that name programs of hpcli's.
    """

    cluster: str
    machines: tuple[str, ...]
    drained: tuple[str, ...]
    in_the_way: tuple[str, ...]


def order(path: Path) -> Order:
    """Raises `UsageFault` for a spec of another provider, and as `app_plan.order`."""
    wanted = app_plan.order(path)
    if wanted.spec.provider != ADOPTED:
        raise UsageFault(
            str(path),
            f"found provider {wanted.spec.provider}, expected {ADOPTED}: hpcli builds that cluster itself",
            "hpcli cluster up; or read a live cluster first: hpcli cluster adopt",
        )
    return wanted


async def without_unreachable(wanted: Order, progress: Progress) -> Order:
    """The same order without the machines that do not let us in now. Raises `HpcliError` when the controller is one."""
    work = app_remote.build(wanted.spec, wanted.text, progress, app.clock())
    try:
        faults: Mapping[str, HpcliError] = await work.unreachable()
    finally:
        await work.machines.close()
    if fault := faults.get(wanted.spec.controller.name):
        raise fault
    return replace(wanted, left_out=frozenset(faults))


async def goal(wanted: Order, progress: Progress) -> Blueprint:
    """Every file on every machine. Asks the machines what they are; touches nothing."""
    work = app_remote.build(wanted.spec, wanted.text, progress, app.clock(), wanted.left_out)
    try:
        return await work.goal()
    finally:
        await work.machines.close()


async def lines_of(wanted: Order, progress: Progress) -> tuple[Line, ...]:
    """The lines that the site's slurm.conf needs, and which of them are in force."""
    work = app_remote.build(wanted.spec, wanted.text, progress, app.clock())
    try:
        work.machines.learn(await work.ground.places(work.spec, ()))
        plain = work.machines.controller.plain
        found = await _configuration(plain, _environment(work.spec.adopted.programs))
        texts = {path: await _text(plain, path) for path in paths_of(found, "Prolog")}
        return lines_for(found, wanted.spec.adopted.chain_prolog, texts)
    finally:
        await work.machines.close()


async def leaving(name: str) -> Leaving:
    """Raises `UsageFault` for a cluster that hpcli built."""
    record = app_remote.record_of(name)
    if record.provider != ADOPTED:
        raise UsageFault(
            f"cluster {name}", "found one that hpcli built, expected an adopted one", f"hpcli cluster down {name}"
        )
    found = await _configuration(app_remote.login(record), record.environment)
    machines = tuple(place.name for place in record.places)
    return Leaving(name, machines, await _drained(name, record), still_there(found))


def refuse_in_use(found: Leaving) -> None:
    """Raises `Unsafe` while Slurm still runs programs of hpcli's."""
    if found.in_the_way:
        raise Unsafe(
            f"cluster {found.cluster}",
            f"Slurm still runs hpcli's programs: {'; '.join(found.in_the_way)}; without them jobs would fail",
            "take these out of slurm.conf, scontrol reconfigure, then run the same again",
        )


async def uninstall(name: str, progress: Progress) -> None:
    """Take everything of hpcli's off the machines, and forget the cluster. Raises `HpcliError`."""
    await app_remote.take_down(name, progress, app.clock())


async def _drained(name: str, record: "RemoteRecord") -> tuple[str, ...]:
    known = set(record.nodes)
    nodes = await app_remote.slurm_gateway(name).nodes()
    ours = (node for node in nodes if node.name in known and node.reason.startswith(OURS))
    return tuple(node.name for node in ours if not node.schedulable)


def in_words(machines: Sequence[str]) -> str:
    return f"{len(machines)} machines ({fold(machines)})"


async def _configuration(transport: Transport, env: Mapping[str, str]) -> Configuration:
    answer = await transport.run(["scontrol", "show", "config"], env={**env, "LC_ALL": "C"}, timeout=LIMIT)
    found = parse_configuration(answer.out)
    if answer.code or found is None:
        words = (answer.err.strip() or answer.out.strip() or f"ended with {answer.code}").splitlines()[-1]
        raise HpcliError("slurmctld", f"scontrol show config: {words}", "is slurmctld up? see: hpcli doctor")
    return found


def _environment(programs: str | None) -> dict[str, str]:
    from hpcli.render.machine import USUAL_PATH

    return {"PATH": f"{programs}:{USUAL_PATH}"} if programs else {}


async def _text(transport: Transport, path: str) -> str:
    """A hook that may not be read here says nothing."""
    answer = await transport.run(["cat", "--", path], timeout=LIMIT)
    return "" if answer.code else answer.out
