"""The blueprint of real machines: golden files of every file on every kind of machine, and what must hold for all."""

import json
import os
from pathlib import Path

import pytest

from hpcli.domain.blueprint import Blueprint, Place, Role, from_dict, to_dict
from hpcli.domain.settings import read_agent_settings, read_controller_settings
from hpcli.errors import HpcliError
from hpcli.providers.remote.blueprint import Fragments, Ingredients, Secrets, common_series, make_blueprint
from hpcli.providers.remote.ground import ClusterKey
from hpcli.providers.remote.hosts import HostsGround, places_of, spares_of, stand_in
from hpcli.providers.remote.layout import Reach, RemoteHome
from hpcli.spec.load import parse_spec

GOLDEN = Path(__file__).parent.parent / "golden" / "machines"
SPEC = """
name: big
provider: hosts
controller: {name: ctl}
login: {count: 1}
compute:
  - {name: gpu, nodes: "c[1-2]", cpus: 8, memory: 16G, gpus: {type: h100, count: 2, simulated: true}, spares: 1}
accounting: {enabled: true}
accounts: [{name: lab, description: The lab}]
groups: [{name: people, gid: 2000}]
users: [{name: ada, uid: 2001, group: people, account: lab, admin: operator}]
mounts: [{path: /home, nfs: "10.0.0.5:/export/home", options: hard}]
hosts:
  user: admin
  addresses: {ctl: 10.0.0.1, login1: 10.0.0.2, "c[1-2]": "10.0.1.[1-2]"}
  spare_machines: [10.0.1.9]
"""
KEY = ClusterKey("PRIVATE KEY\n", "ssh-ed25519 AAAAkey hpcli-big")
SECRETS = Secrets("munge secret", "")
FRAGMENTS = Fragments((("clean up.sh", "#!/bin/sh\n"),), ())


def blueprint(*, systemd: bool, key: ClusterKey | None = KEY, text: str = SPEC) -> Blueprint:
    spec = parse_spec(text, "cluster.yaml")
    wanted = (*places_of(spec), *spares_of(spec))
    places = [
        Place(one.name, one.role, one.address, "", one.name, systemd, f"ssh-ed25519 AAAA{one.name}") for one in wanted
    ]
    given = Ingredients("hosts", "admin", False, True, 0, SECRETS, "r1", key, FRAGMENTS)
    return make_blueprint(spec, text, places, "22.05", given)


@pytest.mark.parametrize("systemd", [True, False], ids=["systemd", "without-systemd"])
@pytest.mark.parametrize("host", ["ctl", "login1", "c1", "spare-1"])
def test_files_of_a_machine(host: str, systemd: bool) -> None:
    """HPCLI_UPDATE_GOLDEN=1 writes them anew; look at the difference before it is kept."""
    shown = "".join(
        f"==== {file.path} {file.mode:o} {file.owner}:{file.group}{' secret' if file.secret else ''}\n"
        + (file.text if not _elsewhere(file.path) else "(tested elsewhere)\n")
        for file in blueprint(systemd=systemd).files[host]
    )
    path = GOLDEN / f"{host}{'-systemd' if systemd else ''}.txt"
    if os.environ.get("HPCLI_UPDATE_GOLDEN"):
        path.write_text(shown)
    assert shown == path.read_text()


def _elsewhere(path: str) -> bool:
    return path.startswith("/etc/slurm/") and path.endswith(("slurm.conf", "prolog", "epilog", "cgroup.conf"))


def test_a_blueprint_travels_as_json() -> None:
    before = blueprint(systemd=False)
    after = from_dict(json.loads(json.dumps(to_dict(before))))
    assert after == before and after.fingerprint == before.fingerprint


def test_secrets_are_in_files_that_only_their_daemon_can_read() -> None:
    for files in blueprint(systemd=True).files.values():
        for file in files:
            told = any(secret in file.text for secret in ("munge secret", "PRIVATE KEY"))
            assert not told or (file.secret and file.mode == 0o600), file.path


def test_settings_are_those_that_the_daemons_read(tmp_path: Path) -> None:
    whole = blueprint(systemd=False)
    for host, name in (("ctl", "controller"), ("c1", "agent")):
        file = whole.file(host, f"/etc/hpcli/{name}.json")
        assert file
        (tmp_path / f"{name}.json").write_text(file.text)
    controller = read_controller_settings(tmp_path / "controller.json")
    assert controller.machines and controller.keeper and str(controller.listen) == "10.0.0.1:6825"
    agent = read_agent_settings(tmp_path / "agent.json")
    assert agent.nodes[0].verdict == "/run/hpcli/c1/verdict" and agent.nodes[0].checks["gpu.count"] == {"expected": 2}


def test_machines_with_different_slurms_make_no_cluster() -> None:
    with pytest.raises(HpcliError, match=r"22.05 on c\[1-2\]; 24.11 on ctl, expected one series"):
        common_series({"c1": "22.05", "c2": "22.05", "ctl": "24.11"})


def test_a_stand_in_remembers_whose_place_it_took() -> None:
    first = Place("c1", Role.COMPUTE, "10.0.1.1")
    second = stand_in(first, "10.0.1.9", "ssh-ed25519 K")
    third = stand_in(second, "10.0.1.10", "")
    assert (second.base, third.base) == ("instead of 10.0.1.1",) * 2
    assert stand_in(second, "10.0.1.1", "").base == ""


async def test_a_spec_that_comes_to_name_the_stand_in_changes_nothing(tmp_path: Path) -> None:
    spec = parse_spec(SPEC.replace("10.0.1.[1-2]", "10.0.1.[9,2]").replace("[10.0.1.9]", "[]"), "cluster.yaml")
    known = [stand_in(Place("c1", Role.COMPUTE, "10.0.1.1"), "10.0.1.9", "K")]
    ground = HostsGround("big", Reach(), lambda _: None, RemoteHome("big", tmp_path), None)  # type: ignore
    assert known[0] in await ground.places(spec, known)
