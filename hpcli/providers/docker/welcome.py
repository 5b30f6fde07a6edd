"""Meeting containers that have started: their sshd answers, their host keys are written down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from hpcli.domain.blueprint import Place
from hpcli.errors import HpcliError
from hpcli.providers.docker import known_hosts, ready
from hpcli.providers.docker.answers import FoundContainer, containers_of
from hpcli.providers.docker.engine import Engine
from hpcli.providers.docker.known_hosts import HostKey, parse_key
from hpcli.providers.docker.owner import Owner
from hpcli.transport.fanout import fanout

AT_ONCE = 4
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
ENDED = frozenset({"exited", "dead", "restarting"})


@dataclass(frozen=True, slots=True)
class Welcome:
    """`limit` is how long a container may take until its sshd answers, in seconds."""

    engine: Engine
    owner: Owner
    limit: float

    async def greet(self, places: Sequence[Place]) -> None:
        """Wait until these answer, and put their host keys into the cluster's known_hosts."""
        if not places:
            return
        await self.wait({place.name: place.address for place in places})
        keys = await fanout({place.name: partial(self._key, place) for place in places}, AT_ONCE)
        known_hosts.update(self.owner.home, keys)

    async def wait(self, waiting: Mapping[str, str]) -> None:
        """Wait until sshd answers at these addresses. Raises `TimedOut`, or `HpcliError` for one that ended."""

        async def casualty() -> HpcliError | None:
            found = await containers_of(self.engine, self.owner)
            dead = next((one for one in found if one.name in waiting and one.state in ENDED), None)
            return await self._ended(dead) if dead else None

        async def late(name: str) -> HpcliError:
            words = await self._last_words(name)
            return ready.silent(self.owner.container(name), waiting[name], self.limit, words)

        await ready.wait_for_sshd(waiting, self.limit, casualty, late)

    def acquainted(self, place: Place) -> bool:
        """Whether its host key is on file."""
        start = f"{place.name},{place.address} "
        return any(line.startswith(start) for line in known_hosts.read(self.owner.home).splitlines())

    async def _key(self, place: Place) -> HostKey:
        text = await self.engine.call("exec", self.owner.container(place.name), "cat", HOST_KEY)
        return HostKey(place.name, place.address, parse_key(text, self.owner.container(place.name)))

    async def _ended(self, one: FoundContainer) -> HpcliError:
        words = await self._last_words(one.name)
        name = self.owner.container(one.name)
        return HpcliError(
            f"container {name}",
            f"found it {one.state}, expected it running; its last words: {words or 'none'}",
            f"see: docker logs {name}",
        )

    async def _last_words(self, name: str) -> str:
        lines = (await self.engine.log(self.owner.container(name))).splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
