"""Checkpoint files: atomic, checksummed, and the newest good one is found again.

A file is a line `hpcli-checkpoint 1 <sha256 of all that follows>`, a line of JSON (step, meta, and
name, dtype and shape of each array), and the raw bytes of the arrays.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

KEEP = 2
MAGIC = b"hpcli-checkpoint 1 "


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after `step` steps; `meta` says what the run must have in common to go on from it."""

    step: int
    meta: Mapping[str, int]
    arrays: Mapping[str, NDArray[np.float64]]

    def encode(self) -> bytes:
        """Put into bytes, digest first."""
        layout = [[name, array.dtype.str, array.shape] for name, array in self.arrays.items()]
        header = json.dumps({"step": self.step, "meta": dict(self.meta), "arrays": layout}).encode()
        body = b"\n".join([header, b"".join(array.tobytes() for array in self.arrays.values())])
        return MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body

    @classmethod
    def decode(cls, content: bytes) -> "Checkpoint":
        """Raises `ValueError` unless every byte is the one that was written."""
        first, _, body = content.partition(b"\n")
        if first != MAGIC + hashlib.sha256(body).hexdigest().encode():
            raise ValueError(f"found {len(content)} bytes whose SHA-256 is not the one in their first line")
        header, _, data = body.partition(b"\n")
        head = json.loads(header)
        arrays, offset = {}, 0
        for name, dtype, shape in head["arrays"]:
            array = np.frombuffer(data, dtype=dtype, count=int(np.prod(shape)), offset=offset).reshape(shape)
            arrays[name] = array.copy()
            offset += array.nbytes
        return cls(head["step"], head["meta"], arrays)


class CheckpointFolder:
    """The newest checkpoints of one run; one writer at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, checkpoint: Checkpoint) -> None:
        """Write, then drop all but the newest two. Raises `OSError`; the older ones are intact then."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._folder / f"step-{checkpoint.step:09d}.ckpt", checkpoint.encode())
        for old in self._newest_first()[KEEP:]:
            old.unlink(missing_ok=True)

    def newest(self) -> Checkpoint | None:
        """Load the newest good checkpoint; bad ones are set aside as `rejected`, with a printed line."""
        for path in self._newest_first():
            try:
                return Checkpoint.decode(path.read_bytes())
            except ValueError as fault:
                print(f"checkpoint {path}: {fault}; trying the one before it", flush=True)
                path.replace(self._folder / "rejected")
        return None

    def sweep(self) -> None:
        """Remove what a killed save left behind."""
        for left in self._folder.glob("*.tmp"):
            left.unlink(missing_ok=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.ckpt"), reverse=True)


def write_atomically(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Have the whole content under this name, on disk, or what was there before. Raises `OSError`."""
    # The process id keeps a rank of an earlier attempt that is not dead yet out of our file.
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        part.touch(mode)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
