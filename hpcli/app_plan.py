"""Joining plan, apply, drift and scale to a cluster's provider."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpcli import app
from hpcli.domain.blueprint import Blueprint, Place, Role
from hpcli.domain.change import HandEdit, Plan
from hpcli.domain.saved_plan import SavedPlan, from_json, to_json
from hpcli.errors import NotFound, Unsafe, UsageFault
from hpcli.machines import Machines
from hpcli.ports import Progress, SlurmGateway
from hpcli.services.apply_plan import Applied, Apply, Taken
from hpcli.services.plan import OnDrift, Planner, plan_of, refuse_stale

if TYPE_CHECKING:
    from hpcli.spec.model import Spec


@dataclass(frozen=True, slots=True)
class Order:
    """A spec and where it came from. Machines in `left_out` are for a later time."""

    spec: "Spec"
    text: str
    path: Path
    left_out: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Opened:
    """A cluster that stands, ready to be planned for."""

    machines: Machines
    planner: Planner
    gateway: SlurmGateway
    remember: Callable[[], Awaitable[None]]


def order(path: Path) -> Order:
    """Raises `SpecInvalid`, `NotFound`."""
    spec = app.load_spec(path)
    return Order(spec, path.read_text(encoding="utf-8-sig"), path)


def order_of(text: str, path: Path) -> Order:
    """As if that text lay in the file. Raises `SpecInvalid`."""
    from hpcli.health.overrides import fault_of
    from hpcli.health.registry import check_names
    from hpcli.spec.load import default_files, parse_spec

    spec = parse_spec(
        text,
        str(path),
        known_checks=check_names(),
        health_fault=fault_of,
        defaults=default_files(os.environ),
        folder=path.absolute().parent,
    )
    return Order(spec, text, path)


async def make_plan(wanted: Order, progress: Progress, strategy: OnDrift = OnDrift.REFUSE) -> Plan:
    """What an apply would do now. Touches nothing."""
    async with _opened(wanted, progress) as cluster:
        if cluster is None:
            return plan_of(None, await _new_one(wanted, progress))
        return await cluster.planner.plan(strategy)


async def carry_out(
    wanted: Order, plan: Plan, progress: Progress, strategy: OnDrift = OnDrift.REFUSE, wait: float = 0.0
) -> Applied:
    """Do exactly what was planned; a cluster that is not there yet is brought up. Raises as `Apply.apply`."""
    async with _opened(wanted, progress) as cluster:
        if cluster is not None:
            _require_up(wanted)
            work = Apply(cluster.planner, cluster.gateway, app.clock(), progress, strategy, wait)
            done = await work.apply(plan)
            await cluster.remember()
            return done
    goal = await _new_one(wanted, progress)
    refuse_stale(plan, None, goal)
    seconds = await _bring_up(wanted, progress)
    return Applied(wanted.spec.name, plan.changes, (Taken("bring the cluster up", seconds),), seconds)


async def drift_of(name: str, progress: Progress) -> tuple[HandEdit, ...]:
    """Hand edits on a cluster's machines. Raises `NotFound`."""
    from hpcli.services.drift import find_drift

    async with _opened(order(app.spec_path(name)), progress) as cluster:
        if cluster is None:
            raise NotFound(f"cluster {name}", "found no such cluster, expected one that is up", "hpcli cluster list")
        return await find_drift(cluster.machines)


def write_plan(path: Path, plan: Plan, wanted: Order) -> None:
    """Keep a plan, with the spec that it was made for, for its owner alone. Raises `UsageFault`."""
    from hpcli.providers.remote.layout import write_secret

    try:
        write_secret(path, to_json(SavedPlan(plan, str(wanted.path.absolute()), wanted.text)))
    except OSError as error:
        raise UsageFault(str(path), f"found {error.strerror}, expected to write the plan there") from None


def read_plan(path: Path) -> tuple[Plan, Order]:
    """Raises `UsageFault` for what is no plan, `SpecInvalid` for a spec that is none any more."""
    try:
        saved = from_json(path.read_text())
    except OSError as error:
        raise UsageFault(str(path), f"found {error.strerror}, expected a plan", "hpcli cluster plan -o FILE") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageFault(
            str(path), f"found no plan in it ({error!r}), expected what plan -o wrote", "hpcli cluster plan -o FILE"
        ) from None
    return saved.plan, order_of(saved.spec_text, Path(saved.spec_path))


@asynccontextmanager
async def _opened(wanted: Order, progress: Progress) -> AsyncIterator[Opened | None]:
    """The cluster of that name, None where there is none yet."""
    if wanted.spec.provider == "local":
        yield _local(wanted)
        return
    from hpcli import app_remote

    try:
        record = app_remote.record_of(wanted.spec.name)
    except NotFound:
        yield None
        return
    work = app_remote.build(wanted.spec, wanted.text, progress, app.clock(), wanted.left_out)
    work.machines.learn(record.places)

    async def remember() -> None:
        if applied := await work.machines.applied():
            work.remember(applied.places, applied.slurm_version, complete=True)

    planner = Planner(work.machines, work.goal, _no_blueprint)
    try:
        yield Opened(work.machines, planner, app_remote.admin_gateway(wanted.spec.name), remember)
    finally:
        await work.machines.close()


def _local(wanted: Order) -> Opened | None:
    from hpcli.providers.local.machines import LocalMachines
    from hpcli.providers.local.record import read_record

    try:
        layout = app.layout_of(wanted.spec.name)
    except NotFound:
        return None
    if not read_record(layout.record).complete:
        return None
    machines = LocalMachines.open(wanted.spec, wanted.text, app.local_transport())
    planner = Planner(machines, machines.goal, machines.standing)
    return Opened(machines, planner, app.gateway_for(str(layout.slurm_conf)), _no_record)


async def _no_blueprint() -> Blueprint | None:
    return None


async def _no_record() -> None:
    """A local cluster's record is kept by its machines."""


async def _new_one(wanted: Order, progress: Progress) -> Blueprint:
    """The goal of a cluster that is not there yet."""
    if wanted.spec.provider == "local":
        return await _new_local(wanted)
    from hpcli import app_remote

    work = app_remote.build(wanted.spec, wanted.text, progress, app.clock(), wanted.left_out)
    try:
        return await work.goal()
    finally:
        await work.machines.close()


async def _new_local(wanted: Order) -> Blueprint:
    """Without files: they need ports, and those are taken when the cluster comes up."""
    from hpcli.providers.local.programs import find_programs, slurm_version

    spec = wanted.spec
    version = await slurm_version(app.local_transport(), find_programs(spec.accounting.enabled)["slurmctld"])
    nodes = (Place(name, Role.COMPUTE, "") for name in spec.node_names)
    places = (Place("localhost", Role.CONTROLLER, ""), *nodes)
    return Blueprint(spec.name, "local", version, wanted.text, places, {})


async def _bring_up(wanted: Order, progress: Progress) -> float:
    if wanted.spec.provider == "local":
        from hpcli.providers.local.build import LocalBuild
        from hpcli.providers.local.layout import Layout

        layout = Layout.of(wanted.spec.name)
        return await app.bring_up(
            LocalBuild(layout, wanted.spec, wanted.text, app.local_transport(), progress), progress
        )
    from hpcli import app_remote

    work = app_remote.build(wanted.spec, wanted.text, progress, app.clock(), wanted.left_out)
    return await app_remote.bring_up(work, app.clock())


def _require_up(wanted: Order) -> None:
    """Raises `Unsafe` for a local cluster whose daemons are down: there is nothing to change then."""
    if wanted.spec.provider != "local":
        return
    from hpcli.providers.local.clusters import built

    if "munged" in built(wanted.spec.name).dead:
        raise Unsafe(
            f"cluster {wanted.spec.name}",
            "found it down, expected it up",
            f"revive it first: hpcli cluster up -f {wanted.spec.name}",
        )
