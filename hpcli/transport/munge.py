"""MUNGE credentials through its own command-line tools."""

from dataclasses import dataclass

from hpcli.errors import Unreachable
from hpcli.ports import Claim, Transport

REFUSALS = {15: "expired", 16: "from the future", 17: "replayed", 18: "not for this user"}
"""Why munged does not vouch for a credential that it can read: munge(3), EMUNGE_CRED_*, as unmunge's exit code."""


@dataclass(frozen=True, slots=True)
class Munge:
    """Encode and decode ASCII payloads with the munged behind `socket` ("" is the machine's own)."""

    transport: Transport
    munge: str = "munge"
    unmunge: str = "unmunge"
    socket: str = ""
    timeout: float = 5.0

    async def encode(self, payload: bytes) -> bytes:
        """Raises `Unreachable` when munged does not answer."""
        argv = [self.munge, *self._socket()]
        answer = await self.transport.run(argv, stdin=payload.decode("ascii"), timeout=self.timeout)
        if answer.code:
            raise Unreachable("munge", answer.err.strip(), "is munged running?")
        return answer.out.strip().encode()

    async def decode(self, credential: bytes) -> Claim:
        """Raises `Unreachable` for a credential that is forged, expired, replayed or for others."""
        text = credential.decode("ascii", errors="replace")
        answer = await self.transport.run([self.unmunge, "-N", *self._socket()], stdin=text, timeout=self.timeout)
        head, _, body = answer.out.partition("\n\n")
        facts = dict(line.split(":", 1) for line in head.splitlines() if ":" in line)
        if answer.code:
            # The rest of what unmunge prints was chosen by whoever made the credential.
            why = REFUSALS.get(answer.code) or answer.err.strip() or f"unmunge ended with {answer.code}"
            raise Unreachable("credential", why, "are the clocks and keys the same?")
        return Claim(body.encode(), int(facts["UID"]), int(facts["GID"]), facts["ENCODE_HOST"].strip())

    def _socket(self) -> list[str]:
        return ["-S", self.socket] if self.socket else []
