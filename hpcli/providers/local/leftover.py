"""Clusters that a demo made: whose they are, and which of them may be cleared away unasked."""

import os

from hpcli.errors import Unsafe
from hpcli.providers.local.layout import Layout
from hpcli.providers.local.sweep import remove
from hpcli.transport import proc

OWNER = "demo.json"


def mark_owned(layout: Layout) -> None:
    """This process owns the cluster: when it is gone, so may be the cluster."""
    proc.remember(layout.home / OWNER, os.getpid())


def mark_kept(name: str) -> None:
    """The cluster is somebody's from now on."""
    (Layout.of(name).home / OWNER).unlink(missing_ok=True)


def clear_leftover(name: str) -> None:
    """Remove what a killed demo left. Raises `Unsafe` for a cluster that is in use or was kept."""
    layout = Layout.of(name)
    if not layout.home.exists():
        return
    owner = layout.home / OWNER
    if owner.exists() and proc.remembered(owner) is None:
        remove(layout)
        return
    state = "another demo is using it" if owner.exists() else "it was kept, or made by cluster up"
    raise Unsafe(
        f"cluster {name}",
        f"found it there already ({state}), expected no cluster of that name",
        f"take it down: hpcli cluster down {name}; or choose another: hpcli demo --name NAME",
    )
