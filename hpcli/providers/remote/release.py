"""What is pushed to every machine: the lifecycle scripts and hpcli itself, as one archive."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import requires
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]
DISTRIBUTION = "hpcli-slurm"
LEFT_OUT = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache"})
PACKAGE_FOLDERS = ("debs", "wheels")
EPOCH = 315532800
"""The same content gives the same archive: 1980, the earliest that every archiver knows."""


@dataclass(frozen=True, slots=True)
class Release:
    """A gzipped tar, and the name by which a machine knows that it has it already."""

    archive: bytes
    id: str


@cache
def this_release() -> Release:
    """Pack the hpcli that is running."""
    return pack(PACKAGE, requirements())


def requirements() -> str:
    """What hpcli needs at run time, one requirement a line; extras are left out."""
    pushed = PACKAGE.parent / "requirements.txt"
    if pushed.exists():
        # On a machine of a cluster hpcli is no installed distribution: it lies there as we once pushed it.
        return pushed.read_text()
    return "".join(f"{line}\n" for line in requires(DISTRIBUTION) or () if "extra ==" not in line)


def pack(package: Path, needed: str) -> Release:
    """Pack `package` as code/hpcli, its lifecycle-scripts as lifecycle, and the requirements."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _add_tree(tar, package / "lifecycle-scripts", "lifecycle", executable=True)
        _add_tree(tar, package, "code/hpcli", skip=("lifecycle-scripts",))
        _add_tree(tar, package / "lifecycle-scripts", "code/hpcli/lifecycle-scripts", executable=True)
        _add(tar, "code/requirements.txt", needed.encode())
    content = plain.getvalue()
    return Release(gzip.compress(content, compresslevel=6, mtime=0), hashlib.sha256(content).hexdigest()[:16])


def _add_tree(
    tar: tarfile.TarFile, root: Path, name: str, *, skip: Sequence[str] = (), executable: bool = False
) -> None:
    for path in _files(root.resolve()):
        inside = path.relative_to(root.resolve())
        if inside.parts[0] not in skip:
            _add(tar, f"{name}/{inside}", path.read_bytes(), 0o755 if executable and _runs(path) else 0o644)


def _files(root: Path) -> Iterator[Path]:
    """Regular files below `root`, links to folders followed, in a stable order."""
    for path in sorted(root.iterdir()):
        if path.name in LEFT_OUT or path.suffix == ".pyc":
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.is_file():
            yield path


def _runs(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o100)


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), mode, EPOCH
    tar.addfile(member, io.BytesIO(content))


def pack_files(files: Sequence[tuple[str, int, str, str, str]]) -> bytes:
    """Pack (path, mode, owner, group, text) as `lifecycle/files write` takes it: a manifest and numbered members."""
    plain = io.BytesIO()
    rows = [f"{path}\t{mode:o}\t{owner}\t{group}\t{i}\n" for i, (path, mode, owner, group, _) in enumerate(files)]
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _add(tar, "manifest.tsv", "".join(rows).encode())
        for i, (_path, _mode, _owner, _group, text) in enumerate(files):
            _add(tar, str(i), text.encode())
    return plain.getvalue()


def pack_folder(folder: Path) -> Release:
    """Pack debs/ and wheels/ of a folder for machines without a network; a bundle's other parts are not theirs."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as tar:
        parts = (folder / part for part in PACKAGE_FOLDERS)
        for path in (path for part in parts if part.is_dir() for path in _files(part)):
            _add(tar, str(path.relative_to(folder)), path.read_bytes())
    content = plain.getvalue()
    return Release(gzip.compress(content, compresslevel=1, mtime=0), hashlib.sha256(content).hexdigest()[:16])
