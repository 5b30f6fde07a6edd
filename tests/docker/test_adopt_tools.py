"""A site where hpcli gets no SSH: it writes a kit, and tools of the site's own take that to the machines."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from stock import MACHINES, Stock, stock_cluster
from test_adopt import Person, Tale, adopt, all_report

from tests.e2e.life import wait

pytestmark = pytest.mark.docker

ALL = "controller,login,c[1-4]"
SHIM = """#!/bin/bash
# pdsh and pdcp, as far as the printed commands use them: -l USER -w HOSTS ...
set -euo pipefail
[[ $1 == -l && $2 == @(root|admin) && $3 == -w ]]
sudo=
# ssh goes to admin here, whoever is meant.
[[ $2 == admin ]] || sudo='sudo -n '
names=$({python} -m ClusterShell.CLI.Nodeset -e "$4")
shift 4
pids=()
for name in $names; do
    case ${{0##*/}} in
        pdsh) ssh -n -F {config} "$name" "${{sudo}}sh -c $(printf %q "$*")" & ;;
        pdcp) ssh -F {config} "$name" "${{sudo}}tee $2 >/dev/null" <"$1" & ;;
    esac
    pids+=($!)
done
for pid in "${{pids[@]}}"; do wait "$pid"; done
"""


@pytest.fixture
def tale(engine: None, tmp_path: Path) -> Iterator[Tale]:
    for name in ("stock", "laptop", "bin"):
        (tmp_path / name).mkdir()
    with stock_cluster(tmp_path / "stock", "22.05") as stock:
        (tmp_path / "ssh_config").write_text(ssh_config(stock))
        for name in ("pdsh", "pdcp"):
            shim = tmp_path / "bin" / name
            shim.write_text(SHIM.format(python=sys.executable, config=tmp_path / "ssh_config"))
            shim.chmod(0o755)
        yield Tale(stock, Person(tmp_path / "laptop"))


def ssh_config(stock: Stock) -> str:
    hosts = "".join(f"Host {name}\n  HostName {stock.address(name)}\n" for name in MACHINES)
    own = f"  IdentityFile {stock.identity}\n  UserKnownHostsFile {stock.known_hosts}\n"
    return f"{hosts}Host *\n  User admin\n{own}  BatchMode yes\n  StrictHostKeyChecking yes\n"


def shell(tale: Tale, line: str) -> None:
    path = f"{tale.person.home.parent / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", line], env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def play(tale: Tale, text: str) -> None:
    """What Ansible makes of these tasks."""
    ((book,),) = ([one for one in yaml.safe_load(text) if one["become"]],)
    for task in book["tasks"]:
        copy, script = task.get("copy"), task.get("shell") or task.get("command")
        if copy:
            shell(tale, f"pdcp -l root -w '{ALL}' {copy['src']} {copy['dest']}")
        else:
            shell(tale, f"pdsh -l root -w '{ALL}' '{script}'")


def printed(tale: Tale, *words: str) -> Any:
    return tale.person.ask("cluster", *words)["commands"]


def test_the_printed_commands_put_it_on_and_take_it_off(tale: Tale) -> None:
    kit = str(tale.person.home / "kit.tar.gz")
    before = tale.stock.tree()
    adopt(tale)
    for tool in ("pdsh", "ansible"):
        with tale.chapter(f"installed with {tool}"):
            commands = printed(tale, "install-agents", "-f", str(tale.spec), "--print", tool, "-o", kit)
            run(tale, tool, commands)
            wait("all agents report", lambda: all_report(tale))
        with tale.chapter(f"taken off with {tool}"):
            run(tale, tool, printed(tale, "uninstall", "-f", str(tale.spec), "--print", tool))
        assert tale.stock.tree().against(before) == ""
        Path(kit).unlink()


def run(tale: Tale, tool: str, commands: list[str]) -> None:
    if tool == "ansible":
        play(tale, "\n".join(commands))
        return
    for command in commands:
        shell(tale, command)
