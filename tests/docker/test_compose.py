"""docker-slurm/compose.yaml: a site's own Slurm, ready for jobs over SSH, for every series."""

import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab import ROOT, SERIES, call, image, must, until

pytestmark = pytest.mark.docker

READY_SECONDS = 60.0


@dataclass(frozen=True)
class Site:
    """Run a command on the login node over SSH as a user; `service` names a container."""

    folder: Path
    port: int
    project: str
    environment: dict[str, str]

    def ssh(self, user: str, command: str) -> str:
        known = f"UserKnownHostsFile={self.folder / 'known'}"
        options = ("-o", "StrictHostKeyChecking=accept-new", "-o", known, "-o", "LogLevel=ERROR", "-o", "BatchMode=yes")
        argv = ("ssh", "-F", "none", *options, "-i", str(self.folder / "key"), "-p", str(self.port))
        return call(*argv, f"{user}@127.0.0.1", command).stdout

    def container(self, service: str) -> str:
        return compose(self.project, self.environment, "ps", "-q", service).strip()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def compose(project: str, environment: dict[str, str], *argv: str) -> str:
    settings = tuple(f"{name}={value}" for name, value in environment.items())
    file = str(ROOT / "docker-slurm" / "compose.yaml")
    return must("env", *settings, "docker-compose", "-p", project, "-f", file, *argv, limit=300)


@pytest.fixture(scope="module", params=SERIES)
def site(engine: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    image(request.param)
    folder = tmp_path_factory.mktemp("site")
    must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key"))
    project, port = f"c-{secrets.token_hex(3)}", free_port()
    environment = {
        "SLURM_SERIES": request.param,
        "SSH_PORT": str(port),
        "HPCLI_AUTHORIZED_KEY": (folder / "key.pub").read_text().strip(),
        "PATH": os.environ["PATH"],
    }
    one = Site(folder, port, project, environment)
    began = time.monotonic()
    try:
        compose(project, environment, "up", "-d")
        until(lambda: one.ssh("alice", "sinfo -h -o '%D %T'") == "2 idle\n", READY_SECONDS)
        print(f"compose {request.param}: idle after {time.monotonic() - began:.1f} s")
        yield one
    finally:
        compose(project, environment, "down", "-v")


def test_a_user_runs_jobs_that_are_accounted(site: Site) -> None:
    assert sorted(site.ssh("alice", "srun -N2 hostname").split()) == ["c1", "c2"]
    until(lambda: "alice|COMPLETED" in site.ssh("alice", "sacct -nXP -o user,state"))


def test_the_homes_are_shared(site: Site) -> None:
    site.ssh("alice", "echo here >mark")
    assert site.ssh("alice", "srun -N2 cat mark") == "here\nhere\n"


def test_the_administrator_has_sudo_and_the_user_has_none(site: Site) -> None:
    assert site.ssh("admin", "sudo -n id -u") == "0\n"
    assert site.ssh("alice", "sudo -n id -u") == ""


def test_the_key_is_one_and_secret(site: Site) -> None:
    sums = {
        must(
            "docker",
            "exec",
            site.container(name),
            "bash",
            "-c",
            "stat -c '%a %U' $0; md5sum <$0",
            "/etc/munge/munge.key",
        )
        for name in ("controller", "database", "login", "c1", "c2")
    }
    assert len(sums) == 1
    assert sums.pop().startswith("600 munge\n")


def test_no_container_is_privileged(site: Site) -> None:
    names = [site.container(name) for name in ("controller", "database", "login", "c1", "c2")]
    shown = must("docker", "inspect", "--format", "{{.HostConfig.Privileged}} {{.HostConfig.CapAdd}}", *names)
    assert set(shown.splitlines()) == {"false []"}


def test_it_outlives_a_restart(site: Site) -> None:
    must("docker", "restart", "-t", "5", site.container("controller"), site.container("database"), site.container("c1"))
    until(lambda: site.ssh("alice", "sinfo -h -o '%D %T'") == "2 idle\n", READY_SECONDS)
    assert sorted(site.ssh("alice", "srun -N2 hostname").split()) == ["c1", "c2"]
