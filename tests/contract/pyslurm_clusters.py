"""The third cluster of the gateway contract: real Slurm, asked through a real pyslurm, compared with its programs."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from slurm_clusters import Cluster, real

from hpcli.ports import SlurmGateway
from hpcli.slurm.pyslurm import LIBRARY, PyslurmGateway

ATTEMPTS = 50
UNKNOWN_NODE = "nodes c[1,9]:"
"""The one query of the contract that is the command line's: only scontrol knows how to say that a node is unknown."""


@dataclass
class Compared:
    """Two gateways to one cluster, and what the first handed over to the second."""

    cluster: Cluster
    cli: SlurmGateway
    told: list[str] = field(default_factory=list)

    async def agrees(self) -> None:
        """Both say the same, of a moment in which nothing changed."""
        for ask in ("nodes", "jobs", "partitions", "version"):
            for _ in range(ATTEMPTS):
                before = await getattr(self.cli, ask)()
                ours = await getattr(self.cluster.gateway, ask)()
                if before == await getattr(self.cli, ask)():
                    break
            else:
                raise TimeoutError(f"{ask} never stood still")
            assert ours == before


def through_pyslurm(env: dict[str, str]) -> Compared:
    cluster = real(env)
    compared = Compared(cluster, cluster.gateway)
    LIBRARY.open(env["SLURM_CONF"])
    cluster.gateway = PyslurmGateway(compared.cli, LIBRARY, told=compared.told.append)
    return compared


@pytest.fixture
async def cluster(slurm_env: dict[str, str]) -> AsyncIterator[Cluster]:
    compared = through_pyslurm(slurm_env)
    await compared.cluster.gateway.partitions()
    yield compared.cluster
    await compared.agrees()
    await compared.cluster.clear()
    assert [line for line in compared.told if not line.startswith(UNKNOWN_NODE)] == []
