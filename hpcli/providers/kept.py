"""Rebooting and replacing machines through the keeper, who holds the keys that the controller must not have.

One request on a connection, one line of JSON: {"step": "reboot" or "replace", "node": NAME}. One line back when it is
done: {"ok": true}, or {"ok": false, "error": {"code", "subject", "message", "hint"}}.
"""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Protocol

from hpcli.errors import TimedOut, Unreachable, error_of
from hpcli.ports import Capabilities, Machine

KEEPER = "keeper"
REBOOT, REPLACE = "reboot", "replace"
MAX_LINE = 1 << 20
LIMIT = 7200.0
"""Seconds. The keeper has limits of its own; this one is for a keeper that is frozen."""
CONNECT = 10.0
PATIENCE = 30.0
"""Seconds for a keeper that is being restarted to be there again: an apply does that, and so does a reboot."""
RETRY = 0.5
MAX_NODES = 65_000
START_IT = "start it: hpcli cluster up on docker, systemctl start hpcli-keeper on hosts"
"""In the message too: it becomes the reason that a parked node shows."""
IS_IT_THERE = "start it: hpcli cluster up (docker), systemctl start hpcli-keeper on the controller's machine (hosts)"


class Power(Protocol):
    """Who can switch a cluster's machines off and on, and put others in their place."""

    async def reboot(self, node: str) -> None:
        """Done when the machine is up again, healthy or not. Safe to repeat. Raises `HpcliError`."""
        ...

    async def replace(self, node: str) -> None:
        """Done when another machine serves under the node's name. Safe to repeat. Raises `HpcliError`."""
        ...


@dataclass(frozen=True, slots=True)
class KeptProvider:
    """Machines that the keeper at `socket` looks after. Implements `ports.Provider`."""

    socket: str
    can_replace: bool = True
    limit: float = LIMIT
    patience: float = PATIENCE

    def capabilities(self) -> Capabilities:
        return Capabilities(reboot=True, replace=self.can_replace, accounting=True, max_nodes=MAX_NODES)

    def machine(self, node: str) -> Machine:
        """Which boot of which machine it is, its agent says with every report; nothing is known of it here."""
        return Machine(node, "", "")

    async def reboot(self, node: str) -> None:
        """Raises `Unreachable` without a keeper, or the error that the keeper met with."""
        await self._ask(REBOOT, node)

    async def replace(self, node: str) -> None:
        """As `reboot`."""
        await self._ask(REPLACE, node)

    async def _ask(self, step: str, node: str) -> None:
        try:
            async with asyncio.timeout(self.limit):
                line = await self._exchange(json.dumps({"step": step, "node": node}))
        except TimeoutError:
            raise TimedOut(
                f"node {node}", f"found no end of its {step} within {self.limit:g} s", "see the keeper's log"
            ) from None
        answer = _parse(line, step, node)
        if not answer.get("ok"):
            error = answer.get("error")
            raise error_of(error if isinstance(error, dict) else {"subject": KEEPER, "message": "refused, no word why"})

    async def _exchange(self, request: str) -> bytes:
        reader, writer = await self._connect()
        try:
            writer.write(f"{request}\n".encode())
            return await reader.readline()
        except (OSError, ValueError):
            return b""
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        deadline = time.monotonic() + self.patience
        while True:
            try:
                async with asyncio.timeout(CONNECT):
                    return await asyncio.open_unix_connection(self.socket, limit=MAX_LINE)
            except (OSError, TimeoutError) as error:
                if not isinstance(error, _AWAY) or time.monotonic() > deadline:
                    why = getattr(error, "strerror", None) or "no answer"
                    found = f"found none that answers at {self.socket}: {why}; {START_IT}"
                    raise Unreachable(KEEPER, found, IS_IT_THERE) from None
            await asyncio.sleep(RETRY)


_AWAY = (FileNotFoundError, ConnectionRefusedError)


def _parse(line: bytes, step: str, node: str) -> dict[str, object]:
    """What came before the connection closed. Raises `Unreachable` for half an answer or none."""
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Unreachable(
            KEEPER, f"it ended before the {step} of {node} did, which may be half done", "see the keeper's log"
        )
    return answer
