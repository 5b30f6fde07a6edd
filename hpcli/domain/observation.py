"""Everything that one decision of recovery is made from, read at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass

from hpcli.domain.job import Job
from hpcli.domain.ledger import Eviction, Generation, Ledger, Repair, Step
from hpcli.domain.node import Node
from hpcli.domain.report import NodeReport

SLURMS_OWN_DRAINS = (
    "Not responding",
    "Prolog error",
    "Epilog error",
    "Kill task failed",
    "Node unexpectedly rebooted",
    "batch job complete failure",
)


@dataclass(frozen=True, slots=True)
class Observation:
    """Slurm, the agents' newest reports and the ledger at `now` (seconds since the epoch).

    `reports` holds fresh ones only. `jobs` goes by label, since an array's waiting tasks share
    one number; `jobs_on` maps a node to the jobs on it. `in_flight` names the
    steps that this controller is taking at this very moment.
    """

    now: float
    nodes: Mapping[str, Node]
    jobs: Mapping[str, Job]
    jobs_on: Mapping[str, tuple[Job, ...]]
    reports: Mapping[str, NodeReport]
    ledger: Ledger
    in_flight: frozenset[tuple[str, Step]] = frozenset()
    can_reboot: bool = True
    can_replace: bool = True

    @property
    def blind(self) -> bool:
        """More than half of the agents are silent: that says more of us than of them."""
        return 2 * len(self.reports) < len(self.nodes)

    def generation(self, node: str) -> Generation:
        report = self.reports.get(node)
        return Generation(report.boot_id, report.instance_id) if report else Generation()

    def evicted(self, job: Job) -> Eviction | None:
        """The eviction that took this very run of the job off its nodes, whichever repair did it."""
        found = (repair.eviction(job.label) for repair in self.ledger.repairs)
        return next((e for e in found if e and e.restarts == job.restarts and not e.running_again), None)


def owned_by_hpcli(node: Node, repair: Repair) -> bool:
    return node.reason.startswith(repair.reason)


def owned_by_slurm(node: Node) -> bool:
    """Slurm itself drained or downed the node, no person did."""
    return node.reason.startswith(SLURMS_OWN_DRAINS)
