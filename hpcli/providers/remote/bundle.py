"""One archive that puts hpcli on machines without a network: code, lifecycle scripts and wheels, and a site's files."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcli.errors import HpcliError
from hpcli.providers.remote.release import EPOCH, Release
from hpcli.transport import local_files

FOLDER = "hpcli-bundle"
INSTALL = "lifecycle/install"


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a bundle, by its name below the bundle's folder."""

    name: str
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Written:
    """A bundle as it lies on disk; `parts` gives the bytes of each of its folders before compression."""

    path: Path
    size: int
    sha256: str
    wheels: tuple[str, ...]
    parts: Mapping[str, int]


def bundle_name(release: Release, version: str) -> str:
    return f"hpcli-{version}-{release.id}.tar.gz"


def write_bundle(
    path: Path, release: Release, version: str, wheels: Path, site: Mapping[str, bytes] | None = None
) -> Written:
    """Write the archive whole or not at all; the same content gives the same bytes.

    `wheels` is a folder of wheels. `site`: by machine, its files as `pack_files` packs them; such a bundle holds
    secrets, and only its owner may read it. Raises `HpcliError`.
    """
    members = sorted(_members(release, version, wheels, site or {}), key=lambda member: member.name)
    archive = gzip.compress(_tar(members), compresslevel=6, mtime=0)
    local_files.put(archive, path, 0o600 if site else 0o644)
    return Written(
        path=path,
        size=len(archive),
        sha256=hashlib.sha256(archive).hexdigest(),
        wheels=tuple(member.name.removeprefix("wheels/") for member in members if member.name.startswith("wheels/")),
        parts=_parts(members),
    )


def _members(release: Release, version: str, wheels: Path, site: Mapping[str, bytes]) -> Iterator[Member]:
    yield from _unpacked(release)
    yield Member("release", f"{release.id}\n".encode())
    yield Member("version", f"{version}\n".encode())
    found = sorted(wheels.glob("*.whl"))
    if not found:
        raise HpcliError(str(wheels), "found no wheels, expected hpcli's requirements", "download them again")
    yield from (Member(f"wheels/{wheel.name}", wheel.read_bytes()) for wheel in found)
    yield from (Member(f"site/{name}.tar", files, 0o600) for name, files in site.items())


def _unpacked(release: Release) -> Iterator[Member]:
    """The release's own files, and its script `install` on top."""
    with tarfile.open(fileobj=io.BytesIO(release.archive), mode="r:gz") as tar:
        for one in tar:
            file = tar.extractfile(one)
            content = file.read() if file else b""
            yield Member(one.name, content, one.mode)
            if one.name == INSTALL:
                yield Member("install", content, 0o755)


def _tar(members: list[Member]) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member in members:
            entry = tarfile.TarInfo(f"{FOLDER}/{member.name}")
            entry.size, entry.mode, entry.mtime = len(member.content), member.mode, EPOCH
            tar.addfile(entry, io.BytesIO(member.content))
    return plain.getvalue()


def _parts(members: list[Member]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for member in members:
        folder, slash, _ = member.name.partition("/")
        if slash:
            sizes[folder] = sizes.get(folder, 0) + len(member.content)
    return sizes
