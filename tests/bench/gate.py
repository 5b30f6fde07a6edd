"""What the Prolog gate costs a job's start: 200 runs of lifecycle-scripts/slurm/prolog. Beside it: /bin/true.

./run bench gate [--strict]
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.figures import Report, quantile

PROLOG = Path(__file__).parents[2] / "lifecycle-scripts" / "slurm" / "prolog"
RUNS = 200
LIMIT_MS = 10.0


def milliseconds(argv: list[str], env: dict[str, str]) -> list[float]:
    """Wall time of each run."""
    found = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run(argv, env=env, check=False, stdout=subprocess.DEVNULL)
        found.append(1000 * (time.perf_counter() - start))
    return found


def main() -> int:
    report = Report("gate")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "c1").mkdir()
        (folder / "c1" / "verdict").write_text("ok\n")
        (folder / "prolog.conf").write_text(f"verdict_dir={folder}\n")
        gate = folder / "prolog"
        gate.write_bytes(PROLOG.read_bytes())
        gate.chmod(0o700)
        times = milliseconds([str(gate)], {"SLURMD_NODENAME": "c1", "PATH": os.defpath})
        report.add("gate_p50", quantile(times, 0.5), "ms", LIMIT_MS)
        report.add("gate_p95", quantile(times, 0.95), "ms", LIMIT_MS)
        report.add("bin_true_p50", quantile(milliseconds(["/bin/true"], {}), 0.5), "ms")
    return report.finish(sys.argv)


if __name__ == "__main__":
    sys.exit(main())
