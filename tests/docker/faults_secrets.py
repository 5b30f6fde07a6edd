"""Looking for secrets everywhere: in what runs, on machines and here, and in all files."""

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.docker.faults_site import Site
from tests.e2e.worlds import docker

SEEN = "/dev/shm/seen"
LOOP = f"""touch {SEEN}
while [[ -e {SEEN} ]]; do
    cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null >>{SEEN}
    sleep 0.02
done"""
DATABASE = """install -d -o mysql /run/mysqld
mariadb-install-db --user=mysql >/dev/null 2>&1
(setsid mariadbd --user=mysql --bind-address=0.0.0.0 --skip-name-resolve >/tmp/mariadbd.log 2>&1 &)
until mariadb-admin ping >/dev/null 2>&1; do sleep 0.1; done
mariadb -e "CREATE DATABASE slurm_acct_db; GRANT ALL ON slurm_acct_db.* TO slurm@'%' IDENTIFIED BY '@password@'"
"""


class Onlookers:
    """Notes every command line and environment of these machines, and every command line here, from start to end."""

    def __init__(self, site: Site, machines: Sequence[str]) -> None:
        self._site, self._machines = site, machines
        self._enough, self._here = threading.Event(), set[str]()
        self._looking = threading.Thread(target=self._look)
        self.text = ""

    def __enter__(self) -> "Onlookers":
        for machine in self._machines:
            docker("exec", "--detach", self._site.container(machine), "bash", "-c", LOOP)
        self._looking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        self._looking.join()
        found = [self._site.sh(one, f"tr '\\0' ' ' <{SEEN}; rm {SEEN}") for one in self._machines]
        self.text = "\n".join([*found, *self._here])

    def _look(self) -> None:
        while not self._enough.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self._here.add(path.read_text(errors="replace").replace("\0", " "))
                except OSError:
                    continue


def holders(site: Site, key: str) -> set[str]:
    """Machine, mode and path of every file that holds it; read from standard input, so as not to find ourselves."""
    found = set()
    for machine in site.machines:
        if machine.startswith("spare"):
            continue
        look = (
            "grep -rlF -f /dev/shm/key /etc /home /opt /root /run /srv /tmp /usr/local /var | xargs -r stat -c '%a %n'"
        )
        site.sh(machine, f"umask 077; printf '%s\n' '{key}' >/dev/shm/key")
        found |= {f"{machine} {line}" for line in site.sh(machine, f"{look}; rm /dev/shm/key", fine=True).splitlines()}
    return found


def holders_here(folder: Path, key: str) -> set[str]:
    """The same below a folder of this machine, and in the folder of shared connections."""
    tops = [folder, *Path("/tmp").glob("hpcli-*")]
    files = [path for top in tops for path in top.rglob("*") if path.is_file()]
    return {
        f"{path.stat().st_mode & 0o777:o} {path.relative_to(folder) if path.is_relative_to(folder) else path}"
        for path in files
        if key.encode() in path.read_bytes()
    }


def serve_database(site: Site, machine: str, password: str) -> None:
    """A MariaDB that listens for the cluster's slurmdbd."""
    site.sh(machine, DATABASE.replace("@password@", password))
