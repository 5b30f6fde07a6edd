"""A cluster as its provider knows it, without asking Slurm or the controller anything."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Built:
    """A cluster that was brought up here. `alive` and `dead` name its daemons."""

    name: str
    provider: str
    slurm_version: str
    folder: str
    slurm_conf: str
    nodes: tuple[str, ...]
    alive: tuple[str, ...]
    dead: tuple[str, ...]

    @property
    def state(self) -> str:
        if not self.dead:
            return "up" if self.alive else "down"
        return "half dead" if self.alive else "dead"
