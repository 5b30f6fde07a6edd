"""hpcli's files on machines of a cluster that somebody else built, and what a change of them costs there."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hpcli.domain.blueprint import Blueprint, Place, Role
from hpcli.domain.change import Disruption
from hpcli.domain.difference import difference
from hpcli.domain.settings import read_agent_settings, read_controller_settings
from hpcli.domain.steps import Act, steps
from hpcli.errors import HpcliError, SlurmRefused, Unsafe
from hpcli.providers.adopted import AdoptedProvider
from hpcli.providers.remote.adopted import make_adopted
from hpcli.providers.remote.facts import Facts, complaint
from hpcli.providers.remote.hosts import places_of
from hpcli.sim.clock import SimClock
from hpcli.sim.model import SimNode
from hpcli.sim.slurm import SimGateway
from hpcli.sim.world import World
from hpcli.spec.load import parse_spec

GOLDEN = Path(__file__).parent.parent / "golden" / "adopted"
SPEC = """
name: site
provider: adopted
controller: {name: head}
login: {nodes: login}
compute: [{name: gpu, nodes: "c[1-3]", cpus: 8, memory: 16G, gpus: {type: h100, count: 2}}]
hosts: {user: admin, addresses: {head: 10.0.0.1, login: 10.0.0.2}}
adopted:
  slurm_conf: /opt/slurm/etc/slurm.conf
  programs: /opt/slurm/bin
  state: /shared/state
  slurm_user: hpc
  slurm_uid: 500
  slurmd_pid: /run/slurmd-%n-%h.pid
  prolog_flags: [Alloc]
  chain_prolog: ["/etc/slurm/prolog.d/*"]
recovery: {mode: observe}
"""
OURS = ("/etc/hpcli/", "/etc/systemd/system/hpcli-")


def blueprint(*, systemd: bool = True, text: str = SPEC, release: str = "r1") -> Blueprint:
    spec = parse_spec(text, "cluster.yaml")
    places = [replace(place, hostname=f"{place.name}-host", systemd=systemd) for place in places_of(spec)]
    return make_adopted(spec, text, places, "", release)


@pytest.mark.parametrize("systemd", [True, False], ids=["systemd", "without-systemd"])
@pytest.mark.parametrize("host", ["head", "login", "c1"])
def test_files_of_a_machine(host: str, systemd: bool) -> None:
    """HPCLI_UPDATE_GOLDEN=1 writes them anew; look at the difference before it is kept."""
    shown = "".join(
        f"==== {file.path} {file.mode:o} {file.owner}:{file.group}\n"
        + (file.text if file.name != "prolog" else "(tested elsewhere)\n")
        for file in blueprint(systemd=systemd).files[host]
    )
    path = GOLDEN / f"{host}{'-systemd' if systemd else ''}.txt"
    if os.environ.get("HPCLI_UPDATE_GOLDEN"):
        path.write_text(shown)
    assert shown == path.read_text()


def test_every_file_is_in_a_place_of_hpclis_own() -> None:
    for files in blueprint().files.values():
        assert [file.path for file in files if not file.path.startswith(OURS)] == []


def test_settings_are_those_that_the_daemons_read(tmp_path: Path) -> None:
    whole = blueprint()
    for host, name in (("head", "controller"), ("c2", "agent")):
        file = whole.file(host, f"/etc/hpcli/{name}.json")
        assert file
        (tmp_path / f"{name}.json").write_text(file.text)
    controller = read_controller_settings(tmp_path / "controller.json")
    assert controller.requeue_rest == 3.0 and not controller.can_replace and controller.machines
    assert controller.lease == "/shared/state/hpcli-controller.lease" and controller.policy.observes
    agent = read_agent_settings(tmp_path / "agent.json")
    assert agent.controller_uid == 500 and str(agent.controller) == "10.0.0.1:6825" and not agent.gate
    assert agent.nodes[0].checks["slurmd.alive"] == {"pid_file": "/run/slurmd-c2-c2-host.pid"}


def test_no_change_of_it_touches_slurm() -> None:
    """Nodes that come and go, other settings, another hpcli: nothing is drained and no daemon of Slurm's restarts."""
    before = blueprint()
    text = SPEC.replace("c[1-3]", "c[2-5]").replace("recovery: {mode: observe}", "health: {interval: 30s}")
    after = blueprint(text=text, release="r2")
    changes = difference(before, after)
    assert {change.disruption for change in changes} == {Disruption.NONE}
    whats = {change.what for change in changes}
    assert {"machine c[4-5]", "machine c1"} <= whats
    acts = {step.act for step in steps([before], after, changes)}
    assert acts.isdisjoint(
        {Act.TRY, Act.DRAIN, Act.STOP, Act.START, Act.RECONFIGURE, Act.SLURMD, Act.SETTLE, Act.MUNGE}
    )
    assert {Act.CREATE, Act.RETIRE, Act.AGENT, Act.CONTROLLER, Act.COMMIT} <= acts


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, ""),
        ({"os_id": "rocky", "codename": "", "slurm": ""}, ""),
        ({"python": "3.9.18"}, "found Python 3.9.18, expected 3.11 or newer"),
        ({"python": ""}, "found no Python at python3, expected 3.11"),
        ({"disk_free_mib": 100}, "found 100 MiB free below /opt, expected at least 300"),
        ({"uid": 1000}, "found no passwordless sudo"),
        ({"cpus": 1, "memory_mib": 10}, ""),
    ],
)
def test_what_a_machine_must_have(facts: dict[str, object], expected: str) -> None:
    spec = parse_spec(SPEC, "cluster.yaml")
    base: dict[str, object] = {"os_id": "debian", "python": "3.11.2", "disk_free_mib": 5000, "uid": 0, "epoch": 100.0}
    found = complaint(Place("c1", Role.COMPUTE, "c1"), Facts(**{**base, **facts}), spec, 100.0)  # type: ignore[arg-type]
    assert expected in found if expected else found == ""


class NoAgents:
    """Agents that were ordered to reboot their machine."""

    def __init__(self) -> None:
        self.rebooted: list[str] = []

    async def kill_job(self, job_id: str, nodes: Sequence[str]) -> None: ...

    async def accept(self, repair: str, nodes: Sequence[str]) -> None: ...

    async def set_gate(self, closed: bool) -> None: ...

    async def reboot(self, node: str) -> None:
        self.rebooted.append(node)


@pytest.mark.parametrize("how", ["its agent says so", "Slurm says so"])
async def test_where_slurmd_is_dead_the_agent_reboots_the_machine(how: str) -> None:
    """Slurm would take the order and do nothing; its release 22.05 then puts the node back into service."""
    world, agents = World([SimNode("c1")], SimClock(1000.0)), NoAgents()
    gateway = SimGateway(world)
    gateway.reboot_seconds = 30.0
    world.nodes["c1"].responding = how == "its agent says so"
    faults = frozenset({"slurmd.alive"}) if how == "its agent says so" else frozenset[str]()
    await AdoptedProvider(gateway, agents, lambda _node: faults).reboot("c1")
    assert agents.rebooted == ["c1"] and "reboot" not in gateway.calls


async def test_slurm_reboots_its_machines_and_nobody_replaces_them() -> None:
    clock = SimClock(1000.0)
    gateway = SimGateway(World([SimNode("c1")], clock))
    provider = AdoptedProvider(gateway, NoAgents(), lambda _node: frozenset())
    with pytest.raises(SlurmRefused):
        await provider.reboot("c1")
    gateway.reboot_seconds = 30.0
    await gateway.update_nodes("c1", "drain", "hpcli:r1")
    await provider.reboot("c1")
    assert not (await gateway.nodes("c1"))[0].schedulable
    clock.jump(31)
    (node,) = await gateway.nodes("c1")
    assert node.drain and not node.down and node.reason == "hpcli:r1"
    with pytest.raises(Unsafe, match="no way to replace"):
        await provider.replace("c1")
    assert not provider.capabilities().replace


async def test_a_refusal_of_slurms_is_an_error_that_names_the_node() -> None:
    gateway = SimGateway(World([SimNode("c1")], SimClock(0.0)))
    with pytest.raises(HpcliError) as refused:
        await AdoptedProvider(gateway, NoAgents(), lambda _node: frozenset()).reboot("c1")
    assert "c1" in refused.value.subject
