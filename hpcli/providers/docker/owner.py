"""Whose it is: names and labels of one cluster's containers, network and volumes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcli.errors import HpcliError, Unsafe

CLUSTER, HOME, NODE, ROLE, BASE = (f"hpcli.{name}" for name in ("cluster", "home", "node", "role", "base"))


@dataclass(frozen=True, slots=True)
class Owner:
    """A cluster and the folder of its state.

    Two users of one engine may both have a cluster of that name: the folder tells them apart.
    """

    cluster: str
    home: Path

    @property
    def labels(self) -> tuple[str, ...]:
        digest = hashlib.sha256(str(self.home.absolute()).encode()).hexdigest()[:16]
        return f"{CLUSTER}={self.cluster}", f"{HOME}={digest}"

    @property
    def network(self) -> str:
        return f"hpcli-{self.cluster}"

    @property
    def home_volume(self) -> str:
        return f"hpcli-{self.cluster}-home"

    def container(self, node: str) -> str:
        return f"hpcli-{self.cluster}-{node}"

    def require(self, kind: str, name: str, labels: Mapping[str, str] | None) -> None:
        """Raises `Unsafe` unless these labels are ours."""
        if not self.owns(labels):
            raise self.stranger(kind, name)

    def owns(self, labels: Mapping[str, str] | None) -> bool:
        return all(f"{key}={(labels or {}).get(key)}" in self.labels for key in (CLUSTER, HOME))

    def stranger(self, kind: str, name: str) -> HpcliError:
        """Make the error for an object of our name that is somebody else's."""
        return Unsafe(
            f"{kind} {name}",
            "found one of that name that is not this cluster's, expected none",
            f"if nobody needs it: docker {kind} rm {name}; else name the cluster otherwise",
        )
