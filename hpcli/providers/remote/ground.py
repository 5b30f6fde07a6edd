"""Where a remote cluster's machines come from: containers that we make, or hosts that are there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hpcli.domain.blueprint import Place
from hpcli.machines import RemoteTransport
from hpcli.providers.remote.facts import Facts
from hpcli.providers.remote.layout import Reach
from hpcli.spec.model import Spec


@dataclass(frozen=True, slots=True)
class ClusterKey:
    """An SSH key of the cluster's own: the private key's text, and the line for authorized_keys."""

    private: str
    public: str


class Ground(Protocol):
    """The machines under a cluster, before anything of Slurm or hpcli is on them."""

    @property
    def admin(self) -> str:
        """Who logs in and has sudo."""
        ...

    @property
    def bound(self) -> bool:
        """Mounts and names are the engine's work here, not the lifecycle scripts'."""
        ...

    @property
    def reach(self) -> Reach: ...

    @property
    def keeper_inside(self) -> bool:
        """The keeper runs on the controller's machine; else beside the engine."""
        ...

    def can_replace(self, spec: Spec) -> bool: ...

    async def places(self, spec: Spec, known: Sequence[Place], /) -> tuple[Place, ...]:
        """Where each machine of the spec is or will be; those of `known` keep their addresses."""
        ...

    async def make(self, places: Sequence[Place]) -> None:
        """Make those that are missing; each answers on SSH when this returns. Safe to repeat."""
        ...

    async def missing(self, places: Sequence[Place], /) -> tuple[str, ...]:
        """Which of these machines, all of our making, are there no more."""
        ...

    async def remove(self, names: Sequence[str]) -> None:
        """Remove machines that we made; others are left as they are."""
        ...

    async def destroy(self) -> None:
        """Remove all that we made for this cluster."""
        ...

    def transport(self, place: Place) -> RemoteTransport:
        """The way to a machine as the administrator who has sudo there."""
        ...

    async def cluster_key(self) -> ClusterKey | None:
        """The key with which the keeper on the controller's machine logs in to the others; made once.

        None where the keeper is not there.
        """
        ...

    def foresee(self, spec: Spec, place: Place, /) -> Facts | None:
        """Facts of a machine that need no asking, None where it must be asked."""
        ...
