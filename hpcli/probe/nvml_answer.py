"""The NVML child's answer as domain values. What is missing or of the wrong type counts as not told."""

import json
from dataclasses import fields
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from hpcli.domain.gpus import (
    Driver,
    Gpu,
    GpuHeat,
    GpuLife,
    GpuMemory,
    GpuNvlink,
    GpuPcie,
    Gpus,
    GpuSetup,
    GpuUse,
)

Group = TypeVar("Group", GpuLife, GpuMemory, GpuHeat, GpuPcie, GpuNvlink, GpuSetup, GpuUse)


def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind) if field.name != "gpu"}


_HINTS = {kind: _hints(kind) for kind in (GpuLife, GpuMemory, GpuHeat, GpuPcie, GpuNvlink, GpuSetup, GpuUse)}


def parse_answer(line: bytes) -> Gpus:
    """Raises ValueError, KeyError or TypeError for what the child would never write."""
    raw = json.loads(line)
    if not isinstance(raw, dict):
        raise TypeError(f"found {raw!r:.80}, expected an object")
    gpus = tuple(_gpu(index, found) for index, found in enumerate(raw.get("gpus", [])))
    return Gpus(
        Driver(raw["driver"]),
        str(raw.get("why", "")),
        version=str(raw.get("version", "")),
        taken=float(raw.get("taken", 0.0)),
        gpus=gpus,
    )


def _gpu(index: int, raw: dict[str, Any]) -> Gpu:
    return Gpu(
        life=_group(GpuLife, index, raw["life"]),
        memory=_group(GpuMemory, index, raw["memory"]),
        heat=_group(GpuHeat, index, raw["heat"]),
        pcie=_group(GpuPcie, index, raw["pcie"]),
        nvlink=_group(GpuNvlink, index, raw["nvlink"]),
        setup=_group(GpuSetup, index, raw["setup"]),
        use=_group(GpuUse, index, raw["use"]),
    )


def _group(kind: type[Group], index: int, raw: dict[str, Any]) -> Group:
    told = ((name, hint, raw[name]) for name, hint in _HINTS[kind].items() if name in raw)
    return kind(index, **{name: _made(value, hint) for name, hint, value in told if _fits(value, hint)})


def _fits(value: object, hint: Any) -> bool:
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    if get_origin(hint) is UnionType:
        return any(_fits(value, one) for one in get_args(hint))
    if hint is NoneType:
        return value is None
    if hint is float:
        return type(value) in (int, float)
    if issubclass(hint, StrEnum):
        return value in {str(member) for member in hint}
    return type(value) is hint


def _made(value: Any, hint: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return hint(value) if isinstance(hint, type) and issubclass(hint, StrEnum) else value
