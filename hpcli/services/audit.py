"""What was refused, and to whom: into log and journal, bounded, so that a flood fills neither."""

import logging
from dataclasses import dataclass, field

from hpcli.domain.ledger import Kind
from hpcli.errors import HpcliError
from hpcli.ports import Clock
from hpcli.services.observe import Journal

log = logging.getLogger(__name__)

WINDOW = 10.0
BURST = 20
"""So many refusals of one source are written within WINDOW seconds, and one line that says that there are more."""

MAX_SOURCES = 64
OTHERS = "other sources"
MAX_TEXT = 300


@dataclass(slots=True)
class _Window:
    since: float
    count: int = 0


@dataclass(slots=True)
class Audit:
    """Writes refusals down. A source is a user (`uid 1001`) or, where nobody signed, an address without its port."""

    journal: Journal
    clock: Clock
    _windows: dict[str, _Window] = field(default_factory=dict)

    def refuse(self, source: str, why: str) -> None:
        """Write one refusal; a journal that cannot be written is logged, and nobody is let in."""
        count = self._count(source)
        if count <= BURST:
            self._write(source, why)
        elif count == BURST + 1:
            self._write(source, f"more from {source}: not written for up to {WINDOW:g} s")

    def _count(self, source: str) -> int:
        now = self.clock.now()
        self._windows = {name: w for name, w in self._windows.items() if 0 <= now - w.since < WINDOW}
        name = source if source in self._windows or len(self._windows) < MAX_SOURCES else OTHERS
        window = self._windows.setdefault(name, _Window(now))
        window.count += 1
        return window.count

    def _write(self, source: str, why: str) -> None:
        shown = _printable(why if len(why) <= MAX_TEXT else f"{why[:MAX_TEXT]}...")
        log.warning("refused (%s): %s", source, shown)
        try:
            self.journal.write(Kind.AUDIT, refused=shown, source=source)
        except HpcliError as error:
            log.error("%s", error)


def _printable(text: str) -> str:
    """A refused sender must not forge lines of the log."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
