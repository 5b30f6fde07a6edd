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
SERVICES = ("controller", "database", "login", "c1", "c2", "c3", "c4")


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
    image(request.param, "stock")
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
        until(lambda: one.ssh("alice", "sinfo -h -o '%D %T'") == "4 idle\n", READY_SECONDS)
        print(f"compose {request.param}: idle after {time.monotonic() - began:.1f} s")
        yield one
    finally:
        compose(project, environment, "down", "-v")


def test_a_user_runs_jobs_that_are_accounted(site: Site) -> None:
    assert sorted(site.ssh("alice", "srun -N4 hostname").split()) == ["c1", "c2", "c3", "c4"]
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
        for name in SERVICES
    }
    assert len(sums) == 1
    assert sums.pop().startswith("600 munge\n")


def test_no_container_is_privileged(site: Site) -> None:
    names = [site.container(name) for name in SERVICES]
    shown = must("docker", "inspect", "--format", "{{.HostConfig.Privileged}} {{.HostConfig.CapAdd}}", *names)
    assert set(shown.splitlines()) == {"false []"}


def test_it_outlives_a_restart(site: Site) -> None:
    must("docker", "restart", "-t", "5", site.container("controller"), site.container("database"), site.container("c1"))
    until(lambda: site.ssh("alice", "sinfo -h -o '%D %T'") == "4 idle\n", READY_SECONDS)
    assert sorted(site.ssh("alice", "srun -N4 hostname").split()) == ["c1", "c2", "c3", "c4"]


def test_nothing_of_hpcli_is_there(site: Site) -> None:
    look = "ls -d /opt/hpcli /etc/hpcli /var/lib/hpcli /usr/local/bin/hpcli 2>/dev/null; python3 -m ensurepip --version"
    for name in SERVICES:
        done = call("docker", "exec", site.container(name), "sh", "-c", look)
        assert (done.stdout, "No module named" in done.stderr) == ("", True), name


def test_every_machine_runs_sshd(site: Site) -> None:
    for name in SERVICES:
        greeting = f"bash -c 'exec 3<>/dev/tcp/{name}/22; head -c 8 <&3'"
        assert site.ssh("alice", greeting) == "SSH-2.0-", name


def test_what_the_site_edits_stays_and_counts_everywhere(site: Site) -> None:
    site.ssh("admin", "sudo sed -i '$ a MessageTimeout=33' /etc/slurm/slurm.conf && sudo scontrol reconfigure")
    must("docker", "restart", "-t", "5", site.container("c2"))
    until(lambda: site.ssh("alice", "sinfo -h -o '%D %T'") == "4 idle\n", READY_SECONDS)
    for name in SERVICES:
        done = must(
            "docker", "exec", site.container(name), "grep", "-c", "^MessageTimeout=33$", "/etc/slurm/slurm.conf"
        )
        assert done == "1\n", name
    assert "= 33 sec" in site.ssh("alice", "scontrol show config | grep MessageTimeout")


def test_a_lost_gpu_is_back_after_a_reboot(site: Site) -> None:
    node = site.container("c4")
    must("docker", "exec", node, "rm", "/dev/nvidia1")
    must("docker", "exec", node, "kill", "-TERM", "1")
    until(lambda: call("docker", "exec", node, "test", "-e", "/dev/nvidia1").returncode == 0, READY_SECONDS)
    until(lambda: call("docker", "exec", node, "cat", "/run/site-rc-local").stdout == "c4\n")
    until(lambda: site.ssh("alice", "sinfo -h -o '%D %T'") == "4 idle\n", READY_SECONDS)
    assert site.ssh("alice", "srun -w c4 --gres=gpu:2 hostname") == "c4\n"
    assert "on c4" in must("docker", "exec", node, "tail", "-n", "1", "/var/log/slurm/site-prolog.log")


def test_a_drained_node_that_slurm_reboots_stays_drained(site: Site) -> None:
    """What hpcli's reboots of adopted nodes rest on: the plain order, since each option of it takes the drain away."""
    program = "#!/bin/sh\nkill -TERM 1\n"
    script = f"printf '{program}' >/usr/local/sbin/site-reboot; chmod 755 /usr/local/sbin/site-reboot"
    must("docker", "exec", site.container("c3"), "sh", "-c", script)
    site.ssh("admin", "sudo sed -i '$ a RebootProgram=/usr/local/sbin/site-reboot' /etc/slurm/slurm.conf")
    site.ssh("admin", "sudo scontrol reconfigure; sudo scontrol update nodename=c3 state=drain reason=mine:1")
    before = boot_time(site)
    assert before
    site.ssh("admin", "sudo scontrol reboot c3")
    until(lambda: boot_time(site) not in ("", "None", before), READY_SECONDS)
    until(lambda: "State=IDLE+DRAIN " in site.ssh("alice", "scontrol show node -o c3"))
    assert "Reason=mine:1 : reboot issued" in site.ssh("alice", "scontrol show node -o c3")


def boot_time(site: Site) -> str:
    words = site.ssh("alice", "scontrol show node -o c3").split()
    return next((word.partition("=")[2] for word in words if word.startswith("BootTime=")), "")
