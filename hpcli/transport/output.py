"""What a program says while it runs: kept whole, and told line by line to whoever wants to follow."""

from collections.abc import Callable

Told = Callable[[str], None]


class Output:
    """Both streams of one program. `told` gets each line of standard output without its end."""

    def __init__(self, told: Told | None = None) -> None:
        self.out = bytearray()
        self.err = bytearray()
        self._told = told
        self._next = 0

    def feed_out(self, chunk: bytes) -> None:
        self.out += chunk
        if self._told:
            self._tell(self._told)

    def feed_err(self, chunk: bytes) -> None:
        self.err += chunk

    def finish(self) -> None:
        """Tell a last line that has no end."""
        if self._told and self._next < len(self.out):
            rest, self._next = bytes(self.out[self._next :]), len(self.out)
            self._told(as_text(rest))

    def _tell(self, told: Told) -> None:
        while (end := self.out.find(b"\n", self._next)) >= 0:
            line, self._next = bytes(self.out[self._next : end]), end + 1
            told(as_text(line))


def as_text(raw: bytes | bytearray) -> str:
    return raw.decode(errors="replace")
