"""Ground `hosts`: machines that are there already, reached over SSH."""

import getpass
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hpcli.domain.blueprint import Place, Role
from hpcli.machines import RemoteTransport
from hpcli.ports import Transport
from hpcli.providers.docker.keys import key_pair
from hpcli.providers.remote.facts import Facts
from hpcli.providers.remote.ground import ClusterKey
from hpcli.providers.remote.layout import Reach, RemoteHome
from hpcli.spec.model import Spec
from hpcli.spec.options import HostsSection
from hpcli.transport.target import SshTarget

INSTEAD = "instead of "


@dataclass(frozen=True, slots=True)
class HostsGround:
    """Implements `ground.Ground`. Nothing is made and nothing removed here. `keyless`: no keeper is given any power."""

    name: str
    reach: Reach
    connect: Callable[[SshTarget], RemoteTransport]
    home: RemoteHome
    local: Transport
    bound: bool = False
    keeper_inside: bool = True
    keyless: bool = False

    @property
    def admin(self) -> str:
        return self.reach.user or getpass.getuser()

    def can_replace(self, spec: Spec) -> bool:
        return bool(spec.hosts.replace_command or spec.hosts.spare_machines)

    async def places(self, spec: Spec, known: Sequence[Place], /) -> tuple[Place, ...]:
        """A machine that took the place of the one in the spec stays there until the spec names another."""
        stand_ins = {place.name: place for place in known if place.base.startswith(INSTEAD)}
        kept = tuple(_kept(place, stand_ins.get(place.name)) for place in places_of(spec))
        used = {place.address for place in kept}
        return (*kept, *(place for place in spares_of(spec) if place.address not in used))

    async def make(self, places: Sequence[Place]) -> None:
        """They are there."""

    async def missing(self, _places: Sequence[Place], /) -> tuple[str, ...]:
        return ()

    async def remove(self, names: Sequence[str]) -> None:
        """They are somebody else's."""

    async def destroy(self) -> None:
        """They are somebody else's."""

    def transport(self, place: Place) -> RemoteTransport:
        return self.connect(self.reach.target(place.address))

    async def cluster_key(self) -> ClusterKey | None:
        if self.keyless:
            return None
        pair = await key_pair(self.local, self.home.folder, self.name)
        return ClusterKey(pair.private.read_text(), pair.public)

    def foresee(self, _spec: Spec, _place: Place, /) -> Facts | None:
        return None


def reach_of(options: HostsSection) -> Reach:
    """How the spec says that machines are reached."""
    return Reach(options.user or "", options.port or 0, options.identity or "", options.known_hosts or "")


def roles_of(spec: Spec) -> tuple[tuple[str, Role], ...]:
    """Every machine's name and role, the controller first."""
    logins = ((name, Role.LOGIN) for name in spec.login_names)
    computes = ((name, Role.COMPUTE) for name in spec.node_names)
    return ((spec.controller.name, Role.CONTROLLER), *logins, *computes)


def places_of(spec: Spec) -> tuple[Place, ...]:
    """Every machine of a spec at the address that the spec gives it."""
    return tuple(Place(name, role, spec.address_of(name)) for name, role in roles_of(spec))


def spares_of(spec: Spec) -> tuple[Place, ...]:
    machines = enumerate(spec.hosts.spare_machines, 1)
    return tuple(Place(f"spare-{number}", Role.SPARE, address) for number, address in machines)


def stand_in(place: Place, address: str, host_key: str) -> Place:
    """The same place at another address, which `places` will keep; what was known of the old machine is not."""
    first = place.base.removeprefix(INSTEAD) if place.base.startswith(INSTEAD) else place.address
    base = f"{INSTEAD}{first}" if address != first else ""
    return Place(place.name, place.role, address, base, host_key=host_key)


def _kept(wanted: Place, known: Place | None) -> Place:
    """The stand-in stays where it is while the spec names the first machine, or has come to name the stand-in."""
    return (
        known if known and (known.base == f"{INSTEAD}{wanted.address}" or known.address == wanted.address) else wanted
    )
