"""Made-up sites for rendering, the same for every test, and the examples under tests/golden."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpcli.render.site import AccountingSite, Endpoint, NodeSite, SlurmSite
from hpcli.render.slurm import render_slurm
from hpcli.spec.load import parse_spec
from hpcli.spec.model import Spec

GOLDEN = Path(__file__).parents[1] / "golden"
PASSWORD = r"pass#word \with blanks"


@dataclass(frozen=True)
class Example:
    """A spec of tests/golden, for one kind of site and one Slurm series."""

    name: str
    site: str
    series: str

    @property
    def folder(self) -> Path:
        return GOLDEN / self.name / self.series

    @property
    def version(self) -> tuple[int, int]:
        year, month = self.series.split(".")
        return int(year), int(month)

    def spec(self) -> Spec:
        # Without a folder, so that no file is looked for which the spec names.
        return parse_spec((GOLDEN / self.name / "cluster.yaml").read_text(), "cluster.yaml")

    def render(self) -> dict[str, str]:
        spec = self.spec()
        return render_slurm(spec, SITES[self.site](spec, self.version))

    def __str__(self) -> str:
        return f"{self.name}-{self.series}"


def _examples() -> Iterator[Example]:
    for path in sorted(GOLDEN.glob("*/example.json")):
        wanted = json.loads(path.read_text())
        for series in wanted["slurm"]:
            yield Example(path.parent.name, wanted["site"], series)


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


def machines_site(spec: Spec, version: tuple[int, int] = (22, 5)) -> SlurmSite:
    """Real machines with systemd, at the spec's own addresses."""
    nodes = {name: NodeSite(name, spec.address_of(name), 6818, "/dev") for name in spec.node_names}
    database = spec.accounting.database
    return SlurmSite(
        version=version,
        user="slurm",
        slurmd_user="root",
        controller=Endpoint(spec.controller.name, spec.address_of(spec.controller.name), 6817),
        nodes=nodes,
        munge_socket="/run/munge/munge.socket.2",
        state="/var/lib/slurm/slurmctld",
        spool="/var/lib/slurm/slurmd",
        slurmctld_log="/var/log/slurm/slurmctld.log",
        slurmctld_pid="/run/slurm/slurmctld.pid",
        slurmd_log="/var/log/slurm/slurmd.log",
        slurmd_pid="/run/slurm/slurmd.pid",
        prolog="/etc/slurm/prolog",
        epilog="/etc/slurm/epilog",
        reboot_program="/opt/hpcli/lifecycle/reboot",
        shared_machine=False,
        cgroup=True,
        prolog_contain=spec.pam_slurm_adopt,
        accounting=AccountingSite(
            port=6819,
            user=database.user if database else "slurm",
            database=database.name if database else "slurm_acct_db",
            log="/var/log/slurm/slurmdbd.log",
            pid="/run/slurm/slurmdbd.pid",
            storage_host=database.host if database else "",
            storage_port=database.port if database else 0,
            password=PASSWORD if database else "",
        ),
    )


def containers_site(spec: Spec, version: tuple[int, int] = (22, 5)) -> SlurmSite:
    """Containers: no systemd, so no cgroups, and as large as the spec says."""
    nodes = {name: NodeSite(name, f"172.30.0.{11 + i}", 6818, "/dev") for i, name in enumerate(spec.node_names)}
    site = machines_site(spec, version)
    controller = Endpoint(spec.controller.name, "172.30.0.10", 6817)
    return dataclasses.replace(site, controller=controller, nodes=nodes, cgroup=False, overrides=True)


SITES = {"local": example_site, "machines": machines_site, "containers": containers_site}
EXAMPLES = tuple(_examples())
