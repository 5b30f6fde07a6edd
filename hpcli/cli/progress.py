"""Where long steps say what they are doing: one moving line on a terminal, plain lines elsewhere."""

import sys
import time
from typing import IO

from hpcli.cli.options import Options

PLAIN_PAUSE = 1.0
CLEAR = "\r\x1b[K"


class StderrProgress:
    """Implements `ports.Progress`; silent with -q, every step on a line of its own with -v."""

    def __init__(self, options: Options, stderr: IO[str] | None = None) -> None:
        self._stderr = stderr or sys.stderr
        self._quiet = options.quiet
        self._moving = self._stderr.isatty() and not options.verbose
        self._pause = 0.0 if options.verbose else PLAIN_PAUSE
        self._last = ""
        self._last_at = 0.0

    def step(self, text: str) -> None:
        """Say it unless it was just said; elsewhere than on a terminal at most once a second."""
        now = time.monotonic()
        if self._quiet or text == self._last or (not self._moving and now - self._last_at < self._pause):
            return
        self._stderr.write(f"{CLEAR}{text}" if self._moving else f"{text}\n")
        self._stderr.flush()
        self._last, self._last_at = text, now

    def done(self) -> None:
        """Take the moving line away."""
        if self._moving and self._last and not self._quiet:
            self._stderr.write(CLEAR)
            self._stderr.flush()
        self._last = ""
