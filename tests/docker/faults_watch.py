"""Watching a cluster while it is changed: does slurmctld answer all the time, does a job live on."""

import subprocess
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType

from tests.docker.faults_site import Site, until

LOOP = """while [[ ! -e /tmp/enough ]]; do
    if scontrol ping | grep -q 'is UP'; then echo "$EPOCHREALTIME up"; else echo "$EPOCHREALTIME down"; fi
    sleep 0.1
done; rm /tmp/enough"""


@dataclass
class Pings:
    """`scontrol ping` on the controller's machine, several times a second. `gap`: longest time without an answer."""

    site: Site
    up: int = 0
    down: int = 0
    gap: float = 0.0
    _process: "subprocess.Popen[str] | None" = field(default=None)

    def __enter__(self) -> "Pings":
        argv = ["docker", "exec", self.site.container("ctl"), "bash", "-c", LOOP]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process
        self.site.sh("ctl", "touch /tmp/enough")
        rows = [line.split() for line in self._process.communicate(timeout=30)[0].splitlines()]
        answered = [float(when) for when, what in rows if what == "up"]
        self.up, self.down = len(answered), len(rows) - len(answered)
        self.gap = max((b - a for a, b in pairwise(answered)), default=0.0)

    def __str__(self) -> str:
        return f"slurmctld answered {self.up} times, {self.down} times not; longest gap {self.gap:.2f} s"


def submit(site: Site, node: str) -> str:
    """A job that runs on this node, alone: those of tests before are ended."""
    site.sh("ctl", "scancel --name=fault")
    options = f"--parsable --requeue --job-name=fault --nodelist={node}"
    job = site.sh("ctl", f"cd /tmp && sbatch {options} --wrap 'sleep 3600'")
    until(f"job {job} runs", lambda: jobs_state(site, job).startswith("RUNNING"))
    return job


def jobs_state(site: Site, job: str) -> str:
    """State and number of restarts."""
    shown = site.sh("ctl", f"scontrol show job --oneliner {job}", fine=True)
    words = dict(word.split("=", 1) for word in shown.split() if "=" in word)
    return f"{words.get('JobState', 'GONE')} {words.get('Restarts', '-')}"


def job_on(site: Site) -> str:
    """The process of c1's job, known by its number and start: the very same as long as this stays."""

    def found() -> str:
        return site.sh("c1", "ps -eo pid=,lstart=,args= | grep '[s]leep 3600$'", fine=True)

    return str(until("the job's process is there", found))
