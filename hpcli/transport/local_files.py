"""Files of this machine, written whole or not at all."""

import os
import tempfile
from pathlib import Path

from hpcli.errors import HpcliError, NotFound


def put(content: bytes, path: Path, mode: int) -> None:
    """Replace a file in one step, on disk when this returns. Raises `HpcliError`; then nothing is left behind."""
    try:
        number, name = tempfile.mkstemp(prefix=".hpcli.", dir=path.parent)
    except OSError as error:
        raise HpcliError(str(path), f"found {error.strerror}, expected to write it", "check its folder") from None
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(number, mode)
            os.fsync(number)
        Path(name).replace(path)
    except OSError as error:
        raise HpcliError(str(path), f"found {error.strerror}, expected to write it", "free some space") from None
    finally:
        Path(name).unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def get(path: Path) -> bytes:
    """Raises `NotFound` or `HpcliError`."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(str(path), "no such file") from None
    except OSError as error:
        raise HpcliError(str(path), f"found {error.strerror}, expected to read it", "") from None
