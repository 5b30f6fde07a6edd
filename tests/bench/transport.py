"""What a program costs over SSH: the first one, each further one, files; against the bare `ssh` program.

./run bench transport [--strict]      needs sshd (package openssh-server); a server of its own on loopback
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from sshd import USER, Sshd, make_key, missing_programs, running

from hpcli.machines import RemoteTransport
from hpcli.transport.openssh import OpenSsh
from hpcli.transport.ssh import ParamikoSsh
from hpcli.transport.target import SshTarget
from tests.bench.figures import Report, quantile

ROUNDS = 50
FIRSTS = 5
SIZE = 100_000_000


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.monotonic()
    await work()
    return time.monotonic() - began


async def first(make: Callable[[], RemoteTransport]) -> list[float]:
    found = []
    for _ in range(FIRSTS):
        machine = make()
        found.append(await timed(lambda machine=machine: machine.run(["true"])))
        await machine.close()
    return found


async def measure(report: Report, name: str, make: Callable[[], RemoteTransport], folder: Path) -> None:
    report.add(f"{name}_first_program", quantile(await first(make), 0.5), "s", 0.5)
    machine = make()
    await machine.run(["true"])
    each = [await timed(lambda: machine.run(["true"])) for _ in range(ROUNDS)]
    report.quantiles(f"{name}_program", each, 0.05)
    many = await timed(lambda: asyncio.gather(*(machine.run(["true"]) for _ in range(ROUNDS))))
    report.add(f"{name}_programs_per_second_in_parallel", ROUNDS / many, "1/s", 50, least=True)
    content = bytes(SIZE)
    report.add(f"{name}_put", SIZE / 1e6 / await timed(lambda: machine.put(content, f"{folder}/file")), "MB/s")
    report.add(f"{name}_get", SIZE / 1e6 / await timed(lambda: machine.get(f"{folder}/file")), "MB/s")
    await machine.close()


def bare(report: Report, server: Sshd, folder: Path, config: Path) -> None:
    """The peer: `ssh` as a person would call it, without and with a shared connection."""
    plain = ["ssh", "-F", str(config), "-p", str(server.port), "127.0.0.1"]
    shared = [*plain[:-1], "-S", f"{folder}/peer", "-o", "ControlMaster=auto", "-o", "ControlPersist=5", plain[-1]]
    for name, argv in (("peer_ssh", plain), ("peer_shared_ssh", shared)):
        found = []
        for _ in range(FIRSTS + 1):
            began = time.monotonic()
            subprocess.run([*argv, "true"], check=True, stdin=subprocess.DEVNULL)
            found.append(time.monotonic() - began)
        report.add(f"{name}_program", quantile(found[1:], 0.5), "s")
    subprocess.run([*shared[:-1], "-O", "exit", "127.0.0.1"], check=True, stderr=subprocess.DEVNULL)


def main() -> int:
    if missing := missing_programs():
        print(f"peer missing: not installed: {' '.join(missing)}", file=sys.stderr)
        return 1
    report = Report("transport")
    with tempfile.TemporaryDirectory(prefix="hpcli-") as name:
        folder = Path(name)
        server = Sshd(folder / "sshd", make_key(folder / "key"))
        (folder / "known_hosts").write_text(f"{server.known_line}\n")
        config = folder / "config"
        config.write_text(
            f"User {USER}\nIdentityFile {folder}/key\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known_hosts\n"
        )
        (folder / "run").mkdir(mode=0o700)
        target = SshTarget("127.0.0.1", port=server.port, config=str(config))
        with running(server):
            asyncio.run(measure(report, "openssh", lambda: OpenSsh(target, folder=folder / "run"), folder))
            asyncio.run(measure(report, "paramiko", lambda: ParamikoSsh(target), folder))
            bare(report, server, folder, config)
    return report.finish(sys.argv)


if __name__ == "__main__":
    sys.exit(main())
