"""The gateway contract over a real pyslurm and real daemons of Slurm 24.11, in a container.

PYSLURM_VENV names a virtual environment that was made in the image hpcli-slurm:24.11 and holds a pyslurm 24.11.x,
pytest, pytest-asyncio and what hpcli requires. Without it there is no such test, rather than a skipped one: the
recordings of tests/contract/test_pyslurm_gateway.py stand in.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.lab import Container, image, must

ROOT = Path(__file__).resolve().parents[2]
VENV = os.environ.get("PYSLURM_VENV", "")
CONTRACT = "tests/contract/pyslurm_contract.py"
HOST = "box"

pytestmark = pytest.mark.docker


@pytest.fixture
def box() -> Iterator[Container]:
    name = f"hpcli-pyslurm-{os.getpid()}"
    must("docker", "network", "create", name)
    try:
        # Slurm binds to the address of its host's name; that is to be the loopback one.
        options = ["--network", name, "--hostname", HOST, "--add-host", f"{HOST}:127.0.0.1"]
        options += ["--volume", f"{ROOT}:/hpcli:ro", "--volume", f"{VENV}:/pyslurm:ro", "--workdir", "/hpcli"]
        options += ["--env", "PYTHONDONTWRITEBYTECODE=1", "--entrypoint", "sleep"]
        must("docker", "run", "--detach", "--name", name, *options, image("24.11"), "infinity")
        yield Container(name)
    finally:
        must("docker", "rm", "--force", name)
        must("docker", "network", "rm", name)


if VENV:

    def test_the_contract_holds(box: Container) -> None:
        said = box.run("/pyslurm/bin/python", "-m", "pytest", "-p", "no:cacheprovider", CONTRACT)
        assert re.search(r"^\d+ passed in ", said, re.MULTILINE), said
