"""Build the simulated libnvidia-ml.so.1."""

import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml.c")
FOLDER = Path(__file__).parents[2] / "build" / "nvml"
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-shared", "-fPIC")


def compiler() -> str:
    """A C compiler's path, "" where there is none (Debian: gcc and libc6-dev)."""
    return shutil.which("gcc") or shutil.which("cc") or ""


def build() -> Path:
    """The folder for LD_LIBRARY_PATH; compiled when the source is newer. Raises CalledProcessError."""
    library = FOLDER / "libnvidia-ml.so.1"
    if not library.exists() or library.stat().st_mtime < SOURCE.stat().st_mtime:
        FOLDER.mkdir(parents=True, exist_ok=True)
        # Two test runs may build at the same time: each its own file, then one rename.
        fresh = FOLDER / f"build-{os.getpid()}.so"
        subprocess.run([compiler(), *FLAGS, "-o", str(fresh), str(SOURCE)], check=True)
        fresh.replace(library)
    return FOLDER
