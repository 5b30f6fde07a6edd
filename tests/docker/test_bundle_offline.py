"""A bundle on Debian 12, 13 and sid with their own Python, without a network, a compiler, pip or python3-venv."""

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import Container, call, image, must, pack, until

from hpcli.domain.settings import Address, AgentNode, AgentSettings, settings_text
from hpcli.providers.remote.bundle import write_bundle
from hpcli.providers.remote.release import pack_files, this_release
from hpcli.version import __version__

pytestmark = pytest.mark.docker

COMMAND = [sys.executable, "-m", "hpcli", "bundle", "--quiet"]
NODE = "HPCLI_ADOPTED=yes\nHPCLI_CLUSTER=lab\nHPCLI_NODE=c1\nHPCLI_ROLE=compute\nHPCLI_SLURM_USER=slurm\n"
AGENT = "hpcli-agent\troot\tyes\t/usr/local/bin/hpcli agent --config /etc/hpcli/agent.json\n"
OWN = "/home/anna/hpcli"


def agent_settings(verdict: str) -> str:
    """Of an agent whose controller never answers."""
    nodes = (AgentNode("c1", verdict=verdict),)
    return settings_text(
        AgentSettings("lab", Address("127.0.0.1", 9), "/nonexistent", "/nonexistent", 0, interval=0.5, nodes=nodes)
    )


@pytest.fixture(scope="module")
def bundle(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpacked, as made from the package index."""
    folder = tmp_path_factory.mktemp("bundle")
    done = subprocess.run([*COMMAND, "--output", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (archive,) = folder.glob("hpcli-*.tar.gz")
    assert f"{archive.stat().st_size / (1 << 20):.1f} MiB" in done.stdout
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="tar")
    return folder / "hpcli-bundle"


@contextmanager
def machine(series: str, bundle: Path, *options: str) -> Iterator[Container]:
    """Of a site that never heard of hpcli; the bundle is in /media, where its user unpacked it."""
    name = f"h2-bundle-{series}"
    call("docker", "rm", "--force", name)
    mount = ("--volume", f"{bundle}:/media/bundle:ro", "--tmpfs", "/run", *options)
    run = ("docker", "run", "--detach", "--name", name, "--hostname", "c1", "--network", "none", *mount)
    try:
        must(*run, "--entrypoint", "sleep", image(series, "stock"), "600")
        yield Container(name)
    finally:
        call("docker", "rm", "--force", "--volumes", name)


def is_bare(box: Container) -> bool:
    """Nothing there that a bundle is to do without."""
    lacking = "import importlib.util as u, sys; sys.exit(any(map(u.find_spec, ('ensurepip', 'pip', 'click'))))"
    return not box.call("python3", "-c", lacking).returncode and bool(box.call("which", "cc", "gcc").returncode)


def agent_writes(box: Container, command: str, folder: str, user: str) -> None:
    """Its verdict of the machine, though nobody hears it."""
    box.run("sh", "-c", f"cat >{folder}/agent.json", stdin=agent_settings(f"{folder}/verdict").encode(), user=user)
    start = f"'{command}' agent --config {folder}/agent.json >{folder}/agent.log 2>&1 & echo $! >{folder}/pid"
    box.run("sh", "-c", start, user=user)
    try:
        until(lambda: box.call("test", "-s", f"{folder}/verdict").returncode == 0, 60)
    finally:
        log = box.sh(f"kill $(cat {folder}/pid); cat {folder}/agent.log", user=user)
    assert f"hpcli {__version__}: agent of lab serves 1 nodes" in log


@pytest.mark.parametrize("series", ["22.05", "26.05"])
def test_root_installs_it_and_the_agent_works(bundle: Path, series: str) -> None:
    with machine(series, bundle) as box:
        assert is_bare(box)
        told = box.run("/media/bundle/install")
        release = (bundle / "release").read_text().strip()
        assert told == f"hpcli {__version__} (release {release}) is in /opt/hpcli, its command: /usr/local/bin/hpcli\n"
        assert box.run("hpcli", "--version", user="nobody") == f"hpcli {__version__}\n"
        assert "--config" in box.run("hpcli", "agent", "--help", user="nobody")
        box.run("mkdir", "/run/hpcli")
        agent_writes(box, "hpcli", "/run/hpcli", "root")
        inodes = box.sh("stat -c %i /opt/hpcli/code /opt/hpcli/venv /opt/hpcli/venv/lib")
        assert box.run("/media/bundle/install") == told
        assert box.sh("stat -c %i /opt/hpcli/code /opt/hpcli/venv /opt/hpcli/venv/lib") == inodes


def test_an_ordinary_user_installs_it_and_a_full_disk_is_named(bundle: Path) -> None:
    with machine("22.05", bundle, "--tmpfs", "/small:size=6m,mode=1777") as box:
        box.sh("useradd --create-home anna")
        refused = box.call("su", "anna", "-c", "/media/bundle/install")
        assert refused.stderr == "install: found user anna, expected root, or --prefix DIR\n"
        full = box.call("su", "anna", "-c", "/media/bundle/install --prefix /small/hpcli")
        assert (full.returncode, full.stderr.splitlines()[-1].split(": ")[0]) == (1, "install")
        assert "No space left on device" in full.stderr.splitlines()[-1]
        assert box.call("test", "-e", "/small/hpcli/bin").returncode
        box.run("/media/bundle/install", "--prefix", OWN, user="anna")
        assert box.run(f"{OWN}/bin/hpcli", "--version", user="anna") == f"hpcli {__version__}\n"
        agent_writes(box, f"{OWN}/bin/hpcli", "/home/anna", "anna")
        assert box.call("test", "-e", "/opt/hpcli").returncode


def test_a_clusters_kit_makes_an_adopted_node_whole(bundle: Path, tmp_path: Path) -> None:
    rows = [
        ("/etc/hpcli/node.conf", 0o644, "root", "root", NODE),
        ("/etc/hpcli/services.tsv", 0o644, "root", "root", AGENT),
        ("/etc/hpcli/agent.json", 0o600, "root", "root", agent_settings("/run/hpcli/c1/verdict")),
    ]
    path = tmp_path / "kit.tar.gz"
    write_bundle(path, this_release(), __version__, bundle / "wheels", {"c1": pack_files(rows)})
    with machine("24.11", bundle) as box:
        assert is_bare(box)
        box.put("/tmp/sent", pack({"kit.tar.gz": path.read_bytes()}))
        box.run("tar", "-xzf", "/tmp/sent/kit.tar.gz", "-C", "/tmp/sent")
        before = box.run("dpkg-query", "-W")
        other = box.call("/tmp/sent/hpcli-bundle/install", "--as", "c9")
        assert "found no files of such a machine, expected one of: c1;" in other.stderr
        steps = box.run("/tmp/sent/hpcli-bundle/install")
        assert "step adopted/15-python ok" in steps
        until(lambda: box.call("test", "-s", "/run/hpcli/c1/verdict").returncode == 0, 60)
        again = box.run("/tmp/sent/hpcli-bundle/install")
        assert "step adopted/15-python same" in again
        assert box.run("dpkg-query", "-W") == before
        box.run("/opt/hpcli/lifecycle/uninstall")
        assert box.call("ls", "/opt/hpcli", "/etc/hpcli", "/usr/local/bin/hpcli").stdout == ""
