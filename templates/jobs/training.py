"""The training loop of one rank: resume, then step, exchange, save, until the last step."""

import hashlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from checkpoints import Checkpoint, CheckpointFolder, write_atomically
from exchange import Exchange, RendezvousFile, connect, listen
from model import Data, Model

if TYPE_CHECKING:
    from train import Rank, Settings


def train(settings: "Settings", rank: "Rank") -> None:
    """Train as one rank. Raises `OSError` (a peer or the run's folder is lost), `ValueError` (another run's folder)."""
    settings.run.mkdir(parents=True, exist_ok=True)
    file = RendezvousFile(settings.run, rank.job, rank.attempt)
    exchange = _meet(file, settings, rank)
    try:
        keeper = Keeper(settings, rank.attempt, file) if rank.rank == 0 else None
        _steps(settings, rank, exchange, keeper)
    finally:
        exchange.close()


def _meet(file: RendezvousFile, settings: "Settings", rank: "Rank") -> Exchange:
    if rank.rank == 0:
        return listen(file, settings.address, rank.world, settings.peer_timeout)
    return connect(file, rank.rank, settings.peer_timeout)


def _steps(settings: "Settings", rank: "Rank", exchange: Exchange, keeper: "Keeper | None") -> None:
    data, model = Data(settings.seed), Model(settings.seed)
    # Rank 0 alone reads the folder and tells the others: no two ranks can resume from different steps.
    found = exchange.broadcast(keeper.resume(model) if keeper else b"")
    step, loss = _restore(model, Checkpoint.decode(found))
    while step < settings.steps:
        due = time.monotonic() + settings.step_seconds
        samples = data.shard(step * settings.batch, settings.batch, rank.rank, rank.world)
        total = exchange.sum(model.gradient(samples)) / settings.batch
        model.descend(total[:-1])
        step, loss = step + 1, float(total[-1])
        if keeper:
            keeper.after(step, loss, model)
        time.sleep(max(due - time.monotonic(), 0.0))
    if keeper:
        keeper.finish(step, loss, model)


def _restore(model: Model, checkpoint: Checkpoint) -> tuple[int, float]:
    model.weights, model.momentum = checkpoint.arrays["weights"], checkpoint.arrays["momentum"]
    return checkpoint.step, float(checkpoint.arrays["loss"][0])


class Keeper:
    """What rank 0 alone writes: checkpoints, progress.jsonl and final.json."""

    def __init__(self, settings: "Settings", attempt: int, file: RendezvousFile) -> None:
        self._run, self._interval, self._attempt = settings.run, settings.checkpoint_interval, attempt
        self._meta = {"seed": settings.seed, "batch": settings.batch}
        self._folder = CheckpointFolder(settings.run / "checkpoints")
        self._file, self._published = file, file.read()

    def resume(self, model: Model) -> bytes:
        """Give the newest good checkpoint, or step 0. Raises `ValueError` when it is of another run."""
        self._folder.sweep()
        found = self._folder.newest() or self._checkpoint(0, 0.0, model)
        if found.meta != self._meta:
            raise ValueError(f"{self._run}: found checkpoints of {dict(found.meta)}, expected {self._meta}")
        print(f"attempt {self._attempt}: starting after step {found.step}", flush=True)
        return found.encode()

    def after(self, step: int, loss: float, model: Model) -> None:
        """Save if it is time, then note the step. Raises `OSError` when a newer attempt has taken over."""
        if step % self._interval == 0:
            self._save(self._checkpoint(step, loss, model))
        self._note({"time": time.time(), "step": step, "loss": loss, "attempt": self._attempt})

    def finish(self, step: int, loss: float, model: Model) -> None:
        """Write the digest of the weights."""
        digest = hashlib.sha256(model.weights.tobytes()).hexdigest()
        final = {"steps": step, "weights_sha256": digest, "loss": loss}
        write_atomically(self._run / "final.json", f"{json.dumps(final)}\n".encode())
        self._file.remove()
        print(f"finished after step {step}", flush=True)

    def _checkpoint(self, step: int, loss: float, model: Model) -> Checkpoint:
        arrays = {"weights": model.weights, "momentum": model.momentum, "loss": np.array([loss])}
        return Checkpoint(step, self._meta, arrays)

    def _save(self, checkpoint: Checkpoint) -> None:
        if self._published is None or self._file.read() != self._published:
            raise OSError(f"{self._run}: a newer attempt than {self._attempt} has taken over")
        try:
            self._folder.save(checkpoint)
        except OSError as fault:
            print(f"checkpoint of step {checkpoint.step} not saved: {fault}; going on", file=sys.stderr, flush=True)

    def _note(self, line: Mapping[str, float]) -> None:
        try:
            _append(self._run / "progress.jsonl", json.dumps(line))
        except OSError as fault:
            print(f"progress not written: {fault}; going on", file=sys.stderr, flush=True)


def _append(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(line + "\n")
