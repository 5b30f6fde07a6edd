"""What a local cluster remembers of its applies: the last good blueprint, one under way, copies of the state."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcli.domain.blueprint import Blueprint, ConfigFile, from_dict, to_dict, with_goal
from hpcli.errors import HpcliError
from hpcli.providers.local.layout import Layout
from hpcli.providers.local.own_files import write_files

COPIES = 3
LEASE = "hpcli-controller.lease"
"""The controller's, which runs on while slurmctld is stopped."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Files beside a cluster's record, 0600: a blueprint holds every file's text."""

    layout: Layout

    @property
    def applied_file(self) -> Path:
        return self.layout.home / "applied.json"

    @property
    def pending_file(self) -> Path:
        return self.layout.home / "pending.json"

    @property
    def states(self) -> Path:
        return self.layout.home / "state.kept"

    def applied(self) -> Blueprint | None:
        """Raises `HpcliError` when the file is damaged."""
        return next(iter(self._read(self.applied_file)), None)

    def pending(self) -> tuple[Blueprint, ...]:
        """Goals that were begun since, the oldest first. Raises `HpcliError` when the file is damaged."""
        return self._read(self.pending_file)

    def write_applied(self, blueprint: Blueprint) -> None:
        self._write(self.applied_file, (blueprint,))

    def write_pending(self, goal: Blueprint) -> None:
        self._write(self.pending_file, with_goal(self.pending(), goal))

    def _read(self, path: Path) -> tuple[Blueprint, ...]:
        try:
            return tuple(map(from_dict, json.loads(path.read_text())))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise HpcliError(
                str(path), f"damaged: {error!r}", "remove it: the files as found then count as applied"
            ) from None

    def _write(self, path: Path, blueprints: Sequence[Blueprint]) -> None:
        write_files([ConfigFile(str(path), json.dumps([to_dict(one) for one in blueprints]), 0o600)])

    def begin_anew(self, blueprint: Blueprint) -> None:
        """All of the cluster was just made from this one; an apply that did not end is over."""
        self.write_applied(blueprint)
        self.pending_file.unlink(missing_ok=True)
        names = {place.name for place in blueprint.places}
        for folder in self.layout.node("").glob("*"):
            if folder.name not in names:
                shutil.rmtree(folder, ignore_errors=True)

    def copy_state(self) -> str:
        """Copy StateSaveLocation; the newest 3 copies are kept."""
        target = self.states / f"{time.time_ns()}"
        target.parent.mkdir(mode=0o700, exist_ok=True)
        shutil.copytree(self.layout.state, target)
        for old in sorted(self.states.iterdir())[:-COPIES]:
            shutil.rmtree(old, ignore_errors=True)
        return str(target)

    def put_state_back(self, copy: str) -> None:
        """Raises `HpcliError` for a copy that is not there."""
        if not Path(copy).is_dir():
            raise HpcliError(copy, "found no such copy, expected one of slurmctld's state", f"see {self.states}")
        for entry in self.layout.state.iterdir():
            if entry.name != LEASE:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.copytree(copy, self.layout.state, dirs_exist_ok=True, ignore=shutil.ignore_patterns(LEASE))
