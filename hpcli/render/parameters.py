"""Parameters of slurm.conf in sections, and what cluster.yaml's `slurm_conf` makes of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from hpcli.render import safe

LISTS = frozenset(
    {
        "accountingstoragetres",
        "communicationparameters",
        "launchparameters",
        "prologflags",
        "schedulerparameters",
        "slurmctldparameters",
        "slurmdparameters",
    }
)
"""Parameters that are comma lists of which hpcli may need an item itself: a site adds to them."""

Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Section:
    """Parameters that belong together; an empty comment means none."""

    parameters: tuple[Parameter, ...]
    comment: str = ""

    @property
    def text(self) -> str:
        comment = (f"# {self.comment}",) if self.comment else ()
        return "\n".join((*comment, *(f"{one.name}={one.value}" for one in self.parameters)))


def with_site(sections: Sequence[Section], slurm_conf: Mapping[str, Scalar]) -> tuple[Section, ...]:
    """Put a site's parameters over ours, in place; those that we do not set follow in a section of their own.

    Raises `HpcliError` for what Slurm could not read.
    """
    wanted = {
        safe.parameter(name).lower(): Parameter(name, safe.setting(f"slurm_conf: {name}", value))
        for name, value in slurm_conf.items()
    }
    ours = {one.name.lower() for section in sections for one in section.parameters}
    merged = tuple(
        replace(section, parameters=tuple(_over(one, wanted.get(one.name.lower())) for one in section.parameters))
        for section in sections
    )
    further = sorted((one for key, one in wanted.items() if key not in ours), key=lambda one: one.name.lower())
    return (*merged, Section(tuple(further), "From slurm_conf of cluster.yaml.")) if further else merged


def parameters(pairs: Iterable[tuple[str, str]]) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, value) for name, value in pairs)


def _over(ours: Parameter, wanted: Parameter | None) -> Parameter:
    if wanted is None:
        return ours
    if ours.name.lower() not in LISTS:
        return Parameter(ours.name, wanted.value)
    return Parameter(ours.name, _union(ours.value, wanted.value))


def _union(ours: str, wanted: str) -> str:
    """Ours first; an item `key=…` of the site takes the place of ours, since Slurm reads the first it finds."""
    items = {_key(item): item for item in ours.split(",")}
    items |= {_key(item): item for item in wanted.strip('"').split(",") if item.strip()}
    text = ",".join(items.values())
    return f'"{text}"' if " " in text else text


def _key(item: str) -> str:
    return item.partition("=")[0].strip().lower()
