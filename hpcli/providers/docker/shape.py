"""What a cluster's containers are made like, and the command that makes one: pure."""

import csv
import hashlib
import io
from dataclasses import astuple, dataclass
from pathlib import Path

from hpcli.domain.blueprint import Place, Role
from hpcli.providers.docker.owner import BASE, NODE, ROLE, Owner
from hpcli.spec.model import Spec

KEEPER = "/run/hpcli/keeper"
RUN = "/run:mode=755,size=64m"
"""Empty after every start, as on a machine that booted; Docker's own default would let anybody write there."""


@dataclass(frozen=True, slots=True)
class Bind:
    """A folder of the Docker host that appears in every container."""

    source: str
    path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """What all containers have in common. `keeper` is the folder of the keeper's socket, for the controller alone.

    `home_volume`: /home is a volume of the cluster's own, since no mount says /home.
    """

    image: str
    authorized_key: str
    binds: tuple[Bind, ...] = ()
    memory: str = ""
    home_volume: bool = True
    keeper: str = ""

    @property
    def base(self) -> str:
        """The image, and a digest of what else cannot be changed without a new container: for `Place.base`."""
        rest = (*map(astuple, self.binds), self.memory, self.home_volume)
        return f"{self.image}+{hashlib.sha256(repr(rest).encode()).hexdigest()[:8]}"


def shape_of(spec: Spec, image: str, authorized_key: str, keeper: Path | None = None) -> Shape:
    """The shape that a spec asks for."""
    binds = tuple(
        Bind(mount.bind, mount.path, "ro" in mount.options.split(","))
        for mount in spec.mounts
        if mount.bind is not None
    )
    own_home = all(mount.path.rstrip("/") != "/home" for mount in spec.mounts)
    return Shape(image, authorized_key, binds, spec.docker.memory or "", own_home, str(keeper or ""))


def run_command(owner: Owner, shape: Shape, place: Place) -> tuple[str, ...]:
    """The words after `docker` that make and start the container of this place."""
    labels = (*owner.labels, f"{NODE}={place.name}", f"{ROLE}={place.role}", f"{BASE}={shape.base}")
    return (
        *("run", "--detach", "--name", owner.container(place.name), "--hostname", place.name),
        *("--network", owner.network, "--ip", place.address, "--network-alias", place.name),
        *("--restart", "unless-stopped", "--tmpfs", RUN),
        *(word for label in labels for word in ("--label", label)),
        *(("--memory", shape.memory) if shape.memory else ()),
        *(word for mount in _mounts(owner, shape, place) for word in ("--mount", mount)),
        *("--env", f"HPCLI_AUTHORIZED_KEY={shape.authorized_key}"),
        *("--pull", "never", shape.image, "machine"),
    )


def _mounts(owner: Owner, shape: Shape, place: Place) -> list[str]:
    mounts = [_bind(bind) for bind in shape.binds]
    if shape.home_volume:
        mounts.append(_row("type=volume", f"src={owner.home_volume}", "dst=/home"))
    if shape.keeper and place.role is Role.CONTROLLER:
        mounts.append(_bind(Bind(shape.keeper, KEEPER)))
    return mounts


def _bind(bind: Bind) -> str:
    return _row("type=bind", f"src={bind.source}", f"dst={bind.path}", *(("readonly",) if bind.read_only else ()))


def _row(*fields: str) -> str:
    """Docker reads the words of --mount as one row of CSV: a path may have a comma in it."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()
