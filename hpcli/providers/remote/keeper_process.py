"""The keeper of a docker cluster: a process beside the engine, of the user who made the cluster."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from hpcli.domain.keeper_settings import KeeperSettings, write_keeper_settings
from hpcli.providers.remote.keeper_files import SLURM_UID
from hpcli.providers.remote.layout import RemoteHome
from hpcli.transport import proc
from hpcli.transport.process import spawn_detached

KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "PYTHONPATH", "VIRTUAL_ENV", "XDG_STATE_HOME", "DOCKER_HOST")
STOP_GRACE = 5.0


@dataclass(frozen=True, slots=True)
class KeeperBeside:
    """Started at `up`, ended at `down`; its settings follow the nodes."""

    home: RemoteHome
    cluster: str
    provider: str
    nodes: tuple[str, ...]

    @property
    def alive(self) -> bool:
        return proc.remembered(self._pid_file) is not None

    def start(self) -> None:
        """Start it with the present nodes; one that runs with others is started anew."""
        wanted = self._settings()
        path = self.home.folder / "keeper.json"
        before = path.read_text() if path.exists() else ""
        self.home.keeper.mkdir(mode=0o755, exist_ok=True)
        write_keeper_settings(path, wanted)
        if self.alive and before == path.read_text():
            return
        self.stop()
        argv = [sys.executable, "-m", "hpcli", "keeper", "--config", str(path)]
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        pid = spawn_detached(argv, env=environment, log=self.home.folder / "keeper.log")
        proc.remember(self._pid_file, pid)

    def stop(self) -> None:
        """End it; safe when it does not run."""
        pid = proc.remembered(self._pid_file)
        if pid:
            proc.end([pid], STOP_GRACE)
        self._pid_file.unlink(missing_ok=True)

    @property
    def _pid_file(self) -> Path:
        return self.home.folder / "keeper.pid.json"

    def _settings(self) -> KeeperSettings:
        """Only root can give the socket to the controller's group; another's folder keeps strangers out instead."""
        root = os.geteuid() == 0
        return KeeperSettings(
            cluster=self.cluster,
            socket=str(self.home.keeper / "socket"),
            allowed_uids=(SLURM_UID, os.geteuid()),
            nodes=self.nodes,
            provider=self.provider,
            home=str(self.home.folder),
            socket_mode=0o660 if root else 0o666,
            socket_gid=SLURM_UID if root else -1,
        )
