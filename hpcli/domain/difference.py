"""What is different between a cluster as it is and as it is to be: pure, and the same every time."""

from collections.abc import Iterable, Iterator

from hpcli.domain import disruption
from hpcli.domain.blueprint import ADOPTED, Blueprint, ConfigFile, Place, Role
from hpcli.domain.change import Change, Disruption, Part
from hpcli.domain.config_difference import gres_changes, slurm_conf_changes
from hpcli.domain.disruption import Cost, Version
from hpcli.domain.names import fold

EXCERPT = 100
LEAD = 20
SECRET = "(secret)"
NO_LINE = "(no such line)"

_OWN = Cost(Disruption.NONE, "hpcli's own daemon restarts; jobs do not notice")
_NEXT_JOB = Cost(Disruption.NONE, "the next job runs it")
_SCRIPTS = Cost(Disruption.NONE, "the lifecycle scripts run again")
_SLURMDBD = Cost(Disruption.RESTART, "slurmdbd restarts; slurmctld keeps what it has to tell until then")
_MUNGE = Cost(Disruption.RESTART, "munge restarts, and every daemon that speaks through it; running jobs live on")
_MADE = Cost(Disruption.NONE, "made and set up before Slurm learns of it")
_TAKEN_OUT = Cost(Disruption.DRAIN, "what runs there ends first, then it is taken out")
_PUT_ON = Cost(Disruption.NONE, "hpcli is put on it; Slurm and its jobs there do not notice")
_LEFT = Cost(Disruption.NONE, "hpcli is taken off; Slurm and its jobs there do not notice")
_REBUILT = Cost(Disruption.REBUILD, "another machine takes its place")
_MOVED = Cost(Disruption.NONE, "hpcli is put on the machine at that address")
_SPARE = Cost(Disruption.NONE, "nothing runs there until it takes the place of another")
_RELEASE = Cost(Disruption.NONE, "another hpcli is put on the machines, and its daemons restart; jobs do not notice")
_TOPOLOGY = Cost(Disruption.RECONFIGURE)


def difference(before: Blueprint | None, after: Blueprint) -> tuple[Change, ...]:
    """Every change that leads from one to the other, the most disturbing first; none when both mean the same."""
    if before is None:
        return (_new_cluster(after), *_machines((), after.places, slurms=after.provider != ADOPTED))
    changes = [
        *_slurm_version(before, after),
        *_machines(before.places, after.places, slurms=after.provider != ADOPTED),
        *_slurm(before, after),
        *_files(before, after),
    ]
    return tuple(sorted(changes, key=lambda change: -change.disruption))


def merged(differences: Iterable[tuple[Change, ...]]) -> tuple[Change, ...]:
    """Changes from several states that the cluster may be in; those of the first are told, each thing once."""
    found: dict[str, Change] = {}
    for changes in differences:
        for change in changes:
            found.setdefault(change.what, change)
    return tuple(sorted(found.values(), key=lambda change: -change.disruption))


def file_part(path: str) -> tuple[Part, Cost]:
    """Whose business a file is, and what a change of it costs; not for what Slurm's daemons read."""
    name = path.rpartition("/")[2]
    if name == "slurmdbd.conf":
        return Part.ACCOUNTING, _SLURMDBD
    if name in ("munge.key", "munge"):
        return Part.MUNGE, _MUNGE
    if is_keepers(path):
        return Part.HPCLI, _OWN
    if name == "client.json":
        return Part.HPCLI, Cost(Disruption.NONE)
    if name.endswith(".json") or (name.startswith("hpcli-") and name.endswith(".service")):
        return Part.HPCLI, _OWN
    if "prolog" in path or "epilog" in path:
        return Part.HPCLI, _NEXT_JOB
    if is_release(path):
        return Part.LIFECYCLE, _RELEASE
    return Part.LIFECYCLE, _SCRIPTS


def is_release(path: str) -> bool:
    """It names the hpcli that the machine is to have."""
    return path.endswith("/hpcli/release")


def is_slurms(path: str) -> bool:
    """slurmctld and slurmd read it."""
    return path.rpartition("/")[2] in ("slurm.conf", "gres.conf", "cgroup.conf", "topology.conf", "topology.yaml")


def is_keepers(path: str) -> bool:
    """hpcli's keeper reads it."""
    return "/keeper/" in path or path.rpartition("/")[2] in ("keeper.json", "hpcli-keeper.service")


def version_of(blueprint: Blueprint) -> Version:
    year, month, *_ = (*blueprint.slurm_version.split("."), "0", "0")
    return (int(year), int(month)) if year.isdigit() and month.isdigit() else (0, 0)


def _new_cluster(after: Blueprint) -> Change:
    count = sum(place.role is Role.COMPUTE for place in after.places)
    return Change(
        f"cluster {after.cluster}",
        "",
        f"{count} nodes, Slurm {after.slurm_version}, provider {after.provider}",
        Disruption.NONE,
        part=Part.MACHINE,
    )


def _slurm_version(before: Blueprint, after: Blueprint) -> Iterator[Change]:
    if before.slurm_version == after.slurm_version:
        return
    stay = {place.name: place.base for place in before.places}
    rebuilt = [place.name for place in after.places if place.base != stay.get(place.name, place.base)]
    cost = Cost(Disruption.REBUILD, "its machines are made anew") if rebuilt else disruption.of_version()
    yield Change("Slurm", before.slurm_version, after.slurm_version, cost.disruption, fold(rebuilt), cost.why)


def _machines(before: Iterable[Place], after: Iterable[Place], *, slurms: bool = True) -> Iterator[Change]:
    """`slurms`: a machine comes into Slurm and goes from it with us."""
    old, new = {place.name: place for place in before}, {place.name: place for place in after}
    for role in Role:
        added = [name for name, place in new.items() if name not in old and place.role is role]
        gone = [name for name, place in old.items() if name not in new and place.role is role]
        if added:
            yield _machine(added, "", role, _SPARE if role is Role.SPARE else _MADE if slurms else _PUT_ON)
        if gone:
            yield _machine(gone, role, "", _SPARE if role is Role.SPARE else _TAKEN_OUT if slurms else _LEFT)
    for name, place in new.items():
        if name in old and _kind(old[name]) != _kind(place):
            spare = place.role is Role.SPARE
            cost = _SPARE if spare else _REBUILT if slurms else _MOVED
            pair = _first_difference(_kind(old[name]), _kind(place))
            yield Change(f"machine {name}", *pair, cost.disruption, name, cost.why, Part.MACHINE)


def _machine(names: list[str], before: str, after: str, cost: Cost) -> Change:
    hosts = fold(names)
    return Change(f"machine {hosts}", before, after, cost.disruption, hosts, cost.why, Part.MACHINE)


def _kind(place: Place) -> tuple[str, str, str]:
    return place.role, place.base, place.address


def _first_difference(old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, str]:
    return next((was, will) for was, will in zip(old, new, strict=True) if was != will)


def _slurm(before: Blueprint, after: Blueprint) -> Iterator[Change]:
    """Slurm's files are the same on most machines: each distinct pair of texts is compared once."""
    pairs: dict[tuple[str, str, str], None] = {}
    for host in before.files.keys() & after.files.keys():
        old = {file.name: file.text for file in before.files[host] if is_slurms(file.path)}
        new = {file.name: file.text for file in after.files[host] if is_slurms(file.path)}
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                pairs[name, old.get(name, ""), new.get(name, "")] = None
    compute = [{place.name for place in side.places if place.role is Role.COMPUTE} for side in (before, after)]
    staying = frozenset(compute[0] & compute[1])
    found: dict[str, Change] = {}
    for name, was, will in sorted(pairs):
        for change in _slurm_file(name, was, will, version_of(after), staying):
            found.setdefault(change.what, change)
    yield from found.values()


def _slurm_file(name: str, was: str, will: str, version: Version, staying: frozenset[str]) -> Iterator[Change]:
    if name == "slurm.conf":
        yield from slurm_conf_changes(was, will, version)
    elif name == "gres.conf":
        yield from gres_changes(was, will, staying)
    else:
        pair = excerpts(was, will)
        cost = disruption.of_cgroup(version) if name == "cgroup.conf" else _TOPOLOGY
        if pair != ("", ""):
            yield Change(f"file {name}", *pair, cost.disruption, "", cost.why)


def _files(before: Blueprint, after: Blueprint) -> Iterator[Change]:
    """Those that are not Slurm's, on machines that stay; hosts with the same change on one line."""
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for host in before.files.keys() & after.files.keys():
        old = {file.path: file for file in before.files[host]}
        new = {file.path: file for file in after.files[host]}
        for path in old.keys() | new.keys():
            if old.get(path) != new.get(path) and not is_slurms(path):
                kinds.setdefault((path, *_shown(old.get(path), new.get(path))), []).append(host)
    names = [path.rpartition("/")[2] for path in {path for path, _, _ in kinds}]
    for (path, was, will), hosts in sorted(kinds.items()):
        part, cost = file_part(path)
        name = path.rpartition("/")[2]
        label = name if names.count(name) == 1 else path
        on = fold(hosts)
        more = f" on {on}" if sum(other == path for other, _, _ in kinds) > 1 else ""
        yield Change(f"file {label}{more}", was, will, cost.disruption, on, cost.why, part)


def _shown(old: ConfigFile | None, new: ConfigFile | None) -> tuple[str, str]:
    if (old or new) and any(file.secret for file in (old, new) if file):
        return SECRET if old else "", SECRET if new else ""
    if old and new and old.text == new.text:
        return _owned(old), _owned(new)
    was, will = excerpts(old.text if old else "", new.text if new else "")
    return (was or NO_LINE if old else ""), (will or NO_LINE if new else "")


def _owned(file: ConfigFile) -> str:
    return f"{file.mode:04o} {file.owner}:{file.group}"


def excerpts(was: str, will: str) -> tuple[str, str]:
    """What stands in each text between the lines that both begin and end with; comments and blank lines left out."""
    old, new = _said(was), _said(will)
    first = _alike(old, new)
    old, new = old[first:], new[first:]
    last = _alike(old[::-1], new[::-1])
    return _cut_both(" ".join(old[: len(old) - last]), " ".join(new[: len(new) - last]))


def _alike(old: list[str], new: list[str]) -> int:
    """How many lines are the same at the beginning."""
    pairs = enumerate(zip(old, new, strict=False))
    return next((i for i, (was, will) in pairs if was != will), min(len(old), len(new)))


def _said(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _cut_both(was: str, will: str) -> tuple[str, str]:
    """Long ones begin a little before they differ."""
    alike = next((i for i, (old, new) in enumerate(zip(was, will, strict=False)) if old != new), 0)
    start = max(0, alike - LEAD) if max(len(was), len(will)) > EXCERPT else 0
    return _cut(was, start), _cut(will, start)


def _cut(line: str, start: int) -> str:
    head, rest = "…" if start else "", line[start:]
    return head + (rest if len(rest) <= EXCERPT else f"{rest[:EXCERPT]}…")
