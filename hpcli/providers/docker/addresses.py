"""Which addresses a cluster's containers get: pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, summarize_address_range

from hpcli.errors import HpcliError

FIRST = 10
"""The controller's place in the subnet; the bridge takes the first address, the rest below is left to the site."""

_RANGES = tuple(map(IPv4Network, ("172.30.0.0/16", "172.16.0.0/12", "192.168.0.0/16")))
_WIDEST = 20
_USUAL = 24


def addresses(names: Sequence[str], taken: Mapping[str, str], subnet: IPv4Network) -> dict[str, str]:
    """An address for each name: the one that it has, else the next free one; the first name is the controller's.

    Names in `taken` that are not wanted keep theirs from being given to others. Raises `HpcliError` when the
    subnet is full.
    """
    used = {address for address in map(_parse, taken.values()) if address and address in subnet}
    kept = {name: taken[name] for name in names if _parse(taken.get(name, "")) in used}
    free = _free(subnet, used)
    found: dict[str, str] = {}
    for name in names:
        address = kept.get(name) or str(next(free, ""))
        if not address:
            raise _full(subnet, len(names))
        found[name] = address
    return found


def free_subnet(used: Iterable[IPv4Network], size: int) -> IPv4Network:
    """The first private subnet with room for `size` machines that overlaps none of these. Raises `HpcliError`.

    Each range is searched from its end, since Docker itself and home routers begin at the other one; 172.30 is first,
    since 172.31 is the usual network of a cloud, whose other subnets no local route names.
    """
    others = [network for network in used if network.prefixlen]
    prefix = _prefix(size)
    for whole in _RANGES:
        for candidate in _from_the_end(whole, prefix):
            clash = next((other for other in others if other.overlaps(candidate)), None)
            if clash is None:
                return candidate
            if whole.subnet_of(clash):
                break
    raise HpcliError(
        "docker.subnet",
        f"found no free /{prefix} in {' or '.join(map(str, _RANGES[1:]))}, expected one",
        "set docker.subnet in cluster.yaml",
    )


def parse_subnet(text: str, where: str = "docker.subnet") -> IPv4Network:
    """Raises `HpcliError` for what is no IPv4 subnet."""
    try:
        return IPv4Network(text)
    except ValueError as error:
        raise HpcliError(
            where, f"found {text} ({error}), expected an IPv4 subnet such as 172.30.7.0/24", "correct it"
        ) from None


def around(wanted: Iterable[str]) -> IPv4Network:
    """The smallest subnet, a /24 or wider, that holds all these addresses."""
    parsed = [IPv4Address(text) for text in wanted]
    network = IPv4Network((parsed[0], _USUAL), strict=False)
    while not all(address in network for address in parsed):
        network = network.supernet()
    return network


def _free(subnet: IPv4Network, used: set[IPv4Address]) -> Iterator[IPv4Address]:
    first, last = subnet.network_address + FIRST, subnet.broadcast_address - 1
    if first > last:
        return
    for part in summarize_address_range(first, last):
        yield from (address for address in part if address not in used)


def _prefix(size: int) -> int:
    prefix = _USUAL
    while (1 << (32 - prefix)) - FIRST - 2 < size and prefix > _WIDEST:
        prefix -= 1
    return prefix


def _from_the_end(whole: IPv4Network, prefix: int) -> Iterator[IPv4Network]:
    step = 1 << (32 - prefix)
    for start in range(int(whole.broadcast_address) + 1 - step, int(whole.network_address) - 1, -step):
        yield IPv4Network((start, prefix))


def _parse(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except ValueError:
        return None


def _full(subnet: IPv4Network, wanted: int) -> HpcliError:
    return HpcliError(
        f"subnet {subnet}",
        f"found no address left in it, expected room for {wanted} machines",
        "set docker.subnet in cluster.yaml to a wider one, such as 172.30.0.0/20, and make the cluster anew",
    )
