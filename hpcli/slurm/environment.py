"""The environment that Slurm's programs get: ours alone, whatever job or shell we were started from."""

from collections.abc import Iterable, Mapping

KEEP = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"})
"""How to reach and authenticate to Slurm; everything else of an outer job leads astray."""

_LEAKS = (
    "SLURM_",
    "SLURMD_",
    "SBATCH_",
    "SRUN_",
    "SALLOC_",
    "SQUEUE_",
    "SINFO_",
    "SCONTROL_",
    "SCANCEL_",
    "SACCT_",
    "PMIX_",
    "PMI_",
)

_READABLE = {"LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}


def scrub_argv(names: Iterable[str]) -> tuple[str, ...]:
    """Give the words to put before a command so that it does not inherit an outer job's variables."""
    leaks = sorted(name for name in names if name.startswith(_LEAKS) and name not in KEEP)
    if not leaks:
        return ()
    return ("env", *(word for name in leaks for word in ("-u", name)))


def query_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Give the variables of a query: C locale, times in seconds since the epoch.

    A submission must not get these: sbatch hands its environment on to the job.
    """
    return {**env, **_READABLE}
