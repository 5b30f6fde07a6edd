"""Run the `hpcli` command as a process, against recorded Slurm output or a real Slurm."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

CASES = Path(__file__).parent.parent / "cases" / "slurm" / "22.05"

NOWHERE = "/nonexistent"
"""No configuration of whoever runs the tests."""

Run = Callable[..., "subprocess.CompletedProcess[str]"]

FAKE_SQUEUE = """#!/bin/sh
for arg; do case "$last" in -o) nonce=$(printf %.16s "$arg");; esac; last=$arg; done
[ -z "$nonce" ] && exec cat {cases}/jobs/queue.facts.txt
exec sed "s/0123456789abcdef/$nonce/g" {cases}/jobs/queue.txt
"""
FAKE_SCONTROL = "#!/bin/sh\ncat {cases}/nodes/cluster.txt\n"
FAKE_SCANCEL = '#!/bin/sh\necho "$@" >> "$0.calls"\n'
FAKE_SBATCH = """#!/bin/sh
printf '%s\\n' "$@" > "$0.calls"; env > "$0.env"; cat > "$0.stdin"
echo a site wrapper says hello; echo '77;cluster'
"""


def run_hpcli(*args: str, env: dict[str, str] | None = None, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "hpcli", *args]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "HPCLI", "NO_COLOR"))}
    own = {**clean, "XDG_CONFIG_HOME": NOWHERE, **(env or {})}
    return subprocess.run(argv, env=own, input=stdin, capture_output=True, text=True, timeout=120)


def run_on_terminal(*args: str, env: dict[str, str], width: int = 120) -> str:
    """Run with a terminal as standard output and give what it would have shown."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    argv = [sys.executable, "-m", "hpcli", *args]
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM", "COLUMNS")}
    with subprocess.Popen(argv, env={**clean, "TERM": "xterm", **env}, stdout=theirs, stdin=theirs) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    assert process.returncode == 0
    return shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


@pytest.fixture
def on_terminal() -> Callable[..., str]:
    return run_on_terminal


@pytest.fixture
def hpcli() -> Run:
    return run_hpcli


@pytest.fixture
def recorded_slurm(tmp_path: Path) -> dict[str, str]:
    """An environment whose Slurm programs repeat what real ones once said."""
    programs = {"squeue": FAKE_SQUEUE, "scontrol": FAKE_SCONTROL, "scancel": FAKE_SCANCEL, "sbatch": FAKE_SBATCH}
    for name, script in programs.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(script.replace("{cases}", str(CASES)))
        program.chmod(0o755)
    return {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
