"""Keepers in trouble: none there, no machine left, a site's own command that fails; what a person then reads."""

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.docker.faults_site import Site, until
from tests.e2e.life import Cli, wait
from tests.e2e.worlds import break_gpu, docker

pytestmark = pytest.mark.docker

GPU = "gpus: {type: h100, count: 1, simulated: true}"
DOCK = f"""
name: h-dock
provider: docker
slurm: {{version: "22.05"}}
compute: [{{name: gpu, count: 4, cpus: 1, memory: 256M, {GPU}}}]
health: {{interval: 1s}}
recovery: {{start_interval: 0s, reboot_interval: 0s, replace_interval: 0s}}
"""
COMMAND = "replace_command: [/usr/local/sbin/another, '{node}', '{address}']"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    machines = ("ctl", "c1", "c2", "c3", "c4", "spare1", "spare2")
    site = Site(tmp_path, "h-keeper", "172.29.94", machines, gpus=GPU)
    try:
        site.make()
        yield site
    finally:
        site.remove()


def last_repair(cli: Cli, cluster: str, node: str) -> Mapping[str, Any]:
    repairs = cli("recovery", "status", "-C", cluster, code=None)["data"]["repairs"]
    return next((repair for repair in reversed(repairs) if repair["node"] == node), {"repair": "", "outcome": ""})


def ended(cli: Cli, cluster: str, node: str, outcome: str, *, after: str = "") -> str:
    """Wait for a repair of the node, other than `after`, to end this way; its id."""

    def found() -> str:
        repair = last_repair(cli, cluster, node)
        return repair["repair"] if repair["repair"] != after and repair["outcome"] == outcome else ""

    began = time.monotonic()
    repair: str = wait(f"{node} is {outcome}: {last_repair(cli, cluster, node)}", found, 150)
    print(f"  {node} {outcome} after {time.monotonic() - began:.1f} s", flush=True)
    return repair


def another(site: Site, *lines: str) -> None:
    """The site's own command on the controller's machine."""
    text = "\n".join(("#!/bin/bash", *lines, ""))
    site.sh("ctl", f"cat >/usr/local/sbin/another <<'END'\n{text}END\nchmod 755 /usr/local/sbin/another")


def reason(site: Site, node: str) -> str:
    return site.sh("ctl", f"scontrol show node {node} | sed -n 's/^ *Reason=//p'")


def test_a_replacement_that_cannot_be_made_parks_the_node_with_a_reason(site: Site, tmp_path: Path) -> None:
    cli = Cli(tmp_path / "state")
    another(site, "echo no machine in the cellar for $1 at $2 >&2; exit 3")
    cli("cluster", "up", "-f", site.write(hosts=COMMAND))
    break_gpu(site.container("c1"))
    first = ended(cli, site.name, "c1", "parked")
    assert f"hosts.replace_command: no machine in the cellar for c1 at {site.address('c1')}" in reason(site, "c1")

    # The first machine that it gives does not know the cluster's key: the old one must keep everything.
    stranger = f"echo {site.address('spare1')} {site.host_key('spare1')}"
    another(site, "echo looking >&2", stranger)
    site.sh("ctl", "scontrol update NodeName=c1 State=RESUME")
    second = ended(cli, site.name, "c1", "parked", after=first)
    print(f"  {reason(site, 'c1')}")
    assert "did not let admin in" in reason(site, "c1") and "keeper/id_ed25519" in reason(site, "c1")
    assert "/opt/hpcli/lifecycle" in site.traces("c1")
    plan = cli("cluster", "plan", "-f", str(site.folder / "cluster.yaml"))
    assert plan["changes"] == [] and plan["edits"] == []

    key = site.sh("ctl", "cat /etc/hpcli/keeper/id_ed25519.pub")
    site.sh("spare1", f"echo '{key}' >>/home/admin/.ssh/authorized_keys")
    site.sh("ctl", "scontrol update NodeName=c1 State=RESUME")
    ended(cli, site.name, "c1", "returned", after=second)
    spec = str(site.folder / "cluster.yaml")
    assert cli("cluster", "plan", "-f", spec)["changes"] == [] and cli("cluster", "drift", "-f", spec) == []
    assert site.gone_from("c1")

    # One spare machine, and then none.
    cli("cluster", "apply", "-f", site.write(hosts=f"spare_machines: [{site.address('spare2')}]"), "--yes")
    break_gpu(site.container("c2"))
    ended(cli, site.name, "c2", "returned")
    names = site.sh("c3", "getent hosts c2")
    assert site.address("spare2") in names, names
    break_gpu(site.container("c3"))
    ended(cli, site.name, "c3", "parked")
    assert "found no spare machine left, expected one in hosts.spare_machines" in reason(site, "c3")

    cli("cluster", "down", site.name, "--yes")
    assert all(site.gone_from(machine) for machine in ("ctl", "c4", "spare1", "spare2"))


def test_a_docker_keeper_that_died_is_told_of_and_revived(tmp_path: Path) -> None:
    cli, spec = Cli(tmp_path / "state"), tmp_path / "cluster.yaml"
    spec.write_text(DOCK)
    home = cli.home / "hpcli" / "clusters" / "h-dock"
    try:
        cli("cluster", "up", "-f", str(spec))
        os.kill(json.loads((home / "keeper.pid.json").read_text())["pid"], signal.SIGKILL)
        until("it is missed", lambda: cli("cluster", "status", "h-dock", code=None)["data"]["dead"] == ["keeper"])
        break_gpu("hpcli-h-dock-c2")
        first = ended(cli, "h-dock", "c2", "parked")
        said = docker("exec", "hpcli-h-dock-controller", "sinfo", "--list-reasons", "--noheader", "--format=%E")
        print(f"  {said}")
        assert "keeper: found none that answers" in said

        began = time.monotonic()
        cli("cluster", "up", "-f", str(spec), "--yes")
        print(f"  keeper revived in {time.monotonic() - began:.1f} s")
        assert cli("cluster", "status", "h-dock", code=None)["data"]["dead"] == []
        docker("exec", "hpcli-h-dock-controller", "scontrol", "update", "NodeName=c2", "State=RESUME")
        ended(cli, "h-dock", "c2", "returned", after=first)
    finally:
        cli("cluster", "down", "h-dock", "--yes", code=None)
