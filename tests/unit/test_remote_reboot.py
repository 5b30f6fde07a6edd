"""Rebooting a host: one that goes down before it answers has done what it was told."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpcli.errors import HpcliError, Unreachable
from hpcli.ports import Completed
from tests.unit.test_remote_power import Box, Site

NODE = "10.0.1.2"


@dataclass
class Quick(Box):
    """A machine that is gone before it has answered."""

    async def run(self, argv: Sequence[str], *, stdin: str = "", **more: object) -> Completed:
        done = await super().run(argv, stdin=stdin, **more)
        if "reboot" in " ".join(argv):
            raise Unreachable("host box", "the connection was lost while reboot ran")
        return done


@pytest.mark.parametrize("kind", [Box, Quick])
async def test_a_machine_that_listens_is_told(kind: type[Box], tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.boxes[NODE] = kind()
    await site.power.reboot("c2")
    assert site.boxes[NODE].was_asked("/opt/hpcli/lifecycle/reboot")


@pytest.mark.parametrize("box", [Box(gone=True), Box(fails="lifecycle/reboot")], ids=["gone", "refuses"])
async def test_one_that_does_not_is_an_error(box: Box, tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.boxes[NODE] = box
    with pytest.raises(HpcliError):
        await site.power.reboot("c2")
