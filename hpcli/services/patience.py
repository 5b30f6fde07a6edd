"""Going on asking while nobody answers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from hpcli.errors import TimedOut, Unreachable
from hpcli.ports import Clock

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 10.0

T = TypeVar("T")


@dataclass(slots=True)
class Patience:
    """Asks again and again, ever more slowly, without an end: what is followed goes on without us.

    `note` is told once when answers stop, and again when another reason is given; `still` says what goes on.
    """

    clock: Clock
    note: Callable[[str], None]
    still: str
    _failures: int = 0
    _said: str = ""

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T | None:
        """The answer; None when there is none now, after a pause that grows."""
        try:
            answer = await question()
        except (Unreachable, TimedOut) as error:
            self._tell(f"{error.subject}: {error.message}; {self.still}")
            await self.clock.sleep(min(FIRST_PAUSE * 2**self._failures, LONGEST_PAUSE))
            # 2**6 quarters of a second are beyond the longest pause.
            self._failures = min(self._failures + 1, 6)
            return None
        self._failures, self._said = 0, ""
        return answer

    def _tell(self, text: str) -> None:
        if text != self._said:
            self.note(text)
        self._said = text
