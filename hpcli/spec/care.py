"""How a cluster is watched and put right. Times are in seconds."""

from typing import Literal

from pydantic import Field

from hpcli.domain.policy import Breaker, Budget, Policy
from hpcli.spec.hostlist import MAX_NODES
from hpcli.spec.section import Section
from hpcli.spec.values import CheckName, Grace, Interval, Scalar, Share, Timeout, Word

_POLICY = Policy()


class Health(Section):
    interval: Interval = Field(default=10.0, description="Time between samples of each check.", examples=["10s"])
    checks: dict[CheckName, dict[Word, Scalar]] = Field(
        default={},
        description="Parameters by check; enabled: false turns one off.",
        examples=[{"disk.free": {"critical": 95}}],
    )
    kernel_log: dict[str, dict[Word, Scalar]] = Field(
        default={}, description="Site overrides by Xid number or pattern id.", examples=[{"79": {"remedy": "reboot"}}]
    )


class BudgetSection(Section):
    nodes: int = Field(
        default=_POLICY.budget.nodes, ge=0, le=MAX_NODES, description="Nodes that may be under repair at once."
    )
    share: Share = Field(
        default=_POLICY.budget.share, description="Likewise as a share of the fleet; the larger counts."
    )


class BreakerSection(Section):
    nodes: int = Field(
        default=_POLICY.breaker.nodes, ge=0, le=MAX_NODES, description="More faulty nodes than this open the breaker."
    )
    share: Share = Field(
        default=_POLICY.breaker.share, description="Likewise as a share of the fleet; the larger counts."
    )
    window: Timeout = Field(
        default=_POLICY.breaker.window, description="Time over which faulty nodes are counted.", examples=["10m"]
    )


class Recovery(Section):
    enabled: bool = Field(default=_POLICY.enabled, description="false is mode: off.")
    mode: Literal["act", "observe", "off"] = Field(
        default="act",
        description="act; observe: everything is decided and journaled, nothing is done; off: nothing is decided.",
    )
    evict_grace: Grace = Field(
        default=_POLICY.evict_grace, description="From requeue to SIGKILL, and from there to down."
    )
    start_interval: Grace = Field(default=_POLICY.start_interval, description="Between the starts of two repairs.")
    reboot_interval: Grace = Field(
        default=_POLICY.reboot_interval, description="A node rebooted less than this ago is replaced instead."
    )
    replace_interval: Grace = Field(
        default=_POLICY.replace_interval, description="A node replaced less than this ago is parked instead."
    )
    reboot_timeout: Timeout = Field(default=_POLICY.reboot_timeout, description="Longest reboot.")
    replace_timeout: Timeout = Field(default=_POLICY.replace_timeout, description="Longest replacement.")
    acceptance_timeout: Timeout = Field(default=_POLICY.acceptance_timeout, description="Longest acceptance check.")
    min_schedulable: Share = Field(
        default=_POLICY.min_schedulable, description="Never drain below this share of nodes."
    )
    report_timeout: Timeout = Field(
        default=_POLICY.report_timeout, description="An agent silent for longer says nothing about its node."
    )
    budget: BudgetSection = Field(default=BudgetSection(), description="How many nodes may be under repair at once.")
    breaker: BreakerSection = Field(default=BreakerSection(), description="When recovery stops and asks a person.")

    def policy(self) -> Policy:
        """Give it as the domain knows it."""
        fields = {key: getattr(self, key) for key in Recovery.model_fields}
        fields["budget"] = Budget(**self.budget.model_dump())
        fields["breaker"] = Breaker(**self.breaker.model_dump())
        return Policy(**fields)
