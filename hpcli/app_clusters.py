"""Clusters as a whole, whichever provider made them: which there are, how they are, taking one down."""

from typing import TYPE_CHECKING

from hpcli import app
from hpcli.domain.blueprint import ADOPTED
from hpcli.domain.cluster import Built
from hpcli.errors import HpcliError, NotFound
from hpcli.ports import Progress

if TYPE_CHECKING:
    from hpcli.services.clusters import Status


async def cluster_status(name: str) -> "Status":
    """Raises `NotFound`."""
    from hpcli.services.clusters import status

    return await status(built(name), app.slurm_gateway(name), app.controller(name))


def built(name: str) -> Built:
    """A cluster as its provider knows it. Raises `NotFound`."""
    if app.is_remote(name):
        from hpcli import app_remote

        return app_remote.built(name)
    from hpcli.providers.local.clusters import built as built_here

    return built_here(name)


def clusters() -> tuple[Built, ...]:
    """All clusters that were brought up from here, damaged ones too."""
    from hpcli.providers.local.clusters import list_built

    return tuple(built(found.name) if _surely_remote(found.name) else found for found in list_built())


def stands(name: str, text: str) -> bool:
    """Whether the cluster is there and whole but from another spec, or on machines that `up` must not set up again."""
    try:
        if app.is_remote(name):
            from hpcli import app_remote

            return app_remote.record_of(name).complete
        return _standing_from_another(name, text)
    except NotFound:
        return False


def _standing_from_another(name: str, text: str) -> bool:
    found = built(name)
    layout = app.layout_of(name)
    return not found.dead and (layout.home / "cluster.yaml").read_text() != text


def is_adopted(name: str) -> bool:
    """Whether somebody else built it; a damaged record does not say so."""
    try:
        return built(name).provider == ADOPTED
    except HpcliError:
        return False


def what_down_removes(name: str) -> str:
    """In words, for whoever is asked whether to go on. Raises `NotFound`."""
    if _surely_remote(name):
        from hpcli import app_remote

        return app_remote.what_down_removes(name)
    from hpcli.providers.local.clusters import folders_of

    return f"end every job and daemon of cluster {name} and remove {', '.join(map(str, folders_of(name)))}"


async def take_down(name: str, progress: Progress) -> None:
    """End everything of a cluster and remove what we made for it. Raises `NotFound`, `HpcliError`."""
    if _surely_remote(name):
        from hpcli import app_remote

        await app_remote.take_down(name, progress, app.clock())
        return
    from hpcli.providers.local.clusters import take_down as take_down_here

    take_down_here(name)


def _surely_remote(name: str) -> bool:
    try:
        return app.is_remote(name)
    except HpcliError:
        return False
