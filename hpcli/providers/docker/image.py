"""Which image a cluster's containers are made from: one that the spec names, else one built here."""

from pathlib import Path

import hpcli
from hpcli.errors import HpcliError, NotFound
from hpcli.ports import Progress, Transport
from hpcli.providers.docker.engine import Engine

BUILD_LIMIT = 3600.0
PULL_LIMIT = 1800.0


def build_script() -> Path | None:
    """docker-slurm/build.sh of the checkout that we run from, None for an installed package."""
    found = Path(hpcli.__file__).parent.parent / "docker-slurm" / "build.sh"
    return found if found.is_file() else None


async def named_image(engine: Engine, image: str, progress: Progress) -> str:
    """An image that a person named; pulled when the engine does not have it. Raises `NotFound`."""
    if await engine.inspect("image", [image]):
        return image
    progress.step(f"pulling image {image}")
    try:
        await engine.call("pull", "--quiet", image, timeout=PULL_LIMIT)
    except HpcliError as error:
        raise NotFound(
            f"image {image}",
            f"found it neither here nor in a registry ({error.message}), expected docker.image to exist",
            "build or load it, or leave docker.image out to have one built",
        ) from None
    return image


async def built_image(transport: Transport, script: Path | None, series: str, progress: Progress) -> str:
    """The image with everything preloaded for a Slurm series such as 24.11; built if it is not there."""
    if script is None:
        raise HpcliError(
            "docker.image",
            "found no docker-slurm/ to build an image from: hpcli runs as an installed package",
            "set docker.image in cluster.yaml, or run hpcli from a checkout",
        )
    progress.step(f"looking for the image of Slurm {series}; a first build takes minutes")
    done = await transport.run([str(script), series, "slurm"], timeout=BUILD_LIMIT)
    words = done.out.split()
    if done.code or not words:
        said = [line for line in done.err.splitlines() if line.strip()]
        raise HpcliError(
            f"image for Slurm {series}",
            f"found that it cannot be built: {said[-1] if said else 'the script says nothing'}",
            f"run by hand: {script} {series} slurm",
        )
    return words[-1]
