"""Read the machines' files and say what was changed on them by hand."""

from collections.abc import Mapping, Sequence

from hpcli.domain.blueprint import Blueprint
from hpcli.domain.change import HandEdit
from hpcli.domain.drift import Everything, drift
from hpcli.errors import NotFound
from hpcli.machines import Machines


async def find_drift(machines: Machines) -> tuple[HandEdit, ...]:
    """Every hand edit on the machines. Raises `NotFound` where nothing was ever applied."""
    applied, pending = await machines.applied(), await machines.pending()
    if applied is None:
        raise NotFound(
            "drift",
            "found no record of what was applied, expected one to compare with",
            "make one: hpcli cluster apply",
        )
    expected = (applied, *pending)
    return drift(expected, await read_files(machines, expected))


async def read_files(machines: Machines, blueprints: Sequence[Blueprint]) -> Everything:
    """Every file that one of them names, on the machines that are the same in all of them."""
    hosts = set.intersection(*(set(one.files) for one in blueprints)) - _rebuilt(blueprints)
    wanted: Mapping[str, list[str]] = {
        host: sorted({file.path for one in blueprints for file in one.files[host]}) for host in sorted(hosts)
    }
    found = await machines.read({host: paths for host, paths in wanted.items() if paths})
    return {host: found.get(host, {}) for host in wanted}


def _rebuilt(blueprints: Sequence[Blueprint]) -> set[str]:
    """Machines that one of them wants to be others: they may be gone at this moment."""
    kinds: dict[str, set[tuple[str, str]]] = {}
    for one in blueprints:
        for place in one.places:
            kinds.setdefault(place.name, set()).add((place.base, place.address))
    return {name for name, found in kinds.items() if len(found) > 1}
