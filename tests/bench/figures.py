"""What every bench prints and writes: one line per figure, and build/bench/NAME.json."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

BUILD = Path(__file__).parents[2] / "build" / "bench"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; `limit` None means that it is only reported. `least` turns the limit round."""

    name: str
    value: float | None
    unit: str
    limit: float | None = None
    least: bool = False

    @property
    def ok(self) -> bool:
        if self.limit is None:
            return True
        if self.value is None or math.isnan(self.value):
            return False
        return self.value >= self.limit if self.least else self.value <= self.limit

    def line(self) -> str:
        value = "missing" if self.value is None else f"{self.value:g}"
        limit = "-" if self.limit is None else f"{'>=' if self.least else '<='}{self.limit:g}"
        return f"{self.name} {value} {self.unit} {limit} {'ok' if self.ok else 'short'}"


@dataclass(slots=True)
class Report:
    """A bench's figures, printed as they come."""

    name: str
    figures: list[Figure] = field(default_factory=list)
    notes: dict[str, object] = field(default_factory=dict)

    def add(
        self, name: str, value: float | None, unit: str, limit: float | None = None, *, least: bool = False
    ) -> None:
        figure = Figure(name, None if value is None else round(value, 3), unit, limit, least)
        self.figures.append(figure)
        print(figure.line(), flush=True)

    def quantiles(self, name: str, values: Sequence[float], p50: float | None = None, p95: float | None = None) -> None:
        self.add(f"{name}_p50", quantile(values, 0.5), "s", p50)
        self.add(f"{name}_p95", quantile(values, 0.95), "s", p95)

    def finish(self, argv: Sequence[str]) -> int:
        """Write the JSON; with --strict, 1 when a figure falls short."""
        BUILD.mkdir(parents=True, exist_ok=True)
        short = [figure.name for figure in self.figures if not figure.ok]
        body = {"name": self.name, "notes": self.notes, "figures": [asdict(f) | {"ok": f.ok} for f in self.figures]}
        (BUILD / f"{self.name}.json").write_text(json.dumps(body, indent=1) + "\n")
        print(
            f"{self.name}: {len(self.figures) - len(short)} ok, {len(short)} short {' '.join(short)}", file=sys.stderr
        )
        return 1 if short and "--strict" in argv else 0


def quantile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank quantile: a value that was measured."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
