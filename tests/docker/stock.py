"""A Slurm cluster of somebody else's: docker-slurm/compose.yaml with fixed addresses, and what lies on its machines."""

import difflib
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab import CERTIFICATES, ROOT, CommandFailed, call, image, must

from tests.e2e.life import wait

NODES = ("c1", "c2", "c3", "c4")
MACHINES = ("controller", "database", "login", *NODES)
COMPOSE = ROOT / "docker-slurm" / "compose.yaml"
CONF = "/etc/slurm/slurm.conf"
FIRST = 10
READY_SECONDS = 90.0
NETWORKS = 20
LEFT_OUT = (
    *("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/site"),
    *("/var/log/slurm", "/var/log/lastlog", "/var/log/wtmp", "/var/log/wtmp.db", "/var/log/btmp"),
    *("/var/lib/slurm", "/var/lib/mysql", "/var/lib/munge", "/var/log/munge", "/var/log/mysql", "/home/alice"),
)
"""What grows by itself: kernel and run time, state and logs of Slurm, munge and MariaDB, logins, files of jobs."""
LOOK = r"""
import hashlib, os, stat, sys
left_out = set(sys.argv[1:])
def line(path):
    seen = os.lstat(path)
    kind = stat.S_IFMT(seen.st_mode)
    what = {stat.S_IFDIR: "folder", stat.S_IFREG: "file", stat.S_IFLNK: "link"}.get(kind, "special")
    content = ""
    if what == "file":
        with open(path, "rb") as opened:
            content = hashlib.sha256(opened.read()).hexdigest()
    if what == "link":
        content = os.readlink(path)
    print(repr(path), f"{what} {stat.S_IMODE(seen.st_mode):o} {seen.st_uid}:{seen.st_gid} {content}", sep="\t")
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in left_out]
    for name in folders + files:
        path = os.path.join(folder, name)
        if path not in left_out:
            line(path)
"""


@dataclass(frozen=True)
class Tree:
    """Every `machine:path` with type, mode, owner, group, and the content's sum or a link's target."""

    paths: Mapping[str, str]
    texts: Mapping[str, str] = field(default_factory=dict)

    def against(self, before: "Tree") -> str:
        """Say what is new, gone or changed since; "" if nothing is."""
        found = []
        for path in sorted(self.paths.keys() | before.paths.keys()):
            old, new = before.paths.get(path, "nothing"), self.paths.get(path, "nothing")
            if old != new:
                found.append(f"{path}: was {old}; is {new}")
        return "\n".join(found)

    def edited(self, before: "Tree") -> list[str]:
        """Lines of slurm.conf that went (-) and came (+)."""
        old, new = before.texts[CONF].splitlines(), self.texts[CONF].splitlines()
        lines = difflib.unified_diff(old, new, n=0, lineterm="")
        return [line for line in lines if line[0] in "+-" and not line.startswith(("+++", "---"))]

    def without(self, path: str) -> "Tree":
        """Leave a path out on all machines."""
        kept = {key: value for key, value in self.paths.items() if key.partition(":")[2] != path}
        return Tree(kept, self.texts)


@dataclass(frozen=True)
class Stock:
    """Its machines by name, reached as a person of the site reaches them, or behind everybody's back."""

    folder: Path
    project: str
    series: str
    network: str
    port: int

    @property
    def identity(self) -> Path:
        return self.folder / "id"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def address(self, machine: str) -> str:
        return f"{self.network}.{FIRST + MACHINES.index(machine)}"

    def container(self, machine: str) -> str:
        return f"{self.project}_{machine}_1"

    def sh(self, machine: str, script: str, *, user: str = "root", stdin: str = "", limit: float = 120.0) -> str:
        """Run a script on a machine, past SSH; raises `CommandFailed`."""
        argv = ("docker", "exec", "-i", "--user", user, self.container(machine), "bash", "-ceu", script)
        return must(*argv, stdin=stdin.encode(), limit=limit)

    def ssh(self, machine: str, user: str, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Log in as a person does; a host key that is not known ends it."""
        strict = ("-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={self.known_hosts}")
        argv = ("ssh", "-F", "none", "-o", "BatchMode=yes", *strict, "-i", str(self.identity))
        return call(*argv, f"{user}@{self.address(machine)}", *words, stdin=stdin.encode())

    def idle(self) -> int:
        done = call("docker", "exec", self.container("login"), "sinfo", "-hN", "-t", "idle", "-o", "%N")
        return len(done.stdout.split())

    def node(self, name: str) -> dict[str, str]:
        """Its `State`, `Reason` and so on, as Slurm says; of the reason only the text."""
        words, _, reason = self.sh("login", f"scontrol show node -o {name}").partition("Reason=")
        found = dict(word.split("=", 1) for word in words.split() if "=" in word)
        return {**found, "Reason": reason.partition(" [")[0].strip()}

    def edit(self, *, put: Sequence[str] = (), remove: Sequence[str] = ()) -> None:
        """Change slurm.conf as a person does: a line replaces the one that sets the same; `remove` names keys."""
        lines = self.sh("controller", f"cat {CONF}").splitlines()
        lines = [line for line in lines if _key(line) not in remove]
        for line in put:
            keys = [_key(one) for one in lines]
            at = keys.index(_key(line)) if _key(line) in keys else len(lines)
            lines[at : at + 1] = [line]
        self.sh("controller", f"cat >{CONF}", stdin="\n".join(lines) + "\n")

    def reconfigure(self) -> None:
        self.sh("controller", "scontrol reconfigure")

    def tree(self) -> Tree:
        """All machines' files, and the text of slurm.conf."""
        with ThreadPoolExecutor(2) as pool:
            trees = list(pool.map(self.tree_of, MACHINES))
        paths = {path: what for tree in trees for path, what in tree.paths.items()}
        return Tree(paths, {CONF: self.sh("controller", f"cat {CONF}")})

    def tree_of(self, machine: str) -> Tree:
        argv = ("docker", "exec", "-i", self.container(machine), "python3", "-ISB", "-", *LEFT_OUT)
        lines = must(*argv, stdin=LOOK.encode()).splitlines()
        rows = (line.partition("\t") for line in lines)
        return Tree({f"{machine}:{path[1:-1]}": what for path, _, what in rows})

    def compose(self, *argv: str) -> str:
        environment = {
            "SLURM_SERIES": self.series,
            "SSH_PORT": str(self.port),
            "HPCLI_AUTHORIZED_KEY": (self.folder / "id.pub").read_text().strip(),
            "PATH": os.environ["PATH"],
        }
        settings = [f"{name}={value}" for name, value in environment.items()]
        files = ("-f", str(COMPOSE), "-f", str(self.folder / "addresses.yaml"))
        return must("env", *settings, "docker-compose", "-p", self.project, *files, *argv, limit=300)

    def addresses(self) -> str:
        """What compose.yaml leaves to the engine: addresses that stay. This host's certificates serve downloads."""
        mount = f"\n    volumes: ['{CERTIFICATES}:{CERTIFICATES}:ro']" if Path(CERTIFICATES).exists() else ""
        one = "  {name}:\n    networks: {{default: {{ipv4_address: {address}}}}}{mount}\n"
        services = "".join(one.format(name=name, address=self.address(name), mount=mount) for name in MACHINES)
        subnet = f"networks: {{default: {{ipam: {{config: [{{subnet: {self.network}.0/24}}]}}}}}}\n"
        return f'version: "3.8"\nservices:\n{services}{subnet}'

    def make(self) -> None:
        """Raises `CommandFailed`, also where its network is somebody's already."""
        (self.folder / "addresses.yaml").write_text(self.addresses())
        self.compose("up", "-d")
        wait(f"{len(NODES)} nodes are idle", lambda: self.idle() == len(NODES), READY_SECONDS)
        keys = [self.sh(name, "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub") for name in MACHINES]
        lines = [f"{self.address(name)} {key}" for name, key in zip(MACHINES, keys, strict=True)]
        self.known_hosts.write_text("".join(lines))
        # sudo leaves a mark in the home of who used it first.
        self.sh("login", "sudo -n true", user="admin")

    def remove(self) -> None:
        self.compose("down", "-v")


def _key(line: str) -> str:
    return line.partition("=")[0]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def stock_cluster(folder: Path, series: str) -> Iterator[Stock]:
    """A cluster that stands, all its nodes idle; it goes with its volumes and its network."""
    image(series, "stock")
    must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "id"))
    for attempt in range(NETWORKS):
        network = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
        stock = Stock(folder, f"hpcli-test-{secrets.token_hex(3)}", series, network, _free_port())
        try:
            stock.make()
        except CommandFailed as failed:
            stock.remove()
            if "overlap" not in str(failed) or attempt == NETWORKS - 1:
                raise
        except BaseException:
            stock.remove()
            raise
        else:
            break
    try:
        yield stock
    finally:
        stock.remove()
