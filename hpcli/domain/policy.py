"""What recovery may do, and how fast. Times are in seconds."""

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """What follows from a decision: it is carried out, only written down, or not even made."""

    ACT = "act"
    OBSERVE = "observe"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Budget:
    """How many nodes may be under repair at once: the larger of `nodes` and `share` of the fleet."""

    nodes: int = 2
    share: float = 0.10

    def limit(self, fleet: int) -> int:
        return max(self.nodes, int(self.share * fleet))


@dataclass(frozen=True, slots=True)
class Breaker:
    """Opens when more nodes than this turn faulty within `window`; a person resets it."""

    nodes: int = 2
    share: float = 0.10
    window: float = 600.0

    def limit(self, fleet: int) -> int:
        return max(self.nodes, int(self.share * fleet))


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of recovery; every default is a safe one.

    `enabled` false is `mode` off, whatever `mode` says. A mode that is none of the three acts on nothing.
    `evict_grace`: from requeue to SIGKILL of ranks that ignore SIGTERM, and from there to `down`.
    `start_interval`: between the starts of two repairs in the fleet.
    `reboot_interval`: a node that we rebooted less than this ago is not rebooted again but replaced.
    `replace_interval`: likewise; a node replaced less than this ago is parked.
    `reboot_timeout`, `replace_timeout`, `acceptance_timeout`: when the next rung is taken.
    `min_schedulable`: never drain below this share of schedulable nodes.
    `report_timeout`: an agent silent for longer says nothing about its node.
    """

    enabled: bool = True
    mode: str = Mode.ACT
    evict_grace: float = 2.0
    start_interval: float = 5.0
    reboot_interval: float = 1800.0
    replace_interval: float = 1800.0
    reboot_timeout: float = 900.0
    replace_timeout: float = 1800.0
    acceptance_timeout: float = 300.0
    min_schedulable: float = 0.25
    report_timeout: float = 60.0
    budget: Budget = Budget()
    breaker: Breaker = Breaker()

    @property
    def effective(self) -> Mode:
        known = self.enabled and self.mode in (Mode.ACT, Mode.OBSERVE)
        return Mode(self.mode) if known else Mode.OFF

    @property
    def acts(self) -> bool:
        return self.effective is Mode.ACT

    @property
    def observes(self) -> bool:
        """Everything is decided and written down, and nothing is done."""
        return self.effective is Mode.OBSERVE

    @property
    def longest_repair(self) -> float:
        """Seconds that the boots and checks of one repair may take at most."""
        return self.reboot_timeout + self.replace_timeout + 2 * self.acceptance_timeout
