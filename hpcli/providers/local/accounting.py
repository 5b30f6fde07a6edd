"""A private MariaDB and slurmdbd: no network for the one, loopback for the other."""

import asyncio
import getpass
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcli.errors import HpcliError, TimedOut
from hpcli.ports import Transport
from hpcli.providers.local.daemons import Daemons
from hpcli.providers.local.layout import Layout

START_LIMIT = 30.0
DATABASE = "slurm_acct_db"


@dataclass(frozen=True, slots=True)
class Accounting:
    """The accounting daemons of one local cluster."""

    layout: Layout
    programs: Mapping[str, str]
    daemons: Daemons
    transport: Transport

    async def start(self) -> None:
        """Start the database and slurmdbd, and wait until slurmdbd answers."""
        await self.start_database()
        await self.start_slurmdbd()

    async def start_database(self) -> None:
        """Make it at its first start; wait until it listens."""
        if not (self.layout.database / "mysql").exists():
            await self._install_database()
        # slurmdbd could make it itself, but the libmariadb of Debian 13 (11.8) goes on wrong on a connection that was
        # refused once for want of it: error 5027 at everything that follows.
        self._first_words.write_text(f"CREATE DATABASE IF NOT EXISTS {DATABASE};\n")
        self.daemons.start("mariadbd", self._database_argv())
        await self._wait_for(self.layout.database_socket, "mariadbd")

    async def start_slurmdbd(self) -> None:
        """Start it, and wait until it answers."""
        # slurmdbd has no setting for the database's socket; the client library reads it here.
        socket = f"MYSQL_UNIX_PORT={self.layout.database_socket}"
        self.daemons.start("slurmdbd", ["/usr/bin/env", socket, self.programs["slurmdbd"], "-D"])
        await self._wait_answering()

    async def add_cluster(self) -> None:
        """Make the cluster known to the accounting; safe to repeat."""
        environment = self.daemons.environment()
        argv = [self.programs["sacctmgr"], "-i", "add", "cluster", self.layout.name]
        answer = await self.transport.run(argv, env=environment, timeout=START_LIMIT)
        if answer.code and "already exists" not in answer.out:
            raise HpcliError(
                "slurmdbd", answer.err.strip() or answer.out.strip(), f"see {self.layout.log}/slurmdbd.log"
            )

    async def _install_database(self) -> None:
        argv = [
            self.programs["mariadb-install-db"],
            "--no-defaults",
            f"--datadir={self.layout.database}",
            "--auth-root-authentication-method=socket",
            f"--auth-root-socket-user={getpass.getuser()}",
            "--skip-test-db",
            f"--user={getpass.getuser()}",
        ]
        answer = await self.transport.run(argv, timeout=120)
        if answer.code:
            raise HpcliError("mariadb-install-db", answer.err.strip()[-500:], f"see {self.layout.database}")

    @property
    def _first_words(self) -> Path:
        """Statements that the database carries out at each start, before it lets anybody in."""
        return self.layout.etc / "accounting.sql"

    def _database_argv(self) -> list[str]:
        return [
            self.programs["mariadbd"],
            "--no-defaults",
            f"--datadir={self.layout.database}",
            f"--socket={self.layout.database_socket}",
            f"--pid-file={self.layout.runtime / 'mariadb.pid'}",
            f"--log-error={self.layout.log / 'mariadbd.log'}",
            f"--user={getpass.getuser()}",
            "--skip-networking",
            f"--init-file={self._first_words}",
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=16M",
        ]

    async def _wait_for(self, socket: Path, daemon: str) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not socket.exists():
            if time.monotonic() > deadline or not self.daemons.alive(daemon):
                raise TimedOut(daemon, self.daemons.last_words(daemon), f"see {self.layout.log}")
            await asyncio.sleep(0.05)

    async def _wait_answering(self) -> None:
        argv = [self.programs["sacctmgr"], "-n", "list", "cluster"]
        deadline = time.monotonic() + START_LIMIT
        while (await self.transport.run(argv, env=self.daemons.environment(), timeout=START_LIMIT)).code:
            if time.monotonic() > deadline or not self.daemons.alive("slurmdbd"):
                raise TimedOut("slurmdbd", self.daemons.last_words("slurmdbd"), f"see {self.layout.log}")
            await asyncio.sleep(0.1)
