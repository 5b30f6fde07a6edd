"""A laptop: only ssh, Python and hpcli, an ordinary user, and a cluster behind its login node."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab import ROOT

from tests.e2e.life import Cli, wait
from tests.e2e.worlds import docker

pytestmark = pytest.mark.docker

NAME = "laptop"
SPEC = """
name: laptop
provider: docker
slurm: {version: "22.05"}
login: {count: 1}
compute: [{name: cpu, count: 2, cpus: 2, memory: 512M}]
users: [{name: ada, uid: 2001, keys: ["%s"]}]
mounts: [{path: /shared, bind: "%s"}]
"""
LOGIN = f"hpcli-{NAME}-login1"
PURGED = "slurm libslurm pam-slurm munge libmunge mariadb openssh-server"
PREPARE = f"""
for name in {PURGED}; do dpkg-query -W -f '${{Package}}\\n' | grep "^\\(lib\\)\\?$name" || :; done |
    sort -u | xargs dpkg --purge --force-all >/dev/null 2>&1
useradd --create-home --shell /bin/bash lee
echo '#!/bin/sh' >/usr/local/bin/hpcli
echo 'PYTHONPATH=/src PYTHONSAFEPATH=1 exec /opt/hpcli/venv/bin/python -m hpcli "$@"' >>/usr/local/bin/hpcli
chmod 755 /usr/local/bin/hpcli
install -d -m 700 -o lee -g lee /home/lee/.ssh
"""
COUNT = """#!/bin/bash
#SBATCH --output=/shared/count-%j
for number in $(seq 1 400); do echo "line $number of $1"; sleep 0.05; done
"""


@dataclass(frozen=True)
class Laptop:
    """A container that is no part of the cluster; commands run as lee."""

    container: str

    def call(self, *argv: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        line = ["docker", "exec", "-i", "--user", "lee", self.container, *argv]
        return subprocess.run(line, input=stdin, capture_output=True, text=True, timeout=180, check=False)

    def hpcli(self, *args: str, stdin: str = "", code: int = 0) -> str:
        done = self.call("hpcli", *args, stdin=stdin)
        assert done.returncode == code, f"hpcli {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    def write(self, path: str, text: str) -> None:
        self.call("sh", "-c", f"umask 077; cat >{path}", stdin=text)

    @contextmanager
    def follow(self, job: str) -> Iterator["subprocess.Popen[str]"]:
        """`logs -F` as it runs; its first line is its process id."""
        script = f"echo $$; exec hpcli -C prod logs -F {job}"
        line = ["docker", "exec", "--user", "lee", self.container, "sh", "-c", script]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            yield process
            process.kill()


def on_login(script: str) -> str:
    return docker("exec", LOGIN, "bash", "-c", script)


def sessions() -> list[str]:
    """Processes of sshd that serve ada."""
    return on_login("ps -eo pid=,args= | awk '/sshd: ada/ && !/awk/ {print $1}'").split()


def cut() -> None:
    """As a network does: without a word to the programs that run."""
    found = sessions()
    assert found, "there was no connection to cut"
    on_login(f"kill -KILL {' '.join(found)}")


def left_over() -> str:
    """What of ada's runs on the login node, but for the connection itself."""
    return on_login("ps -u ada -o args= | grep -v '^sshd:' || :")


@pytest.fixture(scope="module")
def cluster(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("laptop")
    (folder / "shared").mkdir()
    (folder / "shared").chmod(0o1777)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lee", "-f", folder / "id"], check=True)
    spec = folder / "cluster.yaml"
    spec.write_text(SPEC % ((folder / "id.pub").read_text().strip(), folder / "shared"))
    cli = Cli(folder / "state")
    try:
        cli("cluster", "up", "-f", str(spec))
        yield folder
    finally:
        docker("rm", "--force", "--volumes", f"{NAME}-lee", fine=True)
        cli("cluster", "down", NAME, "--yes", code=None)


@pytest.fixture(scope="module")
def laptop(cluster: Path) -> Laptop:
    """With a key, and the login node's host key written down; no context yet."""
    sources = [f"--volume={ROOT / name}:/src/{name}:ro" for name in ("hpcli", "templates", "lifecycle-scripts")]
    name = f"{NAME}-lee"
    docker("rm", "--force", "--volumes", name, fine=True)
    run = ["run", "--detach", "--init", "--name", name, "--network", f"hpcli-{NAME}", *sources]
    docker(*run, "--entrypoint", "sleep", "hpcli-slurm:22.05", "infinity")
    docker("exec", name, "bash", "-c", PREPARE)
    laptop = Laptop(name)
    laptop.write("~/.ssh/id_ed25519", (cluster / "id").read_text())
    return laptop


def login_address() -> str:
    found = docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", LOGIN)
    assert found
    return found


def test_the_laptop_has_nothing_of_slurm(laptop: Laptop) -> None:
    look = "for name in squeue sbatch scontrol munge sshd slurmd ssh python3; do command -v $name; done; id -un"
    assert laptop.call("sh", "-c", look).stdout.split() == ["/usr/bin/ssh", "/usr/bin/python3", "lee"]
    assert "squeue: no such program" in laptop.hpcli("queue", code=3)


def test_a_host_key_that_is_not_known_is_refused(laptop: Laptop) -> None:
    words = ("context", "add", "prod", "--ssh", f"ada@{login_address()}")
    refused = laptop.hpcli(*words, code=4)
    assert "SHA256:" in refused and "host key" in refused
    assert laptop.call("test", "-e", "/home/lee/.ssh/known_hosts").returncode != 0
    key = on_login("cat /etc/ssh/ssh_host_ed25519_key.pub")
    laptop.write("~/.ssh/known_hosts", f"{login_address()} {key}\n")
    assert "as ada, slurm-wlm 22.05" in laptop.hpcli(*words)
    mode = laptop.call("stat", "-c", "%a", "/home/lee/.config/hpcli/contexts.json").stdout
    assert mode == "600\n"


def test_from_submit_to_cancel(laptop: Laptop) -> None:
    laptop.hpcli("context", "use", "prod")
    assert json.loads(laptop.hpcli("nodes", "--json"))["data"][0]["nodes"] == "c[1-2]"
    laptop.write("~/count.sh", COUNT)
    job = laptop.hpcli("submit", "-N", "2", "/home/lee/count.sh", "many").strip()
    assert job.isdigit()
    (row,) = wait("it runs", lambda: [one for one in queue(laptop) if one["job"] == job and one["state"] == "RUNNING"])
    assert (row["user"], row["name"], row["node_count"]) == ("ada", "count.sh", 2)
    wait("it writes", lambda: on_login(f"cat /shared/count-{job} 2>/dev/null || :"))
    assert laptop.hpcli("logs", job).startswith("line 1 of many\n")
    assert laptop.hpcli("logs", "-n", "1", job).startswith("line ")
    assert laptop.hpcli("cancel", job) == f"cancelled {job}\n"
    wait("it is gone", lambda: not queue(laptop))
    assert laptop.hpcli("cancel", "4711", code=3)


def queue(laptop: Laptop) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(laptop.hpcli("queue", "--json"))["data"]
    return found


def test_following_through_two_cuts(laptop: Laptop) -> None:
    job = laptop.hpcli("-C", "prod", "submit", "/home/lee/count.sh", "cuts").strip()
    seen: list[str] = []
    with laptop.follow(job) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        for line in process.stdout:
            seen.append(line)
            if len(seen) in (100, 250):
                cut()
        said = process.stderr.read()
        assert process.wait(timeout=60) == 0, said
    assert seen == [f"line {number} of cuts\n" for number in range(1, 401)]
    assert "Traceback" not in said and f"job {job} ended COMPLETED" in said
    wait("nothing is left there", lambda: not left_over(), 20)


def test_waiting_through_a_cut(laptop: Laptop) -> None:
    script = "#!/bin/sh\n#SBATCH --output=/dev/null\nsleep 4; exit 3\n"
    line = ["docker", "exec", "-i", "--user", "lee", laptop.container, "hpcli", "-C", "prod", "submit", "--wait"]
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(script)
        process.stdin.close()
        job = process.stdout.readline().strip()
        assert job.isdigit()
        cut()
        assert (process.wait(timeout=60), f"job {job}: found it ended FAILED" in process.stderr.read()) == (7, True)


def test_ctrl_c_leaves_nothing_there(laptop: Laptop) -> None:
    job = laptop.hpcli("-C", "prod", "submit", "/home/lee/count.sh", "ctrl-c").strip()
    with laptop.follow(job) as process:
        assert process.stdout and process.stderr
        pid = process.stdout.readline().strip()
        assert re.fullmatch(r"line \d+ of ctrl-c\n", process.stdout.readline())
        laptop.call("kill", f"-{signal.SIGINT.value}", pid)
        assert process.wait(timeout=30) == 130
        assert "Traceback" not in process.stderr.read()
    assert left_over() == ""
    laptop.hpcli("-C", "prod", "cancel", job)


def test_hpcli_there_is_used_for_what_needs_it(laptop: Laptop) -> None:
    assert json.loads(laptop.hpcli("-C", "prod", "recovery", "status", "--json"))["data"]["repairs"] == []
    assert "ada" in laptop.hpcli("-C", "prod", "recovery", "pause", code=8)
