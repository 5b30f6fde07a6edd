"""How the demo is told: a live timeline while it happens, two columns when stock Slurm ran too."""

from dataclasses import asdict

from hpcli.cli.output import Output
from hpcli.cli.progress import StderrProgress
from hpcli.domain.job import Job
from hpcli.services.drill import Outcome, Run, Training

MOMENTS = {
    "detected_s": "fault detected",
    "drained_s": "node drained, job off it",
    "job_running_s": "job running again",
    "first_new_step_s": "first new training step",
    "node_rebooted_s": "node rebooted",
    "node_replaced_s": "still broken: node replaced",
    "accepted_s": "acceptance check passed",
    "in_service_s": "node back in service",
}
GREEN, YELLOW, BOLD, DIM = "32", "33", "1", "2"


class Story:
    """Tells people; programs get the JSON at the end and this on stderr."""

    def __init__(self, output: Output, progress: StderrProgress) -> None:
        self._output = output
        self._progress = progress

    def chapter(self, text: str) -> None:
        self._say(f"\n{self._paint(BOLD, text)}")

    def up(self, seconds: float, nodes: int, checks: int) -> None:
        self._say(f"  {nodes} nodes idle, controller and agents answering, after {seconds:.1f} s")
        self._say(f"  {checks} checks on {nodes} nodes: {self._paint(GREEN, 'all ok')}")

    def training(self, job: Job, run: Run, training: Training) -> None:
        self.chapter(f"Training on {training.nodes} of them")
        every = f"a checkpoint every {training.checkpoint_interval} steps"
        self._say(f"  job {job.id} runs on {job.nodes}, {training.steps} steps, {every}")
        self._say(f"  step {len(run.progress())} done")

    def fault(self, node: str, broken: bool) -> None:
        kind = "and stays away until the machine is replaced" if broken else "until the next reboot"
        self.chapter(f"A GPU of {node} falls off the bus, {kind}")
        self._say(self._paint(YELLOW, "  +0.00 s  Xid 79 in the kernel log, device file gone"))

    def moment(self, name: str, at: float) -> None:
        """One moment of the timeline, as it comes to pass."""
        colour = GREEN if name in ("job_running_s", "first_new_step_s", "in_service_s") else ""
        self._say(self._paint(colour, f"  +{at:.2f} s  {MOMENTS[name]}"))

    def finishing(self) -> None:
        self._progress.step("the run goes on to its last step, then once more without a fault")

    def stock(self) -> None:
        self.chapter("The same fault with stock Slurm settings: node set down, Slurm's own requeue")
        self._progress.step("waiting for Slurm to start the job again, about two minutes")

    def summary(self, outcome: Outcome) -> None:
        self.chapter("What it cost")
        repeated = f"{outcome.steps_repeated} steps repeated, checkpoints are {outcome.checkpoint_interval_steps} apart"
        self._say(f"  {repeated}")
        equal = self._paint(GREEN, "equal, bit for bit,") if outcome.bit_equal else self._paint(YELLOW, "NOT equal to")
        self._say(f"  final weights {equal} those of a run without a fault")
        if outcome.stock:
            self._two_columns(outcome)

    def kept(self, name: str, slurm_conf: str) -> None:
        self.chapter("The cluster stays up")
        self._say(f"  hpcli:  export HPCLI_CLUSTER={name}; hpcli nodes; hpcli recovery history")
        self._say(f"  Slurm:  export SLURM_CONF={slurm_conf}; sinfo")
        self._say(f"  away:   hpcli cluster down {name}")

    def _two_columns(self, outcome: Outcome) -> None:
        assert outcome.stock
        ours, theirs = asdict(outcome.timeline), asdict(outcome.stock)
        self._say(f"\n  {'seconds after the fault':<28}{'hpcli':>10}{'stock Slurm':>14}")
        for name, text in MOMENTS.items():
            self._say(f"  {text:<28}{_seconds(ours[name]):>10}{_seconds(theirs.get(name)):>14}")

    def _say(self, text: str) -> None:
        self._progress.done()
        if not self._output.options.quiet:
            self._output.write(f"{text}\n")

    def _paint(self, code: str, text: str) -> str:
        stream = self._output.stderr if self._output.options.json else self._output.stdout
        wanted = code and self._output.options.color and stream.isatty()
        return f"\x1b[{code}m{text}\x1b[0m" if wanted else text


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
