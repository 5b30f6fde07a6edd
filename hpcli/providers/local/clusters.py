"""The local clusters of this user: which there are, what they are made of, taking one down."""

import os
from pathlib import Path

from hpcli.domain.cluster import Built
from hpcli.errors import HpcliError, NotFound
from hpcli.providers.local.daemons import Daemons
from hpcli.providers.local.layout import NAME, Layout, clusters_home
from hpcli.providers.local.record import read_record
from hpcli.providers.local.sweep import remove


def list_built() -> tuple[Built, ...]:
    """All of them, damaged ones too."""
    folders = sorted(clusters_home().iterdir()) if os.access(clusters_home(), os.R_OK | os.X_OK) else []
    return tuple(
        _describe(Layout.of(folder.name)) for folder in folders if folder.is_dir() and NAME.fullmatch(folder.name)
    )


def built(name: str) -> Built:
    """Raises `NotFound` when there is no such cluster, `HpcliError` when its record is damaged."""
    layout = Layout.existing(name)
    record = read_record(layout.record)
    daemons = Daemons.of(layout, record)
    expected = {"munged", "slurmctld", "controller", *(f"slurmd-{node}" for node in record.nodes)}
    expected |= {f"agent-{node}" for node in record.nodes} if record.agent_per_node else {"agent"}
    expected |= {"mariadbd", "slurmdbd"} if record.accounting else set()
    alive = {name for name in expected if daemons.alive(name)}
    return Built(
        name=name,
        provider="local",
        slurm_version=record.slurm_version,
        folder=str(layout.home),
        slurm_conf=str(layout.slurm_conf),
        nodes=record.nodes,
        alive=tuple(sorted(alive)),
        dead=tuple(sorted(expected - alive)),
    )


def folders_of(name: str) -> tuple[Path, ...]:
    """What `take_down` removes. Raises `NotFound`."""
    layout = Layout.of(name)
    if not (layout.home.exists() or layout.runtime.exists()):
        raise NotFound(f"cluster {name}", "no local cluster of that name", "see: hpcli cluster list")
    return tuple(folder for folder in (layout.home, layout.runtime) if folder.exists())


def take_down(name: str) -> None:
    """End everything and remove every file, whatever state the cluster is in. Raises `NotFound`, `HpcliError`."""
    folders = folders_of(name)
    remove(Layout.of(name))
    left = [folder for folder in folders if folder.exists()]
    if left:
        raise HpcliError(f"cluster {name}", f"could not remove {left[0]}", "whose files are in it?")


def _describe(layout: Layout) -> Built:
    try:
        return built(layout.name)
    except (HpcliError, NotFound):
        return Built(layout.name, "local", "?", str(layout.home), str(layout.slurm_conf), (), (), ("record",))
