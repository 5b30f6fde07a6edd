"""What the command line costs: its start, queries here, and the same through a login node on a shared connection.

./run bench cli [--strict]      needs Slurm and sshd: a private cluster of three nodes, a server on loopback
Peers in the same run: squeue itself, and `ssh HOST squeue` with a connection of its own and with a shared one.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from sshd import USER, Sshd, make_key, missing_programs, running

from tests.bench.figures import Report, quantile
from tests.private_slurm import missing_programs as missing_slurm
from tests.private_slurm import private_slurm

ROUNDS = 15
VERSION_MS = 80.0
OVERHEAD_MS = 150.0
JOBS = 20
HPCLI = [sys.executable, "-m", "hpcli"]
COMMANDS = {
    "queue": ["queue", "--all", "--json"],
    "nodes": ["nodes", "--json"],
    "logs": ["logs", "{job}"],
    "submit": ["submit", "--hold", "-o", "/dev/null", "--", "true"],
}


def milliseconds(argv: Sequence[str], env: Mapping[str, str], rounds: int = ROUNDS) -> float:
    """Median wall time of a command that must end well."""
    return quantile([once(argv, env) for _ in range(rounds)], 0.5) or 0.0


def once(argv: Sequence[str], env: Mapping[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    took = 1000 * (time.perf_counter() - began)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.decode()}"
    return took


def hpcli(env: Mapping[str, str], *words: str) -> str:
    return subprocess.run([*HPCLI, *words], env=env, check=True, capture_output=True, text=True).stdout.strip()


def there(words: Sequence[str]) -> list[str]:
    """The same command, of the context."""
    return [words[0], "--cluster", "site", *words[1:]]


def measure(report: Report, here: Mapping[str, str], laptop: Mapping[str, str], job: str) -> None:
    report.add("version", milliseconds([*HPCLI, "--version"], laptop), "ms", VERSION_MS)
    report.add("help", milliseconds([*HPCLI, "--help"], laptop), "ms")
    for name, words in COMMANDS.items():
        filled = [word.replace("{job}", job) for word in words]
        # By turns, so that whatever else this machine does weighs on both alike.
        rounds = [(once([*HPCLI, *filled], here), once([*HPCLI, *there(filled)], laptop)) for _ in range(ROUNDS)]
        report.add(f"{name}_here", quantile([near for near, _ in rounds], 0.5), "ms")
        report.add(f"{name}_there", quantile([far for _, far in rounds], 0.5), "ms")
        report.add(f"{name}_overhead", quantile([far - near for near, far in rounds], 0.5), "ms", OVERHEAD_MS)
        fastest = min(far for _, far in rounds) - min(near for near, _ in rounds)
        report.add(f"{name}_overhead_fastest", fastest, "ms")


def first_of_a_connection(report: Report, laptop: Mapping[str, str], folder: Path) -> None:
    """What the first command of a day costs: the connection is made."""
    for number in range(3):
        fresh = folder / f"run{number}"
        fresh.mkdir(mode=0o700)
        env = {**laptop, "XDG_RUNTIME_DIR": str(fresh)}
        report.add(f"queue_first_{number}", milliseconds([*HPCLI, *there(COMMANDS["queue"])], env, 1), "ms")


def peers(report: Report, server: Sshd, folder: Path, here: Mapping[str, str]) -> None:
    options = ["-F", "none", "-i", f"{folder}/key", "-o", "IdentitiesOnly=yes", "-p", str(server.port)]
    options += ["-o", f"UserKnownHostsFile={folder}/known_hosts", "-l", USER]
    shared = ["-S", f"{folder}/peer", "-o", "ControlMaster=auto", "-o", "ControlPersist=5"]
    squeue = ["squeue", "-a", "-h"]
    report.add("peer_squeue_here", milliseconds(squeue, here), "ms")
    report.add("peer_ssh_squeue", milliseconds(["ssh", *options, "127.0.0.1", *squeue], here), "ms")
    subprocess.run(["ssh", *options, *shared, "127.0.0.1", "true"], check=True, stderr=subprocess.DEVNULL)
    report.add("peer_shared_ssh_squeue", milliseconds(["ssh", *options, *shared, "127.0.0.1", *squeue], here), "ms")
    subprocess.run(["ssh", *options, *shared, "-O", "exit", "127.0.0.1"], check=True, stderr=subprocess.DEVNULL)


def main() -> int:
    if missing := [*missing_programs(), *missing_slurm()]:
        print(f"peer missing: not installed: {' '.join(missing)}", file=sys.stderr)
        return 1
    report = Report("cli")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hpcli-")))
        slurm = stack.enter_context(private_slurm())
        settings = " ".join(f"{name}={value}" for name, value in {"PATH": os.environ["PATH"], **slurm}.items())
        server = Sshd(folder / "sshd", make_key(folder / "key"), [f"SetEnv {settings} SHLVL=2"])
        (folder / "known_hosts").write_text(f"{server.known_line}\n")
        (folder / "run").mkdir(mode=0o700)
        stack.enter_context(running(server))
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "HPCLI"))}
        homes = {"XDG_CONFIG_HOME": f"{folder}/config", "XDG_RUNTIME_DIR": f"{folder}/run"}
        laptop = {**clean, **homes, "XDG_STATE_HOME": f"{folder}/state"}
        here = {**laptop, **slurm}
        keys = ["--identity", f"{folder}/key", "--known-hosts", f"{folder}/known_hosts"]
        hpcli(laptop, "context", "add", "site", "--ssh", f"{USER}@127.0.0.1:{server.port}", *keys)
        job = hpcli(here, "submit", "-W", "-D", str(folder), "--", "echo", "said")
        for _ in range(JOBS):
            hpcli(here, "submit", "--hold", "-o", "/dev/null", "--", "true")
        measure(report, here, laptop, job)
        first_of_a_connection(report, laptop, folder)
        peers(report, server, folder, here)
        subprocess.run(["scancel", "-u", USER], env=here, check=True)
    return report.finish(sys.argv)


if __name__ == "__main__":
    sys.exit(main())
