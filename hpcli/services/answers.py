"""The controller's answers: anybody may read, acting takes an administrator."""

import pwd
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from hpcli.domain.journal import KINDS
from hpcli.domain.ledger import Repair, Step
from hpcli.domain.report import PROTOCOL
from hpcli.errors import HpcliError, Unsafe
from hpcli.ports import Claim, SlurmGateway
from hpcli.services.audit import Audit
from hpcli.services.desk import ReportDesk
from hpcli.services.observe import Journal
from hpcli.services.recovery import Recovery
from hpcli.version import __version__

OPERATORS = ("Operator", "Administrator")
MAX_ENTRIES = 500
MAX_REPAIRS = 200
"""A reply must stay below the limit of a message; the journal has all of them."""

Reply = dict[str, object]


@dataclass(slots=True)
class Answers:
    """Questions to the controller and who may put them. `own_uid` is SlurmUser's, `provider` the cluster's."""

    desk: ReportDesk
    journal: Journal
    recovery: Recovery
    gateway: SlurmGateway
    audit: Audit
    own_uid: int
    provider: str = ""

    async def answer(self, claim: Claim, message: Mapping[str, object]) -> Reply:
        """One reply to one question; an error is a reply too."""
        reading: dict[str, Callable[[Mapping[str, object]], object]] = {
            "status": self._status,
            "journal": self._journal,
        }
        acting: dict[str, Callable[[Mapping[str, object], str], object]] = {
            "reset": lambda _message, who: self.recovery.reset_breaker(who),
            "pause": lambda asked, who: self.recovery.pause(str(asked.get("reason") or "paused"), who),
            "resume": lambda _message, who: self.recovery.pause("", who),
        }
        what = str(message.get("what"))
        try:
            if what in reading:
                return {"ok": True, "result": reading[what](message)}
            if what in acting:
                await self._require_administrator(claim, what)
                return {"ok": True, "result": acting[what](message, _user(claim.uid))}
            raise HpcliError(f"question {what!r}", f"expected one of {', '.join([*reading, *acting])}")
        except HpcliError as error:
            return {
                "ok": False,
                "code": error.code,
                "subject": error.subject,
                "message": error.message,
                "hint": error.hint,
            }

    def awaiting_acceptance(self, node: str) -> str:
        """The repair that waits for this node's acceptance; "" when none does."""
        repair = self.journal.ledger.open.get(node)
        if repair is None or not repair.taken or repair.taken[-1].step != Step.ACCEPT:
            return ""
        return repair.id

    def _status(self, _message: Mapping[str, object]) -> object:
        ledger = self.journal.ledger
        return {
            "version": __version__,
            "protocol": PROTOCOL,
            "provider": self.provider,
            "mode": self.recovery.policy.effective,
            "agents": {node: asdict(sender) for node, sender in self.desk.senders.items()},
            "nodes": {node: asdict(report) for node, report in self.desk.latest.items()},
            "received_at": dict(self.desk.received_at),
            "last_entry": self.journal.last_entry,
            "breaker_open": ledger.breaker_open,
            "paused": ledger.paused,
            "repairs": [_row(repair) for repair in ledger.repairs[-MAX_REPAIRS:]],
        }

    def _journal(self, message: Mapping[str, object]) -> object:
        """At most 500 entries after `since`; the asker asks again for more. Unknown kinds are left out."""
        since = message.get("since")
        entries = self.journal.store.since(since if isinstance(since, int) else 0)
        return [entry for entry in entries if entry[2] in KINDS][:MAX_ENTRIES]

    async def _require_administrator(self, claim: Claim, what: str) -> None:
        if claim.uid in (0, self.own_uid):
            return
        level = await self.gateway.admin_level(_user(claim.uid))
        if level not in OPERATORS:
            self.audit.refuse(f"uid {claim.uid}", f"{what} by uid {claim.uid}")
            raise Unsafe(
                f"recovery {what}",
                f"found user {_user(claim.uid)}, expected root, SlurmUser or a Slurm operator",
                "ask an administrator of the cluster",
            )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _row(repair: Repair) -> dict[str, object]:
    return {
        "repair": repair.id,
        "node": repair.node,
        "cause": repair.cause,
        "message": repair.message,
        "opened_at": repair.opened_at,
        "steps": [taken.step for taken in repair.taken],
        "outcome": repair.outcome,
        "closed_at": repair.closed_at,
    }
