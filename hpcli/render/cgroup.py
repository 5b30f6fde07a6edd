"""How jobs are held on a node: the plugins of slurm.conf, and cgroup.conf. See cgroup.conf(5)."""

from hpcli.render.site import SlurmSite
from hpcli.spec.model import Spec

DISABLED_SINCE = (23, 11)
"""The first Slurm that has CgroupPlugin=disabled."""

SWITCH_NONE_UNTIL = (24, 11)


def holding_parameters(spec: Spec, site: SlurmSite) -> tuple[tuple[str, str], ...]:
    """Give the plugins that start, bind and measure jobs."""
    held = (
        ("ProctrackType", "proctrack/cgroup" if site.cgroup else "proctrack/linuxproc"),
        ("TaskPlugin", "task/cgroup,task/affinity" if site.cgroup else "task/none"),
        ("MpiDefault", "none"),
        ("JobAcctGatherType", "jobacct_gather/cgroup" if site.cgroup else "jobacct_gather/none"),
    )
    overrides = site.shared_machine or site.overrides or _simulated(spec)
    return (
        *held,
        *((("SlurmdParameters", "config_overrides"),) if overrides else ()),
        *((("SwitchType", "switch/none"),) if site.version <= SWITCH_NONE_UNTIL else ()),
    )


def holding_comment(site: SlurmSite) -> str:
    if site.cgroup:
        return "Jobs are held and measured by cgroups."
    if site.shared_machine:
        return "Nothing here needs root, cgroups or hardware as large as the nodes claim."
    return "Without systemd there are no cgroups to hold jobs."


def cgroup_lines(spec: Spec, site: SlurmSite) -> tuple[str, ...]:
    if site.cgroup:
        # A simulated GPU is a plain file, which no device rule can name.
        devices = "no" if _simulated(spec) else "yes"
        constraints = ("ConstrainCores=yes", f"ConstrainDevices={devices}", "ConstrainRAMSpace=yes")
        return ("CgroupPlugin=autodetect", *constraints)
    if site.version >= DISABLED_SINCE:
        return ("CgroupPlugin=disabled",)
    names = ("ConstrainCores", "ConstrainDevices", "ConstrainRAMSpace", "ConstrainSwapSpace")
    return ("CgroupPlugin=cgroup/v1", *(f"{name}=no" for name in names))


def _simulated(spec: Spec) -> bool:
    return any(node.gpus_simulated and node.gpu_count for node in spec.nodes)
