"""Fixtures that several kinds of tests share."""

from collections.abc import Iterator

import pytest
from private_slurm import missing_programs, private_slurm


@pytest.fixture(scope="session")
def slurm_env() -> Iterator[dict[str, str]]:
    """The environment of a private, real Slurm of three nodes; the same one for all tests."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"skipped: not installed: {' '.join(missing)}")
    with private_slurm() as env:
        yield env
