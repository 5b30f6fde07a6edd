"""Machines of somebody else's, as containers: any image, any engine options, addresses of their own, sshd inside."""

import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

from tests.e2e.life import wait
from tests.e2e.worlds import docker

FIRST = 10


@dataclass(frozen=True)
class Ground:
    """Containers on a network of their own; their host keys are written down as an administrator would have."""

    folder: Path
    name: str
    network: str
    image: str
    machines: tuple[str, ...] = ("ctl", "login1", "c1")
    command: tuple[str, ...] = ("machine",)
    options: tuple[str, ...] = ()
    inside: bool = False
    copied: Mapping[str, str] = field(default_factory=dict)

    def container(self, machine: str) -> str:
        return f"{self.name}-{machine}"

    def address(self, machine: str) -> str:
        return str(ip_network(self.network)[FIRST + self.machines.index(machine)])

    def addresses(self) -> str:
        """As `hosts.addresses` of cluster.yaml has them."""
        return "{" + ", ".join(f'{one}: "{self.address(one)}"' for one in self.machines) + "}"

    def make(self) -> None:
        self.remove()
        self.folder.mkdir(exist_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "id")], check=True)
        docker("network", "create", "--subnet", self.network, *(["--internal"] if self.inside else []), self.name)
        for machine in self.machines:
            self._start(machine)
        for machine in self.machines:
            wait(f"sshd of {machine} answers", lambda one=machine: self._answers(one))
        lines = [f"{self.address(one)} {self.host_key(one)}\n" for one in self.machines]
        (self.folder / "known_hosts").write_text("".join(lines))

    def remove(self) -> None:
        for machine in self.machines:
            docker("rm", "--force", "--volumes", self.container(machine), fine=True)
        docker("network", "rm", self.name, fine=True)

    def host_key(self, machine: str) -> str:
        def found() -> str:
            return self.sh(machine, "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub", fine=True)

        return str(wait(f"{machine} has a host key", found))

    def sh(self, machine: str, script: str, *, user: str = "root", fine: bool = False) -> str:
        """Run a script on a machine, behind hpcli's back."""
        return docker("exec", "--user", user, self.container(machine), "bash", "-c", script, fine=fine)

    def ssh(self, machine: str, user: str, *words: str, key: str = "id") -> "subprocess.CompletedProcess[str]":
        """Log in as a person does."""
        known = f"UserKnownHostsFile={self.folder / 'known_hosts'}"
        options = ["-o", "BatchMode=yes", "-o", known, "-o", "IdentitiesOnly=yes", "-i", str(self.folder / key)]
        argv = ["ssh", "-F", "none", *options, f"{user}@{self.address(machine)}", *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)

    def _answers(self, machine: str) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.address(machine), 22)) == 0

    def _start(self, machine: str) -> None:
        container, key = self.container(machine), (self.folder / "id.pub").read_text().strip()
        docker(
            *("create", "--name", container, "--hostname", f"machine-{machine}"),
            *("--network", self.name, "--ip", self.address(machine), "--restart", "unless-stopped"),
            *("--tmpfs", "/run:mode=755,size=64m", "--env", f"HPCLI_AUTHORIZED_KEY={key}"),
            *(*self.options, self.image, *self.command),
        )
        for here, there in self.copied.items():
            docker("cp", here, f"{container}:{there}")
        docker("start", container)


def built(script: Path, words: Sequence[str]) -> str:
    """Build an image with docker-slurm/build.sh and give its name."""
    done = subprocess.run([script, *words], capture_output=True, text=True, check=True, timeout=1800)
    return done.stdout.split()[-1]
