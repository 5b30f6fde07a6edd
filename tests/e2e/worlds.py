"""Where a cluster can live: this machine, containers that hpcli makes, hosts that are there."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.life import NAME

FAST = """
health: {interval: 1s}
recovery: {start_interval: 0s, reboot_interval: 0s, replace_interval: 0s}
"""
LOCAL = f"""
name: {NAME}
compute:
  - {{name: gpu, count: 4, cpus: 2, memory: 1G, gpus: {{type: h100, count: 2}}, spares: 1}}
{FAST}"""
DOCKER = f"""
name: {NAME}
provider: docker
slurm: {{version: "%s"}}
login: {{count: 1}}
compute:
  - {{name: gpu, count: 4, cpus: 2, memory: 1G, gpus: {{type: h100, count: 2, simulated: true}}, spares: 1}}
accounting: {{enabled: true}}
accounts: [{{name: lab, description: The lab}}]
users: [{{name: ada, uid: 2001, account: lab}}]
{FAST}"""
HOSTS = f"""
name: {NAME}
provider: hosts
controller: {{name: ctl}}
login: {{count: 1}}
compute:
  - {{name: gpu, nodes: "c[1-4]", cpus: 2, memory: 1G, gpus: {{type: h100, count: 2, simulated: true}}, spares: 1}}
{FAST}hosts:
  user: admin
  identity: @folder@/id
  known_hosts: @folder@/known_hosts
  addresses: {{ctl: "@ctl@", login1: "@login1@", "c[1-6]": "@computes@"}}
  spare_machines: ["@spare@"]
"""


def docker(*args: str, fine: bool = False) -> str:
    done = subprocess.run(["docker", *args], capture_output=True, text=True, timeout=300)
    assert fine or done.returncode == 0, f"docker {' '.join(args)}: {done.stderr}"
    return done.stdout.strip()


def break_gpu(container: str) -> None:
    """GPU 0 is gone now, and after every boot."""
    for argv in (
        ["mkdir", "-p", "/var/lib/hpcli/broken"],
        ["touch", "/var/lib/hpcli/broken/nvidia0"],
        ["rm", "/dev/nvidia0"],
    ):
        docker("exec", container, *argv)


def edit_slurm_conf(container: str, old: str, new: str) -> None:
    docker("exec", container, "sed", "-i", f"s/{old}/{new}/", "/etc/slurm/slurm.conf")


@dataclass(frozen=True)
class LocalWorld:
    home: Path
    output: str
    spec: str = LOCAL

    def break_node(self, node: str) -> None:
        machine = self.home / "hpcli" / "clusters" / NAME / "nodes" / node
        for folder in ("hardware", "dev"):
            (machine / folder / "nvidia0").unlink()

    def hand_edit(self, old: str, new: str) -> None:
        conf = self.home / "hpcli" / "clusters" / NAME / "etc" / "slurm.conf"
        conf.write_text(conf.read_text().replace(old, new))

    def left_over(self) -> list[str]:
        return [str(path) for path in self.home.glob("hpcli/clusters/*")]


@dataclass(frozen=True)
class DockerWorld:
    series: str
    output: str = "/home/admin/job.out"

    @property
    def spec(self) -> str:
        return DOCKER % self.series

    def break_node(self, node: str) -> None:
        break_gpu(f"hpcli-{NAME}-{node}")

    def hand_edit(self, old: str, new: str) -> None:
        edit_slurm_conf(f"hpcli-{NAME}-controller", old, new)

    def left_over(self) -> list[str]:
        kinds = (["ps", "-aq"], ["network", "ls", "-q"], ["volume", "ls", "-q"])
        found = [docker(*kind, "--filter", f"label=hpcli.cluster={NAME}").split() for kind in kinds]
        return [one for some in found for one in some]


@dataclass(frozen=True)
class HostsWorld:
    """Containers that stand for machines of somebody else's: reached over SSH as an ordinary user with sudo."""

    folder: Path
    image: str
    network: str
    subnet: str
    certificates: str = ""
    output: str = "/home/admin/job.out"
    names: tuple[str, ...] = ("ctl", "login1", "c1", "c2", "c3", "c4", "c5", "c6", "spare")

    def address(self, name: str) -> str:
        return f"{self.subnet}.{10 + self.names.index(name)}"

    def container(self, name: str) -> str:
        return f"{self.network}-{name}"

    @property
    def spec(self) -> str:
        first = 10 + self.names.index("c1")
        filled = {
            "folder": str(self.folder),
            "ctl": self.address("ctl"),
            "login1": self.address("login1"),
            "computes": f"{self.subnet}.[{first}-{first + 5}]",
            "spare": self.address("spare"),
        }
        text = HOSTS
        for name, value in filled.items():
            text = text.replace(f"@{name}@", value)
        return text

    def make(self, names: Sequence[str] = ()) -> None:
        """Start the machines, and write down their host keys as an administrator would have."""
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "id")], check=True)
        docker("network", "create", "--subnet", f"{self.subnet}.0/24", self.network)
        for name in names or self.names:
            self._make_one(name)
        lines = [f"{self.address(name)} {self._host_key(name)}\n" for name in names or self.names]
        (self.folder / "known_hosts").write_text("".join(lines))

    def remove(self) -> None:
        for name in self.names:
            docker("rm", "-f", self.container(name), fine=True)
        docker("network", "rm", self.network, fine=True)

    def break_node(self, node: str) -> None:
        break_gpu(self.container(node))

    def hand_edit(self, old: str, new: str) -> None:
        edit_slurm_conf(self.container("ctl"), old, new)

    def left_over(self) -> list[str]:
        found = []
        for name in self.names:
            listed = docker("exec", self.container(name), "ls", "/etc/hpcli", "/opt/hpcli", fine=True)
            running = docker("exec", self.container(name), "ps", "-eo", "comm", fine=True)
            found += [f"{name}: {word}" for word in listed.split() if not word.endswith(":")]
            found += [f"{name}: {word}" for word in running.split() if word.startswith(("slurm", "munge", "hpcli"))]
        return found

    def _make_one(self, name: str) -> None:
        key = (self.folder / "id.pub").read_text().strip()
        trust = ["--volume", f"{self.certificates}:/etc/ssl/site.crt:ro"] if self.certificates else []
        run = ["run", "--detach", "--name", self.container(name), "--hostname", f"machine-{name}", *trust]
        where = ["--network", self.network, "--ip", self.address(name), "--restart", "unless-stopped"]
        rest = ["--tmpfs", "/run:mode=755,size=64m", "--env", f"HPCLI_AUTHORIZED_KEY={key}", self.image, "machine"]
        docker(*run, *where, *rest)

    def _host_key(self, name: str) -> str:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = docker("exec", self.container(name), "cat", "/etc/ssh/ssh_host_ed25519_key.pub", fine=True)
            if found:
                return found
            time.sleep(0.1)
        raise AssertionError(f"{name} has made no host key")
