"""Building the image: what the script prints is its name, what it complains of is the error."""

from pathlib import Path

import pytest

from hpcli.errors import HpcliError
from hpcli.providers.docker.image import built_image
from hpcli.transport.process import LocalTransport


class Told:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def step(self, text: str) -> None:
        self.steps.append(text)


def script(folder: Path, text: str) -> Path:
    path = folder / "build.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


async def test_the_last_word_is_the_image(tmp_path: Path) -> None:
    told = Told()
    build = script(tmp_path, 'echo "Step 1" >&2; echo "hpcli-$2:$1"')
    assert await built_image(LocalTransport(), build, "24.11", told) == "hpcli-slurm:24.11"
    assert told.steps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo 'build: no debootstrap' >&2; echo; exit 1", "build: no debootstrap"),
        ("exit 3", "the script says nothing"),
        ("true", "the script says nothing"),
    ],
)
async def test_a_build_that_fails(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(HpcliError, match=message) as caught:
        await built_image(LocalTransport(), script(tmp_path, text), "24.11", Told())
    assert caught.value.subject == "image for Slurm 24.11"
    assert "build.sh 24.11 slurm" in caught.value.hint
