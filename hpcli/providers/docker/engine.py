"""Docker through its command line: works for root and for members of group docker."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpcli.errors import HpcliError, NotFound, TimedOut
from hpcli.ports import Transport
from hpcli.providers.docker.faults import ENGINE, fault, no_program

LIMIT = 120.0
"""Seconds for one command: an engine on a slow disk takes long to remove a container."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A Docker engine. `env` is added to docker's environment, as DOCKER_HOST."""

    transport: Transport
    env: Mapping[str, str] = field(default_factory=dict)
    program: str = "docker"

    async def call(self, *argv: str, timeout: float = LIMIT) -> str:
        """Run one docker command and return what it printed. Raises `HpcliError`, as `faults` knows them."""
        try:
            done = await self.transport.run([self.program, *argv], env=self.env, timeout=timeout)
        except NotFound:
            raise no_program() from None
        except TimedOut:
            raise TimedOut(
                ENGINE, f"found no end of docker {argv[0]} within {timeout:g} s", "is it well? see: docker info"
            ) from None
        if done.code:
            raise fault(argv, done.err)
        return done.out

    async def inspect(self, kind: str, names: Iterable[str]) -> list[dict[str, Any]]:
        """Everything the engine knows of these containers, networks, volumes or images; the missing are left out."""
        wanted = tuple(names)
        if not wanted:
            return []
        done = await self.transport.run(
            [self.program, kind, "inspect", "--format", "{{json .}}", *wanted], env=self.env, timeout=LIMIT
        )
        if done.code and not _only_missing(done.err):
            raise fault((f"{kind} inspect",), done.err)
        return [json.loads(line) for line in done.out.splitlines() if line.strip()]

    async def labelled(self, kind: str, labels: Iterable[str]) -> list[str]:
        """Ids of the containers and networks, or names of the volumes, that have all these labels."""
        every = ("--all",) if kind == "container" else ()
        chosen = [word for label in labels for word in ("--filter", f"label={label}")]
        return (await self.call(kind, "ls", *every, "--quiet", *chosen)).split()

    async def log(self, container: str) -> str:
        """The end of what a container said, "" when it has no log."""
        argv = [self.program, "logs", "--tail", "20", container]
        done = await self.transport.run(argv, env=self.env, timeout=LIMIT)
        return "" if done.code else done.out + done.err

    async def version(self) -> str:
        """The engine's version. Raises `HpcliError` when there is none, it does not answer, or refuses us."""
        return (await self.call("version", "--format", "{{.Server.Version}}", timeout=20.0)).strip()


def _only_missing(err: str) -> bool:
    """Whether everything that docker complains of is an object that does not exist."""
    lines = [line.lower() for line in err.splitlines() if line.strip()]
    return bool(lines) and all("no such" in line or line.endswith("not found") for line in lines)


def unreadable(what: str, error: Exception) -> HpcliError:
    """Make the error for an answer of the engine's that is not as expected."""
    return HpcliError(
        what, f"found an answer of the Docker engine that cannot be read: {error!r}", "see: docker version"
    )
