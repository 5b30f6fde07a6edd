"""Switching a local cluster's nodes on and off: the machine's folder, its slurmd, all that ran there."""

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hpcli.providers.local.daemons import Daemons
from hpcli.providers.local.layout import Layout
from hpcli.providers.local.machine import MachineFolder
from hpcli.providers.local.record import Record
from hpcli.transport import proc


@dataclass(frozen=True, slots=True)
class LocalNodes:
    """The nodes of one cluster."""

    layout: Layout
    record: Record
    slurmd: str
    daemons: Daemons

    def machine(self, node: str) -> MachineFolder:
        gpus = self.record.gpus[self.record.nodes.index(node)]
        return MachineFolder(self.layout.node(node), gpus)

    def switch_on(self, node: str) -> None:
        """Boot: a new boot id, and slurmd told (-b) that this is one."""
        (self.layout.spool / node).mkdir(mode=0o700, exist_ok=True)
        self.machine(node).switch_on()
        self.daemons.start(f"slurmd-{node}", [self.slurmd, "-D", "-b", "-N", node])

    def switch_off(self, nodes: Iterable[str]) -> None:
        """Pull the plug: nothing that ran on the nodes survives, and nobody is asked."""
        names = tuple(nodes)
        for node in names:
            self.machine(node).switch_off()
        pids = {pid for node in names if (pid := self.daemons.pid(f"slurmd-{node}"))}
        pids |= self._job_processes(names)
        proc.send(pids, signal.SIGKILL)
        proc.end(pids, 0.0)
        self.daemons.stop(f"slurmd-{node}" for node in names)

    def steps(self, nodes: Iterable[str]) -> set[int]:
        """slurmstepd processes, known by the log file that they hold open."""
        logs = {str(self.layout.log / f"slurmd-{node}.log") for node in nodes}
        return {
            process.pid
            for process in proc.all_processes()
            if proc.command(process.pid).startswith("slurmstepd") and logs & proc.open_files(process.pid)
        }

    def _job_processes(self, nodes: tuple[str, ...]) -> set[int]:
        """Everything that runs on these nodes: steps, tasks (known by their environment) and their children."""
        return proc.descendants(self.steps(nodes) | set(self._tasks(nodes))) - {os.getpid()}

    def _tasks(self, nodes: tuple[str, ...]) -> Iterator[int]:
        for process in proc.all_processes():
            environment = proc.environment(process.pid)
            ours = environment.get("SLURM_CONF") == str(self.layout.slurm_conf)
            if ours and environment.get("SLURMD_NODENAME") in nodes:
                yield process.pid
