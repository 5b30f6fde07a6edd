"""A made-up site for rendering, the same for every test."""

from hpcli.render.site import AccountingSite, Endpoint, NodeSite, SlurmSite
from hpcli.spec.model import Spec


def example_site(spec: Spec, version: tuple[int, int] = (22, 5)) -> SlurmSite:
    nodes = {
        name: NodeSite("host", "127.0.0.1", 21001 + i, f"/state/nodes/{name}/dev")
        for i, name in enumerate(spec.node_names)
    }
    return SlurmSite(
        version=version,
        user="someone",
        controller=Endpoint("host", "127.0.0.1", 21000),
        nodes=nodes,
        munge_socket="/run/x/munge.sock",
        state="/state/state",
        spool="/run/x/s/%n",
        slurmctld_log="/state/log/slurmctld.log",
        slurmctld_pid="/run/x/slurmctld.pid",
        slurmd_log="/state/log/slurmd-%n.log",
        slurmd_pid="/run/x/slurmd-%n.pid",
        prolog="/opt/hpcli/prolog.sh",
        accounting=AccountingSite(20999, "someone", "slurm", "/state/log/slurmdbd.log", "/run/x/slurmdbd.pid"),
    )
