"""The cluster's own network: which subnet, made and removed."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from hpcli.domain.blueprint import Place
from hpcli.errors import HpcliError
from hpcli.providers.docker.addresses import free_subnet, parse_subnet
from hpcli.providers.docker.answers import parse_routes, parse_subnets
from hpcli.providers.docker.engine import Engine
from hpcli.providers.docker.faults import SUBNET, SubnetTaken
from hpcli.providers.docker.owner import Owner

TRIES = 8
ROUTES = Path("/proc/net/route")


def local_routes() -> str:
    """This machine's routes as the kernel lists them, "" where it does not."""
    try:
        return ROUTES.read_text()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Network:
    """The network of one cluster. `routes` gives the text of /proc/net/route."""

    engine: Engine
    owner: Owner
    routes: Callable[[], str] = local_routes

    async def subnet(self) -> IPv4Network | None:
        """Of the network that is there; None without one. Raises `Unsafe` when it is somebody else's."""
        for raw in await self.engine.inspect("network", [self.owner.network]):
            self.owner.require("network", self.owner.network, raw.get("Labels"))
            return next(iter(parse_subnets([raw])), None)
        return None

    async def choose(self, wanted: str, size: int, refused: tuple[IPv4Network, ...] = ()) -> IPv4Network:
        """The wanted subnet, else a free one for so many machines. Nothing is made."""
        if wanted:
            return parse_subnet(wanted)
        networks = await self.engine.inspect("network", await self.engine.labelled("network", ()))
        used = (*parse_subnets(networks), *parse_routes(self.routes()), *refused)
        return free_subnet(used, size)

    async def make(self, subnet: IPv4Network) -> None:
        """Raises `SubnetTaken` when another network has some of its addresses."""
        labels = (word for label in self.owner.labels for word in ("--label", label))
        try:
            await self.engine.call("network", "create", "--subnet", str(subnet), *labels, self.owner.network)
        except SubnetTaken:
            raise SubnetTaken(
                f"subnet {subnet}", "found its addresses in another network, expected them free", SUBNET
            ) from None

    async def make_free(self, wanted: str, size: int, refused: tuple[IPv4Network, ...] = ()) -> IPv4Network:
        """Make it with a subnet that nothing uses: the wanted one, else the first that the engine takes.

        Others may take the same one in the same moment, and networks may be in use that no route names.
        """
        while True:
            subnet = await self.choose(wanted, size, refused)
            try:
                await self.make(subnet)
            except SubnetTaken:
                refused = (*refused, subnet)
                if wanted or len(refused) >= TRIES:
                    raise
            else:
                return subnet

    async def rejoin(self, container: str, place: Place) -> None:
        """Put a stopped container into the network that took the place of its own."""
        await self.engine.call("network", "disconnect", "--force", self.owner.network, container)
        address = ("--ip", place.address, "--alias", place.name)
        await self.engine.call("network", "connect", *address, self.owner.network, container)

    async def remove(self) -> None:
        """Nothing when it is not there or not ours. Raises `HpcliError` when strangers' containers are in it."""
        for name in await self.engine.labelled("network", self.owner.labels):
            await self.engine.call("network", "rm", name)


def outside(subnet: IPv4Network, name: str, address: str) -> HpcliError:
    """Make the error for an address outside of the network that is there."""
    return HpcliError(
        f"machine {name}", f"found address {address}, expected one of the network's {subnet}", "make a new plan"
    )
