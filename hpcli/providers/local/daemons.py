"""Starting and stopping the daemons of a local cluster, each remembered by pid and start time."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcli.providers.local.layout import Layout
from hpcli.providers.local.loopback import Loopback
from hpcli.providers.local.record import Record
from hpcli.transport import proc
from hpcli.transport.process import spawn_detached

STOP_GRACE = 3.0
HOME_MARK = "HPCLI_CLUSTER_HOME"
KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "PYTHONPATH", "VIRTUAL_ENV", "XDG_STATE_HOME", "HPCLI_RUNTIME_DIR")


@dataclass(frozen=True, slots=True)
class Daemons:
    """The daemons of one cluster, by name: `munged`, `slurmctld`, `slurmd-c1`, `agent`, ..."""

    layout: Layout
    loopback: Loopback

    @classmethod
    def of(cls, layout: Layout, record: Record) -> "Daemons":
        return cls(layout, Loopback(record.address, record.wrapper))

    def start(self, name: str, argv: Sequence[str]) -> None:
        """Start it unless it runs already."""
        if not self.alive(name):
            pid = spawn_detached(argv, env=self.environment(), log=self.output(name))
            proc.remember(self._pid_file(name), pid)

    def stop(self, names: Iterable[str], grace: float = STOP_GRACE) -> None:
        """End them all, frozen ones too; those that do not run are passed over."""
        known = [self._pid_file(name) for name in names]
        proc.end([pid for file in known if (pid := proc.remembered(file))], grace)
        for file in known:
            file.unlink(missing_ok=True)

    def alive(self, name: str) -> bool:
        return self.pid(name) is not None

    def pid(self, name: str) -> int | None:
        return proc.remembered(self._pid_file(name))

    def known(self) -> tuple[str, ...]:
        """Names of all daemons that were started and not stopped, alive or dead."""
        return tuple(sorted(file.stem for file in self.layout.pids.glob("*.json")))

    def output(self, name: str) -> Path:
        return self.layout.log / f"{name}.out"

    def last_words(self, name: str) -> str:
        """The line in which a daemon says why it ended, as far as it does."""
        logs = (self.layout.log / f"{name}.log", self.output(name))
        lines = [line for log in logs if log.exists() for line in log.read_text(errors="replace").splitlines()]
        fatal = [line for line in lines if "fatal" in line]
        errors = [line for line in lines if "error" in line.lower()]
        return (fatal or errors or lines or ["it left no message"])[-1].strip()

    def environment(self) -> dict[str, str]:
        """A clean environment: an outer job's SLURM_* would leak into every step."""
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        ours = {"SLURM_CONF": str(self.layout.slurm_conf), HOME_MARK: str(self.layout.home)}
        return {**kept, **ours, **self.loopback.environment(self.layout.hosts)}

    def _pid_file(self, name: str) -> Path:
        return self.layout.pids / f"{name}.json"
