"""The only place that chooses adapters and joins them to services.

Heavy adapters are imported where they are chosen, so that each command loads only what it uses.
"""

import getpass
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcli import app_context
from hpcli.domain.settings import Address
from hpcli.errors import HpcliError, NotFound, UsageFault, told
from hpcli.ports import Clock, Controller, Credentials, Progress, SlurmGateway, Transport
from hpcli.transport.ask import RemoteController
from hpcli.transport.process import LocalTransport

if TYPE_CHECKING:
    from hpcli.domain.settings import ClientSettings
    from hpcli.providers.local.build import LocalBuild
    from hpcli.providers.local.faults import LocalFaults
    from hpcli.providers.local.layout import Layout
    from hpcli.providers.local.record import Record
    from hpcli.providers.local.stock import StockSlurm
    from hpcli.services.cluster import Readiness
    from hpcli.services.log_files import LogFiles
    from hpcli.slurm.chosen import ChosenGateway
    from hpcli.spec.model import Spec

CLUSTER_VARIABLE = app_context.CLUSTER_VARIABLE
CLIENT = Path("/etc/hpcli/client.json")
"""On every machine of a cluster that hpcli set up."""


def local_transport() -> LocalTransport:
    return LocalTransport()


def clock() -> Clock:
    from hpcli.probe.clock import SystemClock

    return SystemClock()


def slurm_gateway(cluster: str | None) -> SlurmGateway:
    """The Slurm of the cluster named, HPCLI_CLUSTER, current context, else of this machine. Raises `NotFound`."""
    return slurm_and_files(cluster)[0]


def slurm_and_files(cluster: str | None) -> "tuple[SlurmGateway, LogFiles | None]":
    """As `slurm_gateway`, and output files of its jobs as its login node sees them; None where that is this machine."""
    name = app_context.meant(cluster)
    if not name or _lives_here(name):
        return chosen_gateway(""), None
    login, slurm_conf = _way_to(name)
    if login is None:
        return chosen_gateway(slurm_conf), None
    return app_context.gateway_over(login, slurm_conf), app_context.files_over(login)


def _way_to(name: str) -> tuple[Transport | None, str]:
    """The login node, None where commands run here; and the slurm.conf there, "" where Slurm finds it itself."""
    if context := app_context.find(name):
        return app_context.transport_of(context) if context.host else None, context.slurm_conf
    if is_remote(name):
        from hpcli import app_remote

        return app_remote.login(app_remote.record_of(name)), ""
    return None, str(layout_of(name).slurm_conf)


def chosen_gateway(slurm_conf: str) -> "ChosenGateway":
    """pyslurm's gateway where it is installed and fits, else the command line's. Not for daemons: it blocks them."""
    from hpcli.slurm.chosen import ChosenGateway

    return ChosenGateway(gateway_for(slurm_conf), slurm_conf)


def is_remote(cluster: str) -> bool:
    """Whether its machines are others than this one. Raises `NotFound` for no cluster of ours."""
    from hpcli.providers.remote.layout import provider_of

    return provider_of(cluster) != "local"


def is_elsewhere(cluster: str | None) -> bool:
    """Whether commands for this cluster run on another machine than this one."""
    name = app_context.meant(cluster)
    return bool(name) and not _lives_here(name) and _way_to(name)[0] is not None


def user_on(cluster: str | None) -> str:
    """Who we are on the cluster's login node."""
    name = app_context.meant(cluster)
    if not is_elsewhere(name):
        return getpass.getuser()
    if context := app_context.find(name):
        return app_context.user_on(context)
    from hpcli import app_remote

    return app_remote.record_of(name).reach.user or getpass.getuser()


def _here() -> "ClientSettings | None":
    """The cluster that this machine is part of, None when it is part of none."""
    from hpcli.domain.settings import read_client_settings

    return read_client_settings(CLIENT) if CLIENT.exists() else None


def _lives_here(name: str) -> bool:
    return bool((here := _here()) and here.cluster == name)


def gateway_for(slurm_conf: str, requeue_rest: float = 1.0) -> SlurmGateway:
    """The Slurm of this configuration file; "" is the one that Slurm's own tools would find."""
    from hpcli.slurm.cli import CliGateway

    conf = slurm_conf or os.environ.get("SLURM_CONF", "")
    if conf and not Path(conf).exists():
        # Slurm's own tools would try for a minute to find it.
        raise NotFound(f"SLURM_CONF {conf}", "no such file", "unset SLURM_CONF, or name a cluster with --cluster")
    return CliGateway(local_transport(), {"SLURM_CONF": slurm_conf} if slurm_conf else {}, requeue_rest=requeue_rest)


def layout_of(cluster: str) -> "Layout":
    """Raises `NotFound` when there is no local cluster of that name."""
    from hpcli.providers.local.layout import Layout

    return Layout.existing(cluster)


def credentials(munge_socket: str) -> Credentials:
    from hpcli.providers.local.programs import find_munge
    from hpcli.transport.munge import Munge

    munge, unmunge = find_munge()
    return Munge(local_transport(), munge, unmunge, munge_socket)


def programs(record: "Record") -> Mapping[str, str]:
    """Full paths of the programs that a local cluster was built with."""
    from hpcli.providers.local.programs import find_programs

    return find_programs(record.accounting)


def drills(cluster: str) -> "tuple[LocalFaults, StockSlurm]":
    """The means to break a local cluster's nodes, and to take hpcli out of it for comparison."""
    from hpcli.providers.local.daemons import Daemons
    from hpcli.providers.local.faults import LocalFaults
    from hpcli.providers.local.nodes import LocalNodes
    from hpcli.providers.local.record import read_record
    from hpcli.providers.local.stock import StockSlurm

    layout = layout_of(cluster)
    record = read_record(layout.record)
    nodes = LocalNodes(layout, record, programs(record)["slurmd"], Daemons.of(layout, record))
    return LocalFaults(nodes), StockSlurm(layout, record, local_transport())


def readiness(cluster: str, progress: Progress) -> "Readiness":
    """What waits until a local cluster is whole."""
    from hpcli.services.cluster import Readiness

    faults, _ = drills(cluster)
    daemons = faults.nodes.daemons

    def casualty() -> str:
        dead = [name for name in daemons.known() if not daemons.alive(name)]
        return f"{dead[0]} ended: {daemons.last_words(dead[0])}" if dead else ""

    def last_words(node: str) -> str:
        return daemons.last_words(f"slurmd-{node}")

    return Readiness(slurm_gateway(cluster), controller(cluster), clock(), progress, casualty, last_words)


def cluster_name(name: str | None) -> str:
    """The cluster that is meant: named, HPCLI_CLUSTER, current context, else the only one. Raises `UsageFault`."""
    from hpcli.providers.local.clusters import list_built

    if chosen := app_context.meant(name):
        return chosen
    if here := _here():
        return here.cluster
    known = [built.name for built in list_built()]
    if len(known) == 1:
        return known[0]
    found = f"found {len(known)} clusters ({', '.join(known)})" if known else "found no cluster"
    raise UsageFault("cluster", f"{found}, expected the name of one", f"give it, or set {CLUSTER_VARIABLE}")


def spec_path(given: str) -> Path:
    """The spec that is meant: a file, or the one that a local cluster of that name was built from."""
    path = Path(given)
    if path.exists() or "/" in given or given.endswith((".yaml", ".yml")):
        return path
    return layout_of(given).home / "cluster.yaml"


def load_spec(path: Path) -> "Spec":
    """Raises `SpecInvalid` with every problem of the file."""
    from hpcli.health.overrides import fault_of
    from hpcli.health.registry import check_names
    from hpcli.spec.load import default_files
    from hpcli.spec.load import load_spec as load

    return load(path, known_checks=check_names(), health_fault=fault_of, defaults=default_files(os.environ))


def build(path: Path, progress: Progress) -> "LocalBuild":
    """The build of a spec's cluster. Raises as `load_spec` does."""
    return _build(load_spec(path), path.read_text(), progress, owned=False)


def build_text(text: str, source: str, progress: Progress, *, owned: bool = False) -> "LocalBuild":
    """The build of the cluster that a spec's text describes; an `owned` one may be cleared away when we are gone.

    Raises `SpecInvalid`.
    """
    from hpcli.spec.load import parse_spec

    return _build(parse_spec(text, source), text, progress, owned=owned)


def _build(spec: "Spec", text: str, progress: Progress, *, owned: bool) -> "LocalBuild":
    from hpcli.providers.local.build import LocalBuild
    from hpcli.providers.local.layout import Layout

    return LocalBuild(Layout.of(spec.name), spec, text, local_transport(), progress, owned)


async def already_up(work: "LocalBuild") -> bool:
    """Whether that very cluster is up and answers: then its jobs are not to be disturbed."""
    from hpcli.services.cluster import look

    if not work.standing():
        return False
    health = await look(slurm_gateway(work.spec.name), controller(work.spec.name))
    return not (health.slurm_error or health.controller_error)


async def bring_up(work: "LocalBuild", progress: Progress) -> float:
    """Build, wait until all is whole, and say how many seconds it took; a failure leaves nothing behind."""
    start = clock().now()
    await work.up()
    try:
        await readiness(work.spec.name, progress).wait(work.spec.node_names)
    except BaseException:
        work.undo()
        raise
    return clock().now() - start


async def render_spec(path: Path) -> Mapping[str, str]:
    """Slurm's files as `up` would write them here now, by name; of a remote cluster by machine and path."""
    spec = load_spec(path)
    if spec.provider != "local":
        from hpcli import app_remote

        return app_remote.preview(spec, path.read_text())
    from hpcli.providers.local.config import preview

    return await preview(spec, local_transport())


def controller(cluster: str | None) -> Controller:
    """The controller of a cluster, wherever it is. Raises `NotFound`."""
    name = cluster_name(cluster)
    if _lives_here(name):
        return _controller_here()
    if context := app_context.find(name):
        return app_context.controller_of(context)
    if is_remote(name):
        from hpcli import app_remote

        return app_remote.ControllerOverSsh(name)
    from hpcli.providers.local.record import read_record

    layout = layout_of(name)
    address = Address("127.0.0.1", read_record(layout.record).ports.controller)
    return RemoteController(address, credentials(str(layout.munge_socket)))


def _controller_here() -> RemoteController:
    here = _here()
    if here is None:
        raise NotFound(str(CLIENT), "no such file: this machine is no cluster's", "ask on the controller's machine")
    return RemoteController(here.controller, credentials(here.munge_socket))


async def ask_here(what: str, details: Mapping[str, Any]) -> Mapping[str, Any]:
    """The reply of this machine's controller as it is; that there is none is a reply too."""
    try:
        return await _controller_here().reply(what, **details)
    except HpcliError as error:
        return {"ok": False, **told(error)}
