"""What is right and wrong with the Slurm that commands here speak to."""

from dataclasses import dataclass

from hpcli.errors import HpcliError
from hpcli.ports import SlurmGateway


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `fix` is the next step where something is wrong or could be better."""

    subject: str
    fine: bool
    found: str
    fix: str = ""


async def examine(gateway: SlurmGateway) -> tuple[Finding, ...]:
    """Ask for the version, the controller and the nodes; what does not answer is a finding."""
    try:
        year, month = await gateway.version()
    except HpcliError as error:
        return (Finding("Slurm", False, error.message, error.hint),)
    version = Finding("Slurm", True, f"version {year}.{month:02}")
    try:
        nodes = await gateway.nodes()
    except HpcliError as error:
        return version, Finding("slurmctld", False, error.message, error.hint)
    out = sum(not node.schedulable for node in nodes)
    return version, Finding("slurmctld", True, f"answers; {len(nodes) - out} of {len(nodes)} nodes in service")
