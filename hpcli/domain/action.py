"""What recovery decides to do: frozen values, each with its reason, and what they mean in the journal."""

from dataclasses import dataclass

from hpcli.domain.check import Incident
from hpcli.domain.job import Job
from hpcli.domain.ledger import Generation, Milestone, Outcome, Step


@dataclass(frozen=True, slots=True)
class Target:
    """One node of a repair, with the machine's generation and its jobs when the decision was made."""

    node: str
    generation: Generation
    jobs: tuple[Job, ...] = ()


@dataclass(frozen=True, slots=True)
class Open:
    """Begin a repair of these nodes, which show the same fault; `observed`: one of which no step is taken."""

    repair: str
    targets: tuple[Target, ...]
    incident: Incident
    observed: bool = False


@dataclass(frozen=True, slots=True)
class OnNodes:
    """Take a step on nodes: drain, down, reboot, replace, accept or return."""

    step: Step
    repair: str
    targets: tuple[Target, ...]
    reason: str

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(target.node for target in self.targets)


@dataclass(frozen=True, slots=True)
class OnJob:
    """Take a step on a job of a faulty node: requeue, cancel, kill or release."""

    step: Step
    repair: str
    node: str
    job: Job
    reason: str


@dataclass(frozen=True, slots=True)
class Reach:
    """Write down that a repair has brought something about."""

    repair: str
    node: str
    milestone: Milestone
    job: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Write down what would be done about a node whose repair is only observed, in words and in order.

    `evict`: its jobs would not be left to finish.
    """

    repair: str
    node: str
    steps: tuple[str, ...]
    evict: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Close:
    """End a repair."""

    repair: str
    node: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class OpenBreaker:
    """Stop beginning repairs until a person has looked."""

    reason: str


Note = Open | Reach | Plan | OpenBreaker
"""What is written down and touches nothing."""

Action = Note | OnNodes | OnJob | Close
