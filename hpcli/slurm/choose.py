"""Which gateway speaks to Slurm: pyslurm's where it is installed and fits the cluster, else the command line's."""

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcli.errors import HpcliError, UsageFault
from hpcli.ports import SlurmGateway

if TYPE_CHECKING:
    from hpcli.slurm.py_library import Library

log = logging.getLogger(__name__)

VARIABLE = "HPCLI_GATEWAY"
CLI = "cli"
PYSLURM = "pyslurm"

_SERIES = frozenset(
    {(20, 11), (21, 8), (22, 5), (23, 2), (23, 11), (24, 5), (24, 11), (25, 5), (25, 11)},
)
"""Slurm releases that pyslurm has a series for, as of November 2026."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Which gateway is in use ("cli" or "pyslurm") and why; `tag`: the pyslurm that fits this Slurm, "" for none."""

    gateway: str
    why: str
    tag: str


def fitting_tag(slurm: tuple[int, int]) -> str:
    """Give pyslurm's series for a Slurm release: "22.5.x" for (22, 5), "" where there is none."""
    return f"{slurm[0]}.{slurm[1]}.x" if slurm in _SERIES else ""


def installed_version() -> str:
    """Give the version of the pyslurm that an import would find, "" for none; nothing is imported."""
    if importlib.util.find_spec(PYSLURM) is None:
        return ""
    from importlib import metadata  # 10 ms that those without pyslurm need not spend

    try:
        return metadata.version(PYSLURM)
    except metadata.PackageNotFoundError:
        return ""


async def choose(
    cli: SlurmGateway,
    slurm_version: tuple[int, int] | None = None,
    conf: str = "",
    *,
    environ: Mapping[str, str] = os.environ,
    installed: Callable[[], str] = installed_version,
    library: "Library | None" = None,
) -> tuple[SlurmGateway, Reason]:
    """Choose for the cluster of `conf` ("": the one of SLURM_CONF, else of Slurm's own slurm.conf).

    Slurm is asked, for its version too if None is given, only where a pyslurm is installed: others lose no time.
    HPCLI_GATEWAY=cli or pyslurm forces one. Raises `UsageFault` for another word there, and for a forced pyslurm that
    cannot be used.
    """
    forced = environ.get(VARIABLE, "")
    if forced not in ("", CLI, PYSLURM):
        raise UsageFault(VARIABLE, f"found {forced!r}, expected {CLI} or {PYSLURM}")
    if forced == CLI:
        return cli, Reason(CLI, f"{VARIABLE}={CLI}", fitting_tag(slurm_version) if slurm_version else "")
    found = installed()
    try:
        return await _opened(cli, found, slurm_version, conf or environ.get("SLURM_CONF", ""), library)
    except _Unfit as unfit:
        if forced:
            raise UsageFault(f"{VARIABLE}={PYSLURM}", str(unfit), "see docs/pyslurm.md, or unset it") from unfit
        log.debug("Slurm through its command line: %s", unfit)
        return cli, Reason(CLI, str(unfit), unfit.tag)


class _Unfit(Exception):
    def __init__(self, why: str, tag: str) -> None:
        super().__init__(why)
        self.tag = tag


async def _opened(
    cli: SlurmGateway, found: str, slurm_version: tuple[int, int] | None, conf: str, library: "Library | None"
) -> tuple[SlurmGateway, Reason]:
    """Load libslurm, once it is sure that this cannot end our process. Raises `_Unfit`."""
    if not found:
        raise _Unfit("pyslurm is not installed", fitting_tag(slurm_version) if slurm_version else "")
    # Only now: 10 ms that a start without pyslurm need not take.
    from hpcli.slurm.py_library import CannotSay
    from hpcli.slurm.pyslurm import LIBRARY, PyslurmGateway, series

    used, tag = library or LIBRARY, ""
    try:
        slurm = slurm_version or await cli.version()
        tag = fitting_tag(slurm)
        if series(found) != slurm:
            raise _Unfit(f"found pyslurm {found}, expected {tag or _none_for(slurm)}", tag)
        await cli.partitions()
        used.open(conf)
    except (CannotSay, HpcliError, ValueError) as error:
        raise _Unfit(str(error), tag) from error
    return PyslurmGateway(cli, used), Reason(PYSLURM, f"pyslurm {found} fits Slurm", tag)


def _none_for(slurm: tuple[int, int]) -> str:
    return f"one for Slurm {slurm[0]}.{slurm[1]:02}, which does not exist yet"
