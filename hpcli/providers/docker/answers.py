"""What the Docker engine answers, parsed: containers, subnets, and the routes of this machine."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from hpcli.domain.blueprint import Role
from hpcli.providers.docker.engine import Engine, unreadable
from hpcli.providers.docker.owner import BASE, NODE, ROLE, Owner

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FoundContainer:
    """A container of a cluster as it is now.

    `id` changes when the container is made anew, `image` is the image's id and `base` what `Shape.base` was when it
    was made. `state` is docker's: created, running, paused, restarting, exited or dead.
    """

    name: str
    role: Role
    id: str
    image: str
    base: str
    state: str
    address: str


async def containers_of(engine: Engine, owner: Owner) -> tuple[FoundContainer, ...]:
    """The containers that have the owner's labels, in the order of their names."""
    raw = await engine.inspect("container", await engine.labelled("container", owner.labels))
    return tuple(sorted((parse_container(one, owner.network) for one in raw), key=lambda one: one.name))


def parse_container(raw: Raw, network: str) -> FoundContainer:
    """Raises `HpcliError` for an answer that is not as expected."""
    try:
        labels = raw["Config"]["Labels"]
        return FoundContainer(
            name=labels[NODE],
            role=Role(labels[ROLE]),
            id=raw["Id"],
            image=raw["Image"],
            base=labels.get(BASE, ""),
            state=raw["State"]["Status"],
            address=_address(raw["NetworkSettings"]["Networks"].get(network) or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise unreadable(f"container {raw.get('Name', '?')}", error) from None


def _address(endpoint: Raw) -> str:
    """A container that is stopped has none at the moment, and keeps the one that it was made with."""
    fixed = endpoint.get("IPAMConfig") or {}
    return str(fixed.get("IPv4Address") or endpoint.get("IPAddress") or "")


def parse_subnets(networks: Iterable[Raw]) -> tuple[IPv4Network, ...]:
    """The IPv4 subnets of these networks; some, as Docker's network none, have no subnet."""
    found = []
    for raw in networks:
        for part in (raw.get("IPAM") or {}).get("Config") or ():
            subnet = str(part.get("Subnet", ""))
            if subnet and ":" not in subnet:
                found.append(_network(raw, subnet))
    return tuple(found)


def _network(raw: Raw, subnet: str) -> IPv4Network:
    try:
        return IPv4Network(subnet, strict=False)
    except ValueError as error:
        raise unreadable(f"network {raw.get('Name', '?')}", error) from None


def parse_routes(text: str) -> tuple[IPv4Network, ...]:
    """The destinations in /proc/net/route, whose numbers are little-endian hexadecimal."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 7:
            start, mask = (int.from_bytes(bytes.fromhex(words[i]), "little") for i in (1, 7))
            found.append(IPv4Network((start & mask, mask.bit_count())))
    return tuple(found)
