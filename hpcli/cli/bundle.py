"""`hpcli bundle`: one archive for machines without a network."""

import asyncio
import platform
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcli import app
from hpcli.cli.interrupt import end_like_ctrl_c
from hpcli.cli.options import Options, common_options
from hpcli.cli.output import Output
from hpcli.cli.progress import StderrProgress
from hpcli.errors import NotFound, UsageFault
from hpcli.version import __version__

if TYPE_CHECKING:
    from hpcli.providers.remote.bundle import Written
    from hpcli.providers.remote.wheels import Target

OLDEST = 11
MIB = 1 << 20


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="The archive, or a folder for it."
)
@click.option(
    "--python", "pythons", multiple=True, metavar="X.Y", help="A Python of the machines [3.11 to 3.14, and this one]."
)
@click.option("--arch", "archs", multiple=True, metavar="ARCH", help="What `uname -m` says there [as here].")
@common_options
def bundle(options: Options, output: Path | None, pythons: tuple[str, ...], archs: tuple[str, ...]) -> None:
    """Make one archive that installs hpcli without a network, a compiler, pip or python3-venv.

    It holds this hpcli, its lifecycle scripts, and every Python package that it needs, as wheels from the index
    that pip uses here. --python and --arch may be repeated. On a machine, as root:

    \b
      tar -xzf hpcli-*.tar.gz && hpcli-bundle/install

    or as anybody `hpcli-bundle/install --prefix ~/hpcli`.

    \b
    Examples:
      hpcli bundle
      hpcli bundle -o /tmp/ --python 3.11 --arch x86_64 --arch aarch64
    """
    end_like_ctrl_c()
    targets = _targets(pythons, archs or (platform.machine(),))
    progress = StderrProgress(options)
    try:
        written = asyncio.run(_make(output or Path(), targets, progress))
    finally:
        progress.done()
    found = {
        "path": str(written.path),
        "size": written.size,
        "sha256": written.sha256,
        "version": __version__,
        "targets": [{"python": target.python, "arch": target.arch} for target in targets],
        "parts": written.parts,
        "wheels": written.wheels,
    }
    Output(options).result(found, _text(written, targets))


async def _make(output: Path, targets: "tuple[Target, ...]", progress: StderrProgress) -> "Written":
    from hpcli.providers.remote.bundle import bundle_name, write_bundle
    from hpcli.providers.remote.release import requirements, this_release
    from hpcli.providers.remote.wheels import Downloads

    release = this_release()
    path = output / bundle_name(release, __version__) if output.is_dir() else output
    if not path.parent.is_dir():
        raise NotFound(str(path.parent), "no such folder on this machine", "make it first")
    with tempfile.TemporaryDirectory(prefix="hpcli-bundle-") as folder:
        downloads = Downloads(app.local_transport(), sys.executable, progress)
        await downloads.fetch(requirements().splitlines(), targets, Path(folder))
        progress.step(f"writing {path}")
        return write_bundle(path, release, __version__, Path(folder))


def _targets(pythons: tuple[str, ...], archs: tuple[str, ...]) -> "tuple[Target, ...]":
    from hpcli.providers.remote.wheels import Target, usual_pythons

    for python in pythons:
        found = re.fullmatch(r"3\.(\d{1,3})", python)
        if not found or int(found[1]) < OLDEST:
            raise UsageFault("--python", f"found {python}, expected a version from 3.{OLDEST}", "for example 3.12")
    for arch in archs:
        if not re.fullmatch(r"[a-z0-9_]+", arch):
            raise UsageFault("--arch", f"found {arch}, expected what `uname -m` says", "x86_64 or aarch64")
    # Each once, in the order given.
    wanted = tuple(dict.fromkeys(pythons)) or usual_pythons()
    return tuple(Target(python, arch) for arch in dict.fromkeys(archs) for python in wanted)


def _text(written: "Written", targets: "tuple[Target, ...]") -> str:
    pythons = ", ".join(dict.fromkeys(target.python for target in targets))
    archs = ", ".join(dict.fromkeys(target.arch for target in targets))
    parts = ", ".join(f"{name} {size / MIB:.1f}" for name, size in sorted(written.parts.items()))
    return "\n".join(
        (
            f"{written.path}: {written.size / MIB:.1f} MiB",
            f"  for      Python {pythons} on {archs}, glibc 2.28 or newer",
            f"  holds    {len(written.wheels)} wheels; MiB unpacked: {parts}",
            f"  sha256   {written.sha256}",
            "  install  tar -xzf it on a machine, then hpcli-bundle/install (root), or --prefix DIR (anybody)",
        )
    )
