"""Clusters that a demo made: whose they are, and which of them may be cleared away unasked."""

import os

from hpcli.errors import HpcliError, Unsafe
from hpcli.ports import Progress
from hpcli.providers.local.layout import Layout
from hpcli.providers.local.record import read_record
from hpcli.providers.local.sweep import remove
from hpcli.providers.local.turn import our_turn
from hpcli.transport import proc

OWNER = "demo.json"


def mark_owned(layout: Layout) -> None:
    """This process owns the cluster: when it is gone, so may be the cluster."""
    proc.remember(layout.home / OWNER, os.getpid())


def mark_kept(name: str) -> None:
    """The cluster is somebody's from now on."""
    (Layout.of(name).home / OWNER).unlink(missing_ok=True)


async def clear_leftover(name: str, progress: Progress) -> None:
    """Remove what a killed demo left. Raises `Unsafe` for a cluster that is in use or was kept."""
    layout = Layout.of(name)
    if not layout.home.exists():
        return
    async with our_turn(layout.home.parent, progress):
        _clear(layout)


def _clear(layout: Layout) -> None:
    owner = layout.home / OWNER
    abandoned = proc.remembered(owner) is None if owner.exists() else _half_made(layout)
    if abandoned:
        remove(layout)
        return
    name = layout.name
    state = "another demo is using it" if owner.exists() else "it was kept, or made by cluster up"
    raise Unsafe(
        f"cluster {name}",
        f"found it there already ({state}), expected no cluster of that name",
        f"take it down: hpcli cluster down {name}; or choose another: hpcli demo --name NAME",
    )


def _half_made(layout: Layout) -> bool:
    """Its maker was killed before the cluster was whole, or while it was being removed."""
    try:
        return not read_record(layout.record).complete
    except HpcliError:
        return True
