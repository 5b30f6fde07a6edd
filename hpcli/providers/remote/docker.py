"""Ground `docker`: containers with sshd that we make; from there on they are hosts like any other."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hpcli.domain.blueprint import Place
from hpcli.errors import HpcliError
from hpcli.machines import RemoteTransport
from hpcli.ports import Progress, Transport
from hpcli.providers.docker.containers import Containers
from hpcli.providers.docker.image import build_script, built_image, named_image
from hpcli.providers.docker.keys import key_pair
from hpcli.providers.docker.shape import Shape, shape_of
from hpcli.providers.remote.facts import Facts
from hpcli.providers.remote.ground import ClusterKey
from hpcli.providers.remote.hosts import roles_of
from hpcli.providers.remote.layout import Reach, RemoteHome
from hpcli.spec.model import Spec
from hpcli.transport.target import SshTarget

ADMIN = "admin"
DEFAULT_SERIES = "24.11"
CODENAMES = {"22.05": "bookworm", "24.11": "trixie", "26.05": "sid"}


@dataclass(slots=True)
class DockerGround:
    """Implements `ground.Ground` for one cluster."""

    home: RemoteHome
    containers: Containers
    connect: Callable[[SshTarget], RemoteTransport]
    local: Transport
    progress: Progress
    admin: str = ADMIN
    bound: bool = True
    keeper_inside: bool = False
    _shape: Shape | None = field(default=None)

    @property
    def reach(self) -> Reach:
        return Reach(ADMIN, 22, str(self.home.identity), str(self.home.known_hosts))

    def can_replace(self, _spec: Spec, /) -> bool:
        return True

    async def places(self, spec: Spec, _known: Sequence[Place], /) -> tuple[Place, ...]:
        roles = roles_of(spec)
        addresses = await self.containers.plan_addresses([name for name, _ in roles])
        base = (await self._shape_of(spec)).base
        return tuple(Place(name, role, addresses[name], base) for name, role in roles)

    async def make(self, places: Sequence[Place]) -> None:
        if self._shape is None:
            raise HpcliError("docker", "found no shape for its containers", "ask for the places first")
        self.progress.step(f"making {len(places)} containers")
        await self.containers.make(self._shape, places)

    async def missing(self, places: Sequence[Place], /) -> tuple[str, ...]:
        there = {one.name for one in await self.containers.found()}
        return tuple(place.name for place in places if place.name not in there)

    async def remove(self, names: Sequence[str]) -> None:
        await self.containers.remove(names)

    async def destroy(self) -> None:
        await self.containers.destroy()

    def transport(self, place: Place) -> RemoteTransport:
        return self.connect(self.reach.target(place.address))

    async def cluster_key(self) -> ClusterKey | None:
        return None

    def foresee(self, spec: Spec, place: Place, /) -> Facts:
        """What our own images hold is known before they run."""
        series = series_of(spec)
        return Facts(
            os_id="debian",
            codename=CODENAMES[series],
            hostname=place.name,
            slurm=series,
            disk_free_mib=1 << 20,
            uid=1000,
            sudo=True,
            # A container's clock is this machine's.
            epoch=time.time(),
        )

    async def _shape_of(self, spec: Spec) -> Shape:
        if self._shape is None:
            pair = await key_pair(self.local, self.home.folder, spec.name)
            self.home.keeper.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._shape = shape_of(spec, await self._image(spec), pair.public, self.home.keeper)
        return self._shape

    async def _image(self, spec: Spec) -> str:
        if spec.docker.image:
            return await named_image(self.containers.engine, spec.docker.image, self.progress)
        return await built_image(self.local, build_script(), series_of(spec), self.progress)


def series_of(spec: Spec) -> str:
    """Raises `HpcliError` for an image of the site's own of which nobody says what it holds."""
    if spec.docker.image and not spec.slurm.version:
        raise HpcliError(
            "slurm.version", f"found none beside docker.image {spec.docker.image}, expected the Slurm that it holds"
        )
    return spec.slurm.version or DEFAULT_SERIES
