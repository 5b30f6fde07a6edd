"""A plan as a file: what will be done, and the spec that it was made for."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hpcli.domain.change import Change, Disruption, HandEdit, Part, Plan

VERSION = 1


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """`spec_path` is absolute: files that the spec names are beside it."""

    plan: Plan
    spec_path: str
    spec_text: str


def to_json(saved: SavedPlan) -> str:
    return json.dumps({"version": VERSION, **asdict(saved)}, indent=1) + "\n"


def from_json(text: str) -> SavedPlan:
    """Raises ValueError, KeyError or TypeError for what `to_json` did not write."""
    raw = json.loads(text)
    if raw["version"] != VERSION:
        raise ValueError(f"found version {raw['version']}, expected {VERSION}")
    return SavedPlan(_plan(raw["plan"]), str(raw["spec_path"]), str(raw["spec_text"]))


def _plan(raw: Mapping[str, Any]) -> Plan:
    changes = tuple(
        Change(**{**change, "disruption": Disruption(change["disruption"]), "part": Part(change["part"])})
        for change in raw["changes"]
    )
    edits = tuple(HandEdit(**edit) for edit in raw["edits"])
    return Plan(raw["cluster"], raw["base"], raw["goal"], changes, edits, tuple(raw["notes"]))
