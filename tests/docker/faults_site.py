"""Containers that stand for somebody's machines, of which one can be made wrong in any way a test needs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.life import Cli
from tests.e2e.worlds import docker

BUILD = Path(__file__).parents[2] / "docker-slurm" / "build.sh"
TOP = """
name: @name@
provider: hosts
controller: {name: ctl}
compute:
  - {name: gpu, nodes: "@nodes@", cpus: @cpus@, memory: 256M@gpus@}
health: {interval: 1s}
recovery: {start_interval: 0s, reboot_interval: 0s, replace_interval: 0s, breaker: {nodes: 9}}
hosts:
  user: admin
  identity: @folder@/id
  known_hosts: @folder@/known_hosts
  addresses: {@addresses@}
"""


@dataclass(frozen=True)
class Site:
    """Machines on a network of their own; `ctl` is the controller's, names of c and a digit are nodes."""

    folder: Path
    name: str
    subnet: str
    machines: tuple[str, ...] = ("ctl", "c1", "c2")
    series: str = "22.05"
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)
    gpus: str = ""

    def container(self, machine: str) -> str:
        return f"{self.name}-{machine}"

    def address(self, machine: str) -> str:
        return f"{self.subnet}.{10 + self.machines.index(machine)}"

    def spec(self, more: str = "", nodes: str = "", hosts: str = "", cpus: int = 1) -> str:
        """A cluster of all of them but those called spare; `more` at the top level, `hosts` in that section."""
        named = [one for one in self.machines if not one.startswith("spare")]
        filled = {
            "name": self.name,
            "folder": str(self.folder),
            "cpus": str(cpus),
            "gpus": f", {self.gpus}" if self.gpus else "",
            "nodes": nodes or ",".join(one for one in named if one != "ctl"),
            "addresses": ", ".join(f"{one}: {self.address(one)}" for one in named),
        }
        text = TOP
        for word, value in filled.items():
            text = text.replace(f"@{word}@", value)
        return text + "".join(f"  {line}\n" for line in hosts.splitlines()) + more

    def write(self, more: str = "", nodes: str = "", hosts: str = "", cpus: int = 1) -> str:
        """Write the spec and give its path."""
        path = self.folder / "cluster.yaml"
        path.write_text(self.spec(more, nodes, hosts, cpus))
        return str(path)

    def make(self) -> None:
        self.remove()
        self.folder.mkdir(exist_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "id")], check=True)
        docker("network", "create", "--subnet", f"{self.subnet}.0/24", self.name)
        for machine in self.machines:
            self.start_new(machine)
        self.know_hosts()

    def remove(self) -> None:
        for machine in self.machines:
            docker("rm", "--force", "--volumes", self.container(machine), fine=True)
        docker("network", "rm", self.name, fine=True)

    def start_new(self, machine: str) -> None:
        key = (self.folder / "id.pub").read_text().strip()
        docker(
            *("run", "--detach", "--name", self.container(machine), "--hostname", f"machine-{machine}"),
            *("--network", self.name, "--ip", self.address(machine), "--restart", "unless-stopped"),
            *("--tmpfs", "/run:mode=755,size=64m", "--env", f"HPCLI_AUTHORIZED_KEY={key}"),
            *self.options.get(machine, ()),
            *(image(self.series), "machine"),
        )

    def know_hosts(self) -> None:
        """Write everybody's host key down, as an administrator would have."""
        lines = [f"{self.address(one)} {self.host_key(one)}\n" for one in self.machines]
        (self.folder / "known_hosts").write_text("".join(lines))

    def host_key(self, machine: str) -> str:
        def found() -> str:
            return self.sh(machine, "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub", fine=True)

        return str(until(f"{machine} has a host key", found))

    def sh(self, machine: str, script: str, *, fine: bool = False) -> str:
        """Run a script as root on a machine, behind hpcli's back."""
        return docker("exec", self.container(machine), "bash", "-c", script, fine=fine)

    def traces(self, machine: str) -> list[str]:
        """What hpcli left on a machine."""
        return self.sh(
            machine, "ls -d /etc/hpcli /opt/hpcli/code /opt/hpcli/lifecycle /var/lib/hpcli/* /tmp/hpcli*", fine=True
        ).split()

    def gone_from(self, machine: str) -> bool:
        """hpcli has left this machine: no files but copies of what was there before, no key, no daemon."""
        left = self.sh(
            machine, "ls -d /etc/hpcli /opt/hpcli /etc/munge/munge.key; ls /var/lib/hpcli", fine=True
        ).split()
        keys = self.sh(machine, "grep --count . /home/admin/.ssh/authorized_keys", fine=True)
        running = self.sh(machine, "pgrep --exact 'slurm.*|munged'", fine=True)
        return set(left) <= {"before"} and keys == "1" and not running

    def fingerprint(self, blob: str) -> str:
        """Of a public ed25519 key."""
        done = subprocess.run(
            ["ssh-keygen", "-lf", "-"], input=f"ssh-ed25519 {blob}\n", capture_output=True, text=True, check=True
        )
        return done.stdout.split()[1]


def image(series: str) -> str:
    return subprocess.run([BUILD, series, "slurm"], capture_output=True, text=True, check=True).stdout.split()[-1]


def made(site: Site) -> Iterator[tuple[Site, Cli]]:
    """The machines, and a command line with a home of its own, for as long as a test needs them."""
    try:
        site.make()
        yield site, Cli(site.folder / "state")
    finally:
        site.remove()


def until(what: str, found: Callable[[], Any], limit: float = 60.0) -> Any:
    """Wait for a truth and give it."""
    deadline = time.monotonic() + limit
    while not (seen := found()):
        assert time.monotonic() < deadline, f"not within {limit:g} s: {what}"
        time.sleep(0.1)
    return seen


def begin(cli: Cli, *args: str) -> "subprocess.Popen[str]":
    """Start hpcli and go on: for those that are to be killed, or to run side by side."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "HPCLI"))}
    return subprocess.Popen(
        [sys.executable, "-m", "hpcli", *args, "--json"],
        env={**clean, "XDG_STATE_HOME": str(cli.home), **cli.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]", limit: float = 120.0) -> tuple[int, Any]:
    """Its exit code and what it answered."""
    out, err = process.communicate(timeout=limit)
    try:
        return process.returncode, json.loads(out)
    except ValueError:
        raise AssertionError(f"{process.args}: {process.returncode}\n{out}\n{err}") from None


def fault(cli: Cli, *args: str, code: int | None = 1) -> tuple[Mapping[str, str], float]:
    """The one error that a command ends with, and after how many seconds."""
    began = time.monotonic()
    answer = cli(*args, code=code)
    seconds = time.monotonic() - began
    assert answer.get("errors"), f"hpcli {' '.join(args)} went well: {answer}"
    error: Mapping[str, str] = answer["errors"][0]
    print(f"  {seconds:.1f} s  {error['subject']}: {error['message']}\n         hint: {error['hint']}", flush=True)
    return error, seconds
