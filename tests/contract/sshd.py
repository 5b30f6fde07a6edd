"""A private, real sshd on loopback for one test: its own keys, configuration and log, no root needed."""

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

USER = getpass.getuser()
PATIENCE = 10.0


def missing_programs() -> list[str]:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [name for name in ("sshd", "ssh", "ssh-keygen") if not shutil.which(name, path=path)]


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> str:
    """A new pair; its public line."""
    for old in (path, path.with_name(f"{path.name}.pub")):
        old.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", path], check=True)
    return path.with_name(f"{path.name}.pub").read_text().strip()


def fingerprint(path: Path) -> str:
    told = subprocess.run(["ssh-keygen", "-lf", path], check=True, capture_output=True, text=True).stdout
    return told.split()[1]


class Sshd:
    """One server: `folder` holds all that is its own."""

    def __init__(self, folder: Path, authorized: str, settings: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = _free_port()
        self.log = folder / "log"
        self.host_key = folder / "host_key"
        make_key(self.host_key)
        make_key(folder / "other_host_key", "ecdsa")
        (folder / "authorized_keys").write_text(f"{authorized}\n")
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.host_key}",
            f"HostKey {folder}/other_host_key",
            f"PidFile {folder}/pid",
            f"AuthorizedKeysFile {folder}/authorized_keys",
            *settings,
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin yes",
            "MaxStartups 100",
            "LogLevel VERBOSE",
            # The user's own .bashrc has no part in this: bash reads it only below two shells.
            "SetEnv SHLVL=2",
        ]
        (folder / "config").write_text("\n".join(lines) + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """As known_hosts calls it."""
        return f"[127.0.0.1]:{self.port}"

    @property
    def known_line(self) -> str:
        kind, blob = self.host_key.with_name("host_key.pub").read_text().split()[:2]
        return f"{self.name} {kind} {blob}"

    def start(self) -> None:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert program
        with self.log.open("ab") as log:
            argv = [program, "-D", "-e", "-f", str(self.folder / "config")]
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=log, stdout=log)
        deadline = time.monotonic() + PATIENCE
        while not self._listens():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)

    def stop(self) -> None:
        """The server and whatever serves a connection, at once, as when a machine loses its power."""
        if self.process is None:
            return
        for pid in (*self.children(), self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        self.process = None

    def children(self) -> list[int]:
        """The processes that serve connections."""
        assert self.process
        found = []
        for entry in Path("/proc").iterdir():
            pid = int(entry.name) if entry.name.isdigit() else 0
            if pid and _is(pid, "sshd") and _descends(pid, self.process.pid):
                found.append(pid)
        return found

    def logins(self) -> int:
        """Connections that were let in since the log began."""
        return len(re.findall(r"^Accepted publickey", self.log.read_text(errors="replace"), re.MULTILINE))

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _is(pid: int, name: str) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip().startswith(name)
    except OSError:
        return False


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return False
        pid = int(stat[stat.rindex(")") + 2 :].split()[1])
        if pid == ancestor:
            return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(*servers: Sshd) -> Iterator[None]:
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.stop()
