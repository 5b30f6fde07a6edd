"""Breaking a local cluster's hardware, as demo, tests and benches do it."""

import os
import signal
import time
from dataclasses import dataclass

from hpcli.providers.local.nodes import LocalNodes
from hpcli.transport import proc

XID_79 = "NVRM: Xid (PCI:0000:18:00): 79, pid={pid}, GPU has fallen off the bus."


@dataclass(frozen=True, slots=True)
class LocalFaults:
    """Faults of one cluster's nodes. Nothing in hpcli knows that they are made."""

    nodes: LocalNodes

    def lose_gpu(self, node: str, gpu: int = 0, *, broken: bool = True) -> float:
        """Take a GPU off the bus and say when, in seconds since the epoch.

        A `broken` one stays away until the machine is replaced; else a reboot brings it back.
        """
        machine = self.nodes.machine(node)
        device = f"nvidia{gpu}"
        if broken:
            (machine.hardware / device).unlink(missing_ok=True)
        (machine.dev / device).unlink(missing_ok=True)
        at = time.time()
        self.log(node, XID_79.format(pid=os.getpid()))
        return at

    def log(self, node: str, line: str) -> None:
        """Add one line to a node's kernel log."""
        with self.nodes.machine(node).kernel_log.open("a") as log:
            log.write(line + "\n")

    def freeze(self, node: str) -> None:
        """Stop (SIGSTOP) a node's slurmd and its steps: they neither answer nor end."""
        slurmd = self.nodes.daemons.pid(f"slurmd-{node}")
        steps = self.nodes.steps([node])
        proc.send({*steps, *([slurmd] if slurmd else [])}, signal.SIGSTOP)
