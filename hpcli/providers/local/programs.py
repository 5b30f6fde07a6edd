"""Finding the programs that a local cluster is made of."""

import os
import re
import shutil
from collections.abc import Mapping

from hpcli.errors import HpcliError
from hpcli.ports import Transport

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
SLURM = ("slurmctld", "slurmd", "scontrol", "squeue", "sbatch", "munged", "munge", "unmunge")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "sacctmgr")
PACKAGES = "slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge"
ACCOUNTING_PACKAGES = "slurmdbd slurm-wlm-mysql-plugin mariadb-server"


def find_programs(accounting: bool) -> Mapping[str, str]:
    """Full path of each program. Raises `HpcliError` listing all that are missing."""
    names = SLURM + (ACCOUNTING if accounting else ())
    # An ordinary user's PATH often lacks sbin, where Debian puts the daemons.
    path = f"{os.environ.get('PATH', os.defpath)}:{SBIN}"
    found = {name: shutil.which(name, path=path) for name in names}
    missing = [name for name, where in found.items() if where is None]
    if missing:
        packages = PACKAGES + (f" {ACCOUNTING_PACKAGES}" if accounting else "")
        raise HpcliError(
            "this machine", f"found no {', '.join(missing)}, expected Slurm's programs", f"apt-get install {packages}"
        )
    return {name: where for name, where in found.items() if where}


def find_munge() -> tuple[str, str]:
    """Full paths of `munge` and `unmunge`. Raises `HpcliError` when they are missing."""
    munge, unmunge = shutil.which("munge"), shutil.which("unmunge")
    if munge is None or unmunge is None:
        raise HpcliError("this machine", "found no munge, expected it for signed messages", "apt-get install munge")
    return munge, unmunge


async def slurm_version(transport: Transport, slurmctld: str) -> str:
    """Slurm's version as slurmctld prints it, such as "22.05.8"."""
    answer = await transport.run([slurmctld, "-V"], timeout=10)
    match = re.search(r"(\d+\.\d+\.\d+)", answer.out)
    if not match:
        raise HpcliError(
            "slurmctld -V", f"found {answer.out.strip()!r}, expected a version", "is Slurm installed whole?"
        )
    return match.group(1)
