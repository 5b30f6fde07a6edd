"""Containers that stand for machines, driven by the lifecycle scripts alone: no provider, no SSH, no rendering."""

import io
import secrets
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERIES = ("22.05", "24.11", "26.05")
LIFECYCLE = "/opt/hpcli/lifecycle"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
BUILD_LIMIT = 1800


class CommandFailed(AssertionError):
    """A command in a container, or the engine's, did not end well."""


def call(*argv: str, stdin: bytes = b"", limit: float = 600.0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, input=stdin, capture_output=True, timeout=limit, check=False)
    return subprocess.CompletedProcess(argv, done.returncode, done.stdout.decode(), done.stderr.decode())


def must(*argv: str, stdin: bytes = b"", limit: float = 600.0) -> str:
    done = call(*argv, stdin=stdin, limit=limit)
    if done.returncode:
        raise CommandFailed(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def image(series: str, stage: str = "slurm") -> str:
    """Build it if it is not there."""
    return must(str(ROOT / "docker-slurm" / "build.sh"), series, stage, limit=BUILD_LIMIT).split()[-1]


@dataclass(frozen=True)
class Container:
    name: str
    address: str = ""

    def run(self, *argv: str, stdin: bytes = b"", user: str = "", limit: float = 600.0) -> str:
        return must(
            "docker", "exec", "-i", *(["--user", user] if user else []), self.name, *argv, stdin=stdin, limit=limit
        )

    def call(self, *argv: str, stdin: bytes = b"", limit: float = 600.0) -> subprocess.CompletedProcess[str]:
        return call("docker", "exec", "-i", self.name, *argv, stdin=stdin, limit=limit)

    def sh(self, script: str, **options: str) -> str:
        return self.run("bash", "-ceu", script, **options)

    def put(self, folder: str, archive: bytes) -> None:
        self.run("mkdir", "-p", folder)
        must("docker", "cp", "-", f"{self.name}:{folder}", stdin=archive)

    def write(self, files: Mapping[str, "Text"]) -> None:
        """Through `lifecycle/files write`, as a provider does."""
        rows = "".join(f"{p}\t{t.mode:o}\t{t.owner}\t{t.owner}\t{i}\n" for i, (p, t) in enumerate(files.items()))
        members = {"manifest.tsv": rows.encode()} | {str(i): text.content for i, text in enumerate(files.values())}
        self.put("/tmp/sent", pack({"files.tar": pack(members)}))
        self.run(f"{LIFECYCLE}/files", "write", "/tmp/sent/files.tar")

    def lifecycle(self, script: str, *argv: str, **options: str) -> str:
        return self.run(f"{LIFECYCLE}/{script}", *argv, **options)

    def bootstrap(self, *argv: str) -> dict[str, str]:
        """Run the numbered steps: what became of each."""
        lines = [line.split() for line in self.lifecycle("run.sh", *argv).splitlines()]
        return {words[1]: words[2] for words in lines if words[2] != "begin"}


@dataclass(frozen=True)
class Text:
    content: bytes
    mode: int = 0o644
    owner: str = "root"


def text(content: str, mode: int = 0o644, owner: str = "root") -> Text:
    return Text(content.encode(), mode, owner)


def pack(members: Mapping[str, bytes]) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    return plain.getvalue()


@contextmanager
def network(name: str) -> Iterator[str]:
    must("docker", "network", "create", name)
    try:
        yield name
    finally:
        call("docker", "network", "rm", name)


@contextmanager
def containers(image_name: str, names: Sequence[str], net: str, *options: str) -> Iterator[dict[str, Container]]:
    """Started at once; each answers to its name in the network. Certificates of this host serve downloads."""
    made: dict[str, Container] = {}
    try:
        for name in names:
            full = f"{net}-{name}"
            mount = ("--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro") if Path(CERTIFICATES).exists() else ()
            made[name] = Container(full)
            must(
                *("docker", "run", "--detach", "--name", full, "--hostname", name, "--network", net),
                *("--network-alias", name, "--tmpfs", "/run", "--restart", "unless-stopped", *mount, *options),
                image_name,
            )
            made[name] = Container(full, address_of(full))
        yield made
    finally:
        for container in made.values():
            call("docker", "rm", "--force", "--volumes", container.name)


def address_of(name: str) -> str:
    return must(
        "docker", "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name
    ).strip()


def push(container: Container) -> None:
    """Put the release in place as a provider does: scripts, the package, its requirements."""
    from hpcli.providers.remote.release import this_release

    release = this_release()
    container.put("/tmp/sent", pack({"release.tgz": release.archive}))
    unpack = (ROOT / "lifecycle-scripts" / "unpack").read_bytes()
    container.run("bash", "-s", "--", "/tmp/sent/release.tgz", release.id, stdin=unpack)


def until(ready, limit: float = 60.0):
    """Wait for a truth and give it."""
    deadline = time.monotonic() + limit
    while not (found := ready()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)
    return found


@dataclass(frozen=True)
class Lab:
    """A cluster's files, written by hand: controller `ctl` with accounting, `login`, and compute nodes."""

    series: str
    machines: Mapping[str, Container]
    settings: Mapping[str, str] = field(default_factory=dict)
    key: str = field(default_factory=lambda: secrets.token_hex(64))

    def role(self, name: str) -> str:
        return {"ctl": "controller", "login": "login"}.get(name, "compute")

    def files(self, name: str) -> dict[str, Text]:
        files = {
            "/etc/hpcli/node.conf": text("".join(f"{k}={v}\n" for k, v in self.node_conf(name).items())),
            "/etc/hpcli/groups.tsv": text("lab\t5000\n"),
            "/etc/hpcli/users.tsv": text("alice\t5001\tlab\t\t\n"),
            "/etc/hpcli/mounts.tsv": text(""),
            "/etc/hpcli/hosts": text("192.0.2.7 elsewhere\n"),
            "/etc/hpcli/services.tsv": text(self.services(name)),
            "/etc/munge/munge.key": text(self.key, 0o600, "munge"),
            "/etc/slurm/slurm.conf": text(self.slurm_conf()),
            "/etc/slurm/cgroup.conf": text("" if self.series == "22.05" else "CgroupPlugin=disabled\n"),
        }
        if name == "ctl":
            files["/etc/hpcli/accounts.tsv"] = text("account\tphysics\t\tPhysicists\nuser\talice\tphysics\tnone\n")
            files["/etc/slurm/slurmdbd.conf"] = text(SLURMDBD, 0o600, "slurm")
        if self.role(name) == "compute":
            for script in ("prolog", "epilog"):
                script_text = (ROOT / "lifecycle-scripts" / "slurm" / script).read_text()
                files[f"/etc/slurm/{script}"] = text(script_text, 0o755)
            files["/etc/slurm/prolog.conf"] = text("verdict_dir=/run/hpcli\n")
            files["/etc/slurm/gres.conf"] = text("Name=gpu File=/dev/nvidia[0-1]\n")
        return files

    def node_conf(self, name: str) -> dict[str, str]:
        return {
            "HPCLI_CLUSTER": "lab",
            "HPCLI_NODE": name,
            "HPCLI_ROLE": self.role(name),
            "HPCLI_SLURM": self.series,
            "HPCLI_ACCOUNTING": "embedded",
            "HPCLI_CONTROLLER": "ctl",
            "HPCLI_MIRROR": "",
            "HPCLI_PIP_INDEX": "",
            "HPCLI_PAM_ADOPT": "no",
            "HPCLI_ADMIN": "admin",
            "HPCLI_SIMULATED_GPUS": "2" if self.role(name) == "compute" else "0",
            **self.settings,
        }

    def services(self, name: str) -> str:
        daemons = {
            "ctl": ("mariadb\tmysql\tno\t/usr/sbin/mariadbd", *(f"{d}\tslurm\tno\t/usr/sbin/{d} -D" for d in CONTROL)),
            "login": (),
        }.get(name, ("slurmd\troot\tno\t/usr/sbin/slurmd -D", "hpcli-agent\troot\tyes\t/bin/sleep 1000000"))
        return "\n".join(("munge\tmunge\tno\t/usr/sbin/munged --foreground", *daemons)) + "\n"

    def slurm_conf(self) -> str:
        nodes = [name for name in self.machines if self.role(name) == "compute"]
        return (
            SLURM
            + f"NodeName={','.join(nodes)} CPUs=2 RealMemory=500 Gres=gpu:2\nPartitionName=all Nodes=ALL Default=YES\n"
        )


CONTROL = ("slurmdbd", "slurmctld")
SLURM = """ClusterName=lab
SlurmctldHost=ctl
SlurmUser=slurm
SlurmdUser=root
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/lib/slurm/slurmd
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurm/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=1
GresTypes=gpu
SchedulerType=sched/backfill
SelectType=select/cons_tres
Prolog=/etc/slurm/prolog
Epilog=/etc/slurm/epilog
RebootProgram=/opt/hpcli/lifecycle/reboot
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=ctl
"""
SLURMDBD = """DbdHost=ctl
SlurmUser=slurm
AuthType=auth/munge
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm_acct_db
LogFile=/var/log/slurm/slurmdbd.log
PidFile=/run/slurm/slurmdbd.pid
"""
