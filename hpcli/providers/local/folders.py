"""Making a local cluster's folders, readable by nobody else, with room enough on the disk."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpcli.errors import HpcliError
from hpcli.providers.local.layout import Layout

BASE_MIB = 64
PER_NODE_MIB = 1
ACCOUNTING_MIB = 256


def make_folders(layout: Layout, nodes: int, accounting: bool) -> None:
    """Make them, 0700 and ours. Raises `HpcliError` when the disk is full or somebody else is in the way."""
    try:
        layout.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        check_room(layout.home, needed_mib(nodes, accounting))
        layout.runtime.parent.mkdir(mode=0o700, exist_ok=True)
        require_private(layout.runtime.parent)
        layout.runtime.mkdir(mode=0o700, exist_ok=True)
        folders = (layout.etc, layout.log, layout.state, layout.home / "nodes", layout.pids, layout.spool)
        for folder in folders:
            folder.mkdir(mode=0o700, exist_ok=True)
        layout.home.chmod(0o700)
    except OSError as error:
        raise HpcliError(
            str(error.filename or layout.home), error.strerror or str(error), "set XDG_STATE_HOME to another folder"
        ) from None


def make_home(clusters: Path) -> None:
    """Make the folder of all clusters. Raises `HpcliError` when that cannot be done."""
    try:
        clusters.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HpcliError(
            str(error.filename or clusters), error.strerror or str(error), "set XDG_STATE_HOME to another folder"
        ) from None


def refuse_strangers(layout: Layout) -> None:
    """Look before anything is touched: under /tmp anybody may have been first. Raises `HpcliError`."""
    if os.path.lexists(layout.runtime.parent):
        require_private(layout.runtime.parent)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Raises `HpcliError` for what the disk refuses inside: it is full, read-only, or not ours."""
    try:
        yield
    except OSError as error:
        raise HpcliError(
            str(error.filename or folder), error.strerror or str(error), "free some space, or set XDG_STATE_HOME"
        ) from None


def needed_mib(nodes: int, accounting: bool) -> int:
    return BASE_MIB + PER_NODE_MIB * nodes + (ACCOUNTING_MIB if accounting else 0)


def check_room(folder: Path, needed: int) -> None:
    """Raises `HpcliError` when the file system of `folder` has less than `needed` MiB free."""
    free = shutil.disk_usage(folder).free >> 20
    if free < needed:
        raise HpcliError(
            str(folder),
            f"found {free} MiB free, expected at least {needed} MiB",
            "free some space, or set XDG_STATE_HOME to a folder on another disk",
        )


def require_private(folder: Path) -> None:
    """Raises `HpcliError` unless the folder is ours alone."""
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or folder.is_symlink():
        raise HpcliError(
            str(folder),
            f"found it owned by uid {status.st_uid} with mode {status.st_mode & 0o777:04o}, expected ours with 0700",
            "remove it, or set HPCLI_RUNTIME_DIR to a short folder of your own",
        )
