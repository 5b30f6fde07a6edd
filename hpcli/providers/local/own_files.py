"""Files of a local cluster: read with their owner and mode, written whole or not at all."""

import grp
import hashlib
import os
import pwd
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hpcli.domain.blueprint import ConfigFile
from hpcli.errors import HpcliError
from hpcli.machines import FoundFile


def read_found(paths: Iterable[str]) -> Mapping[str, FoundFile]:
    """Those that exist, undecodable bytes replaced. Raises `HpcliError` for one that cannot be read."""
    found: dict[str, FoundFile] = {}
    for name in paths:
        path = Path(name)
        try:
            content, status = path.read_bytes(), path.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HpcliError(name, error.strerror or str(error), "whose file is it?") from None
        digest = hashlib.sha256(content).hexdigest()
        owner, group = _user(status.st_uid), _group(status.st_gid)
        found[name] = FoundFile(digest, status.st_mode & 0o7777, owner, group, content.decode(errors="replace"))
    return found


def write_files(files: Sequence[ConfigFile]) -> None:
    """All of them beside their places first, then all renamed. Raises OSError; then nothing was renamed."""
    fresh: list[tuple[Path, Path]] = []
    try:
        for file in files:
            path = Path(file.path)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside = path.with_name(f".{path.name}.new")
            fresh.append((beside, path))
            _write(beside, file)
        for beside, path in fresh:
            beside.replace(path)
    finally:
        for beside, _ in fresh:
            beside.unlink(missing_ok=True)
    for folder in {path.parent for _, path in fresh}:
        _sync_folder(folder)


def _write(path: Path, file: ConfigFile) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as sink:
        sink.write(file.text)
        sink.flush()
        os.fchmod(descriptor, file.mode)
        os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
