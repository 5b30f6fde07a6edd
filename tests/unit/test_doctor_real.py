"""The doctor at the bed of a real Slurm."""

import pytest

from hpcli.domain.diagnosis import Severity
from hpcli.services.doctor import Ground, examine
from hpcli.slurm.cli import CliGateway
from hpcli.transport.process import LocalTransport
from tests.private_slurm import missing_programs, private_slurm

pytestmark = pytest.mark.slurm


async def test_a_real_slurm_without_hpcli() -> None:
    if missing := missing_programs():
        pytest.skip(f"no {', '.join(missing)} on this machine")
    with private_slurm() as env:
        transport = LocalTransport()
        found = {one.subject: one for one in await examine(CliGateway(transport, env), Ground(transport, env))}
    assert [one.subject for one in found.values() if one.severity is Severity.WRONG] == []
    assert {one.subject for one in found.values() if one.severity is Severity.NOTE} >= {"Prolog", "cred_expire"}
    assert found["munge"].found == "encoded and decoded a credential"
    assert found["clock"].found == "as slurmctld's"
    assert found["ReturnToService"].found == "1"
