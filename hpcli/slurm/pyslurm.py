"""Slurm's queries through pyslurm, in this process; everything else through the command-line gateway it wraps.

Whatever pyslurm cannot answer exactly as that gateway would goes there too, errors included. pyslurm is GPL-2.0 and
never comes with hpcli: docs/pyslurm.md.
"""

import importlib
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

from hpcli.domain.job import Job, JobFiles
from hpcli.domain.node import Node
from hpcli.ports import SlurmGateway
from hpcli.slurm.py_jobs import read_jobs
from hpcli.slurm.py_library import CannotSay, Library
from hpcli.slurm.py_nodes import gres_of, read_nodes
from hpcli.slurm.py_shapes import Pyslurm
from hpcli.spec.hostlist import expand, fold

T = TypeVar("T")

log = logging.getLogger(__name__)

_COMMA = re.compile(r",(?![^\[]*\])")


def import_pyslurm() -> Pyslurm:
    """Import it, and take back what it changes for the shared libraries that others load later."""
    flags = sys.getdlopenflags()
    try:
        return cast(Pyslurm, importlib.import_module("pyslurm"))
    finally:
        sys.setdlopenflags(flags)


LIBRARY = Library(import_pyslurm)
"""A process has one libslurm, however often it is asked for."""


class PyslurmGateway:
    """A SlurmGateway that puts queries to an open `library` and hands the rest, and what it cannot say, to `cli`."""

    def __init__(
        self,
        cli: SlurmGateway,
        library: Library,
        *,
        now: Callable[[], float] = time.time,
        told: Callable[[str], None] = log.debug,
    ) -> None:
        self._cli = cli
        self._library = library
        self._now = now
        self._told = told

    async def nodes(self, hostlist: str = "") -> tuple[Node, ...]:
        """Raises `NotFound` when one of the nodes does not exist."""
        try:
            names = _names(hostlist) if hostlist else ()
            found = await self._library.ask(_nodes)
            return _chosen(found, names) if names else found
        except (CannotSay, LookupError, ValueError) as error:
            self._told(f"nodes {hostlist}: asking scontrol: {error}")
        return await self._cli.nodes(hostlist)

    async def jobs(self) -> tuple[Job, ...]:
        """Jobs that slurmctld still holds, ended ones for MinJobAge included, array tasks one by one."""
        try:
            return await self._library.ask(lambda pyslurm: read_jobs(pyslurm.Jobs.load().values(), self._now()))
        except CannotSay as error:
            self._told(f"jobs: asking squeue: {error}")
        return await self._cli.jobs()

    async def partitions(self) -> tuple[str, ...]:
        try:
            return await self._library.ask(lambda pyslurm: tuple(pyslurm.Partitions.load().keys()))
        except CannotSay as error:
            self._told(f"partitions: asking sinfo: {error}")
        return await self._cli.partitions()

    async def version(self) -> tuple[int, int]:
        """Year and month of the Slurm release, which are pyslurm's own first two numbers."""
        try:
            return series(await self._library.ask(lambda pyslurm: pyslurm.__version__))
        except (CannotSay, ValueError) as error:
            self._told(f"version: asking scontrol: {error}")
        return await self._cli.version()

    async def job_files(self, job_id: str) -> tuple[JobFiles, ...]:
        return await self._cli.job_files(job_id)

    async def admin_level(self, user: str) -> str:
        return await self._cli.admin_level(user)

    async def submit(
        self,
        args: Sequence[str],
        *,
        script: str = "",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        return await self._cli.submit(args, script=script, cwd=cwd, env=env)

    async def cancel(self, job_ids: Sequence[str]) -> None:
        await self._cli.cancel(job_ids)

    async def requeue(self, job_ids: Sequence[str]) -> None:
        await self._cli.requeue(job_ids)

    async def release(self, job_ids: Sequence[str]) -> None:
        await self._cli.release(job_ids)

    async def notify(self, job_id: str, message: str) -> None:
        await self._cli.notify(job_id, message)

    async def update_nodes(self, hostlist: str, state: str, reason: str = "") -> None:
        await self._cli.update_nodes(hostlist, state, reason)

    async def reboot(self, hostlist: str) -> None:
        await self._cli.reboot(hostlist)


def series(version: str) -> tuple[int, int]:
    """Give (24, 11) for "24.11.0". Raises ValueError."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if not found:
        raise ValueError(f"found version {version!r}, expected one such as 24.11.0")
    return int(found[1]), int(found[2])


def _nodes(pyslurm: Pyslurm) -> tuple[Node, ...]:
    return read_nodes(pyslurm.Nodes.load().values(), lambda: gres_of(pyslurm.node().get()))


def _names(hostlist: str) -> tuple[str, ...]:
    """Expand a hostlist in its own order. Raises ValueError for one that scontrol may order in another way."""
    parts = _COMMA.split(hostlist)
    names = tuple(name for part in parts for name in expand(part))
    if [fold(expand(part)) for part in parts] != parts or len(set(names)) < len(names):
        raise ValueError("found a hostlist that is not in its shortest form")
    return names


def _chosen(nodes: Sequence[Node], names: Sequence[str]) -> tuple[Node, ...]:
    """Raises LookupError when one is missing: how Slurm says so is the command line's to tell."""
    by_name = {node.name: node for node in nodes}
    return tuple(by_name[name] for name in names)
