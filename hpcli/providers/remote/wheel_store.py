"""Wheels for machines that get their Python packages from here: downloaded once for each kind of machine."""

import asyncio
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpcli.providers.remote.facts import Facts
from hpcli.providers.remote.release import Release, pack_folder
from hpcli.providers.remote.wheels import Downloads, Target


@dataclass(slots=True)
class WheelStore:
    """Keeps what it has downloaded in `folder`; `needs` are hpcli's requirements."""

    downloads: Downloads
    needs: Sequence[str]
    folder: Path
    _packed: dict[Target, Release] = field(default_factory=dict)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def release(self, facts: Facts) -> Release:
        """An archive of wheels/ for that machine. Raises `Unreachable` without an index, `HpcliError` for no wheel."""
        target = Target(".".join(facts.python.split(".")[:2]), facts.arch)
        async with self._one_at_a_time:
            if target not in self._packed:
                kept = self._place(target)
                if not kept.exists():
                    await self._download(target, kept)
                self._packed[target] = pack_folder(kept)
        return self._packed[target]

    def _place(self, target: Target) -> Path:
        """Other requirements are another folder."""
        digest = hashlib.sha256("\n".join(self.needs).encode()).hexdigest()[:12]
        return self.folder / f"{target.python}-{target.arch}-{digest}"

    async def _download(self, target: Target, kept: Path) -> None:
        fresh = kept.with_name(f"{kept.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        (fresh / "wheels").mkdir(parents=True)
        await self.downloads.fetch(self.needs, [target], fresh / "wheels")
        fresh.replace(kept)
