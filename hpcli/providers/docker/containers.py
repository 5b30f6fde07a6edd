"""The containers of one cluster: made, restarted, replaced, removed. Nothing of strangers is ever touched."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from hpcli.domain.blueprint import Place
from hpcli.errors import HpcliError, NotFound
from hpcli.providers.docker import known_hosts
from hpcli.providers.docker.addresses import addresses, around, parse_subnet
from hpcli.providers.docker.answers import FoundContainer, containers_of
from hpcli.providers.docker.engine import Engine
from hpcli.providers.docker.faults import NetworkGone, SubnetTaken
from hpcli.providers.docker.network import Network, outside
from hpcli.providers.docker.owner import Owner
from hpcli.providers.docker.record import NAME as RECORD
from hpcli.providers.docker.record import Record, read_record, write_record
from hpcli.providers.docker.shape import Shape, run_command
from hpcli.providers.docker.welcome import AT_ONCE, Welcome
from hpcli.transport.fanout import fanout

STOP_SECONDS = "2"


@dataclass(frozen=True, slots=True)
class Containers:
    """One cluster's containers on one engine.

    `home` is the folder of the cluster's state; `subnet` the one wanted, "" takes a free one; `wait` is how long a
    container may take until its sshd answers, in seconds.
    """

    engine: Engine
    cluster: str
    home: Path
    subnet: str = ""
    wait: float = 60.0

    async def plan_addresses(self, names: Sequence[str]) -> dict[str, str]:
        """Addresses as `reserve` would give them now; nothing is made. The first name is the controller's."""
        record = read_record(self.home, self.cluster)
        subnet = await self._network.subnet()
        if subnet is None:
            subnet = await self._network.choose(record.subnet or self.subnet, len(names), _refused(record))
        return addresses(names, await self._taken(), subnet)

    async def reserve(self, names: Sequence[str]) -> dict[str, str]:
        """Make the network, so that its subnet is ours, and give the addresses. Raises `SubnetTaken`, `Unsafe`."""
        record = read_record(self.home, self.cluster)
        subnet = await self._network.subnet()
        if subnet is None:
            subnet = await self._network.make_free(record.subnet or self.subnet, len(names), _refused(record))
        write_record(self.home, replace(record, subnet=str(subnet)))
        return addresses(names, await self._taken(), subnet)

    async def make(self, shape: Shape, places: Sequence[Place]) -> None:
        """Make the network and the containers that are missing, start those that are stopped, and wait for sshd.

        Raises `Unsafe`, before anything is made, when a name is a stranger's. Those that run are left as they are,
        of whatever shape: `FoundContainer.base` tells.
        """
        there = {found.name: found for found in await self.found()}
        _require_same_address(places, there)
        await self._refuse_strangers(place.name for place in places if place.name not in there)
        await self._join_network(shape, places)
        if shape.home_volume:
            await self._make_home()
        todo = [place for place in places if place.name not in there or there[place.name].state != "running"]
        # The first alone: an empty volume gets the image's /home, and two containers would both copy it.
        rounds = (todo[:1], todo[1:]) if not there else (todo,)
        for part in rounds:
            work = {place.name: partial(self._begin, shape, place, there.get(place.name)) for place in part}
            await fanout(work, AT_ONCE)
        await self._welcome.greet([one for one in places if one in todo or not self._welcome.acquainted(one)])

    async def restart(self, name: str) -> None:
        """Switch a machine off and on; done when its sshd answers. Raises `NotFound`, `TimedOut`."""
        one = next((one for one in await self.found() if one.name == name), None)
        if one is None:
            await self._refuse_strangers([name])
            raise NotFound(f"node {name}", f"found no container of it in cluster {self.cluster}", "replace it")
        await self.engine.call("restart", "--time", STOP_SECONDS, one.id)
        await self._welcome.wait({name: one.address})

    async def recreate(self, name: str) -> None:
        """Put a new container of the same address in the place of the old one; done when its sshd answers.

        Made as `make` did it last. Raises `NotFound` for a name that `make` was never told.
        """
        record = read_record(self.home, self.cluster)
        place = record.place(name)
        if record.shape is None:
            raise NotFound(f"cluster {self.cluster}", "found no containers made for it yet, expected some")
        await self._refuse_strangers([name])
        old = next((one for one in await self.found() if one.name == name), None)
        await self._renew(record.shape, place, old)
        await self._welcome.greet([place])

    async def remove(self, names: Iterable[str]) -> None:
        """Remove these machines' containers, and what is known of them."""
        gone = set(names)
        found = [one for one in await self.found() if one.name in gone]
        await fanout({one.name: partial(self._remove, one.id) for one in found}, AT_ONCE)
        if self.home.is_dir():
            known_hosts.update(self.home, {}, gone)
            write_record(self.home, read_record(self.home, self.cluster).without(gone))

    async def destroy(self) -> None:
        """Remove containers, network, volumes and records of this cluster; nothing when there are none.

        The key pair stays: it belongs to the folder.
        """
        ids = await self.engine.labelled("container", self._owner.labels)
        await fanout({container: partial(self._remove, container) for container in ids}, AT_ONCE)
        await self._network.remove()
        for volume in await self.engine.labelled("volume", self._owner.labels):
            await self.engine.call("volume", "rm", "--force", volume)
        for name in (RECORD, known_hosts.NAME):
            (self.home / name).unlink(missing_ok=True)

    async def found(self) -> tuple[FoundContainer, ...]:
        """What there is, in the order of its names."""
        return await containers_of(self.engine, self._owner)

    @property
    def _owner(self) -> Owner:
        return Owner(self.cluster, self.home)

    @property
    def _network(self) -> Network:
        return Network(self.engine, self._owner)

    @property
    def _welcome(self) -> Welcome:
        return Welcome(self.engine, self._owner, self.wait)

    async def _taken(self) -> dict[str, str]:
        """Addresses that were given out: on record, and of containers."""
        places = read_record(self.home, self.cluster).places
        return {place.name: place.address for place in places} | {one.name: one.address for one in await self.found()}

    async def _join_network(self, shape: Shape, places: Sequence[Place]) -> None:
        """Write down what is to be, in a network that holds it. Raises `HpcliError` for an address outside."""
        record = read_record(self.home, self.cluster)
        subnet = await self._network.subnet()
        if subnet is None:
            known = record.subnet or self.subnet
            subnet = parse_subnet(known) if known else around([place.address for place in places])
            await self._make_network(subnet, record)
        _require_inside(subnet, places)
        write_record(self.home, replace(record, subnet=str(subnet), shape=shape).with_places(places))

    async def _make_network(self, subnet: IPv4Network, record: Record) -> None:
        try:
            await self._network.make(subnet)
        except SubnetTaken:
            # The next plan, which gives out other addresses, is not to choose it again.
            write_record(self.home, replace(record, subnet="", refused=(*record.refused, str(subnet))))
            raise

    async def _make_home(self) -> None:
        volume = self._owner.home_volume
        found = await self.engine.inspect("volume", [volume])
        for raw in found:
            self._owner.require("volume", volume, raw.get("Labels"))
        if not found:
            labels = (word for label in self._owner.labels for word in ("--label", label))
            await self.engine.call("volume", "create", *labels, volume)

    async def _refuse_strangers(self, names: Iterable[str]) -> None:
        for raw in await self.engine.inspect("container", [self._owner.container(name) for name in names]):
            self._owner.require("container", str(raw["Name"]).lstrip("/"), raw["Config"]["Labels"])

    async def _begin(self, shape: Shape, place: Place, one: FoundContainer | None) -> None:
        """Let it run, whatever it is now.

        One that never ran was made by somebody who was interrupted, or cannot start as it is: it is made anew.
        """
        if one and one.state == "paused":
            await self.engine.call("unpause", one.id)
        elif one and one.state == "exited":
            await self._start(one.id, place)
        elif one is None or one.state != "restarting":
            await self._renew(shape, place, one)

    async def _renew(self, shape: Shape, place: Place, old: FoundContainer | None) -> None:
        if old:
            await self._remove(old.id)
        await self.engine.call(*run_command(self._owner, shape, place))

    async def _start(self, container: str, place: Place) -> None:
        try:
            await self.engine.call("start", container)
        except NetworkGone:
            await self._network.rejoin(container, place)
            await self.engine.call("start", container)

    async def _remove(self, container: str) -> None:
        try:
            await self.engine.call("rm", "--force", "--volumes", container)
        except NotFound:
            pass


def _refused(record: Record) -> tuple[IPv4Network, ...]:
    return tuple(map(parse_subnet, record.refused))


def _require_same_address(places: Iterable[Place], there: Mapping[str, FoundContainer]) -> None:
    for place in places:
        address = there[place.name].address if place.name in there else place.address
        if address != place.address:
            raise HpcliError(
                f"node {place.name}",
                f"found its container at {address or 'no address'}, expected {place.address}",
                "make a new plan; or remove the container, and it is made anew",
            )


def _require_inside(subnet: IPv4Network, places: Iterable[Place]) -> None:
    for place in places:
        if IPv4Address(place.address) not in subnet:
            raise outside(subnet, place.name, place.address)
