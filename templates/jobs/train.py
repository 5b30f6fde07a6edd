"""A small data-parallel training job that survives the loss of a node.

One rank per node, started by srun (see train.sbatch) or alone by hand. Gradients are exchanged over
TCP, checkpoints are atomic and checksummed, and a resumed run ends with the very same bits.
"""

import argparse
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Rank:
    """Who this process is; the words are Slurm's."""

    rank: int
    world: int
    job: str
    attempt: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Rank":
        """Outside Slurm: one rank alone, first attempt."""
        return cls(
            rank=int(environment.get("SLURM_PROCID", "0")),
            world=int(environment.get("SLURM_NTASKS", "1")),
            job=environment.get("SLURM_JOB_ID", "0"),
            attempt=int(environment.get("SLURM_RESTART_COUNT", "0")),
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line asks for; times are seconds."""

    run: Path
    steps: int
    checkpoint_interval: int
    step_seconds: float
    seed: int
    batch: int
    address: str
    peer_timeout: float
    ignore_term: bool


def parse(argv: list[str]) -> Settings:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dir", type=Path, required=True, help="the run's folder, seen by every node")
    parser.add_argument("--steps", type=_positive, default=200)
    parser.add_argument("--checkpoint-interval", type=_positive, default=10, help="steps between checkpoints")
    parser.add_argument("--step-seconds", type=float, default=0.1, help="shortest duration of a step; 0: full speed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=_positive, default=256, help="samples of one step, over all ranks")
    parser.add_argument("--address", default="127.0.0.1", help="this node's own address; rank 0 listens there")
    parser.add_argument("--peer-timeout", type=float, default=30.0, help="seconds until a silent peer counts as lost")
    parser.add_argument("--ignore-term", action="store_true", help="go on after SIGTERM, as a badly behaved job would")
    given = parser.parse_args(argv)
    if given.address in ("", "0.0.0.0", "::"):
        parser.error(f"--address: found {given.address!r}, expected this node's own address")
    return Settings(
        run=given.dir,
        steps=given.steps,
        checkpoint_interval=given.checkpoint_interval,
        step_seconds=given.step_seconds,
        seed=given.seed,
        batch=given.batch,
        address=given.address,
        peer_timeout=given.peer_timeout,
        ignore_term=given.ignore_term,
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"found {number}, expected 1 or more")
    return number


def main() -> int:
    """Train to the last step; 1 when a peer, the run's folder or its checkpoints fail us."""
    settings = parse(sys.argv[1:])
    if settings.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # One thread: BLAS splits sums by its thread count, and NumPy reads these when it is imported.
    os.environ.update(dict.fromkeys(THREADS, "1"))
    from training import train

    rank = Rank.from_environment(os.environ)
    try:
        train(settings, rank)
    except (OSError, ValueError) as fault:
        print(f"error: rank {rank.rank} of job {rank.job}: {fault}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
