"""`hpcli cluster install-agents` and `uninstall`, as far as they go without a machine; what adopted clusters refuse."""

import json
from pathlib import Path

import pytest

ADOPTED = """
name: site
provider: adopted
controller: {name: head}
login: {nodes: login}
compute: [{name: gpu, nodes: "c[1-3]"}]
hosts: {user: ada}
"""


@pytest.fixture
def site(tmp_path: Path) -> str:
    path = tmp_path / "cluster.yaml"
    path.write_text(ADOPTED)
    return str(path)


def test_a_cluster_that_hpcli_builds_is_none_to_install_agents_on(hpcli, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("name: demo\ncompute: [{name: gpu, count: 2}]\n")
    done = hpcli("cluster", "install-agents", "-f", str(path))
    assert done.returncode == 2
    assert "found provider local, expected adopted" in done.stderr and "hpcli cluster up" in done.stderr


def test_an_adopted_one_is_none_to_bring_up(hpcli, site: str) -> None:
    done = hpcli("cluster", "up", "-f", site)
    assert done.returncode == 2
    assert f"hpcli cluster install-agents -f {site}" in done.stderr


def test_machines_that_are_not_reached_stop_it_before_anything_is_changed(hpcli, site: str) -> None:
    done = hpcli("cluster", "install-agents", "-f", site, "--yes")
    assert done.returncode == 4
    assert "c2" in done.stderr and "no machine was changed" in done.stderr


def test_a_controller_that_is_not_reached_cannot_be_skipped(hpcli, site: str) -> None:
    done = hpcli("cluster", "install-agents", "-f", site, "--yes", "--skip-unreachable")
    assert done.returncode == 4
    assert "head" in done.stderr


def test_what_nobody_installed_is_not_uninstalled(hpcli, tmp_path: Path) -> None:
    done = hpcli("cluster", "uninstall", "nowhere", "--yes", env={"XDG_STATE_HOME": str(tmp_path)})
    assert done.returncode == 3
    assert "no cluster of that name here" in done.stderr


def test_the_way_off_for_a_tool_of_the_sites_own(hpcli, site: str) -> None:
    pdsh = hpcli("cluster", "uninstall", "-f", site, "--print", "pdsh", "--json")
    (command,) = json.loads(pdsh.stdout)["data"]["commands"]
    assert command == "pdsh -l ada -w 'c[1-3],head,login' 'sudo /opt/hpcli/lifecycle/uninstall'"
    ansible = hpcli("cluster", "uninstall", "-f", site, "--print", "ansible")
    assert "    - command: /opt/hpcli/lifecycle/uninstall" in ansible.stdout


def test_a_preview_of_its_files_shows_none_of_slurms(hpcli, site: str) -> None:
    shown = json.loads(hpcli("cluster", "render", "-f", site, "--json").stdout)["data"]
    assert "c1:/etc/hpcli/prolog" in shown and "head:/etc/hpcli/controller.json" in shown
    assert [path for path in shown if "/etc/slurm" in path or "munge" in path] == []
