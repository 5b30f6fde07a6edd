"""Asks NVML in a process of its own, since a call may hang in the kernel: one line in, one line of JSON out.

Imports nothing of hpcli: the process lives as long as the agent, and there is one on each GPU node. Started by
hpcli/probe/nvml.py, which knows the answer's shape from hpcli/domain/gpus.py.
"""

import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from itertools import takewhile
from queue import SimpleQueue
from types import ModuleType
from typing import Any

Reading = dict[str, Any]

QUIET = frozenset({2, 3, 4, 13, 21, 25, 26})
"""nvmlReturn_t that only say that this GPU, driver or user cannot tell: invalid argument, not supported, no
permission, function not found, no data, version mismatch, deprecated."""

LOST = {15: "lost", 16: "reset_required"}
NOT_SUPPORTED, CORRUPTED_INFOROM = 3, 14
NO_DRIVER = frozenset({9, 12})
"""Driver not loaded, library not found."""

MAX_LINKS, MAX_FAILED = 36, 5
FIELD_MEMORY_TEMPERATURE, FIELD_LINK_COUNT, FIELD_LINK_BER, FIELD_RECOVERY_ACTION = 82, 91, 220, 230
MEMORY_V2, DRAM, SRAM = 0x02000028, 2, 7
CORRECTED, UNCORRECTED, VOLATILE, AGGREGATE = 0, 1, 0, 1
SM_CLOCK, SLOWDOWN, MEMORY_MAX = 1, 1, 2


class Device:
    """One GPU. A call that fails gives None; why is kept in `loss` and `failed`."""

    def __init__(self, nvml: ModuleType, index: int) -> None:
        self.nvml, self.index = nvml, index
        self.loss = ""
        self.failed: list[str] = []
        self.handle: Any = None
        self.handle = self._call("nvmlDeviceGetHandleByIndex", index)

    def ask(self, function: str, *arguments: object) -> Any:
        """A lost GPU is not asked again: each call to it may take seconds."""
        if self.handle is None or self.loss:
            return None
        return self._call(function, self.handle, *arguments)

    def flag(self, function: str) -> bool | None:
        value = self.ask(function)
        return None if value is None else bool(value)

    def watts(self, function: str) -> float | None:
        value = self.ask(function)
        return None if value is None else value / 1000

    def field(self, number: int, scope: int = 0) -> int | None:
        """A field value; every kind that we read is a whole number."""
        values = self.ask("nvmlDeviceGetFieldValues", [(number, scope)])
        if values is None or values[0].nvmlReturn:
            return None
        return int(values[0].value.uiVal)

    def inforom_ok(self) -> bool | None:
        """The call's whole answer is whether it succeeds."""
        if self.handle is None or self.loss:
            return None
        try:
            self.nvml.nvmlDeviceValidateInforom(self.handle)
        except (AttributeError, self.nvml.NVMLError) as error:
            code = getattr(error, "value", NOT_SUPPORTED)
            self._note("nvmlDeviceValidateInforom", code)
            return False if code == CORRUPTED_INFOROM else None
        return True

    def bus_id(self) -> str | None:
        pci = self.ask("nvmlDeviceGetPciInfo")
        try:
            return None if pci is None else str(pci.busId)
        except UnicodeDecodeError:
            return None

    def _call(self, function: str, *arguments: object) -> Any:
        try:
            return getattr(self.nvml, function)(*arguments)
        except (AttributeError, UnicodeDecodeError):
            # An older binding lacks the function; a damaged GPU may send bytes that are no text.
            return None
        except self.nvml.NVMLError as error:
            self._note(function, error.value)
            return None

    def _note(self, function: str, code: int) -> None:
        if code in LOST:
            self.loss = LOST[code]
        elif code not in QUIET and code != CORRUPTED_INFOROM and len(self.failed) < MAX_FAILED:
            self.failed.append(f"{function}: {code}")


def read_gpu(nvml: ModuleType, index: int, known: dict[int, Reading]) -> Reading:
    """One GPU's readings. `known` remembers who it was, since a lost one does not say."""
    device = Device(nvml, index)
    model = device.ask("nvmlDeviceGetName")
    pci = device.bus_id()
    if pci is not None:
        known[index] = {"pci": pci, "uuid": device.ask("nvmlDeviceGetUUID")}
    utilization = device.ask("nvmlDeviceGetUtilizationRates")
    busy = None if utilization is None else utilization.gpu
    groups = {
        "memory": _memory(device),
        "heat": {**_heat(device), "utilization": busy},
        "pcie": {**_pcie(device), "utilization": busy},
        "nvlink": {**_nvlink(device), **_fabric(device), "model": model},
        "setup": {
            "model": model,
            "vbios": device.ask("nvmlDeviceGetVbiosVersion"),
            "persistence": device.flag("nvmlDeviceGetPersistenceMode"),
        },
        "use": _use(device),
        "life": {
            **known.get(index, {}),
            "inforom_ok": device.inforom_ok(),
            "recovery_action": device.field(FIELD_RECOVERY_ACTION),
        },
    }
    groups["life"] |= {"loss": device.loss, "failed": device.failed}
    return groups


def _memory(device: Device) -> Reading:
    def errors(kind: int, since: int, place: int) -> Any:
        return device.ask("nvmlDeviceGetMemoryErrorCounter", kind, since, place)

    rows = device.ask("nvmlDeviceGetRemappedRows") or (None, None, None, None)
    # Rows took the place of pages with the Ampere generation: a GPU has one or the other.
    pages = [None if rows[0] is not None else device.ask("nvmlDeviceGetRetiredPages", cause) for cause in (0, 1)]
    return {
        "volatile_uncorrected": device.ask("nvmlDeviceGetTotalEccErrors", UNCORRECTED, VOLATILE),
        "volatile_corrected_dram": errors(CORRECTED, VOLATILE, DRAM),
        "volatile_corrected_sram": errors(CORRECTED, VOLATILE, SRAM),
        "aggregate_uncorrected_sram": errors(UNCORRECTED, AGGREGATE, SRAM),
        "rows_corrected": rows[0],
        "rows_uncorrected": rows[1],
        "rows_pending": None if rows[2] is None else bool(rows[2]),
        "rows_failed": None if rows[3] is None else bool(rows[3]),
        "pages_single": None if pages[0] is None else len(pages[0]),
        "pages_double": None if pages[1] is None else len(pages[1]),
        "pages_pending": None if pages[0] is None else device.flag("nvmlDeviceGetRetiredPagesPendingStatus"),
    }


def _heat(device: Device) -> Reading:
    reasons = device.ask("nvmlDeviceGetCurrentClocksEventReasons")
    if reasons is None:
        reasons = device.ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    return {
        "celsius": device.ask("nvmlDeviceGetTemperature", 0),
        "slowdown": device.ask("nvmlDeviceGetTemperatureThreshold", SLOWDOWN),
        "margin": device.ask("nvmlDeviceGetMarginTemperature"),
        "memory_celsius": device.field(FIELD_MEMORY_TEMPERATURE),
        "memory_max": device.ask("nvmlDeviceGetTemperatureThreshold", MEMORY_MAX),
        "reasons": reasons,
        "sm_clock": device.ask("nvmlDeviceGetClockInfo", SM_CLOCK),
        "sm_clock_max": device.ask("nvmlDeviceGetMaxClockInfo", SM_CLOCK),
        "power": device.watts("nvmlDeviceGetPowerUsage"),
        "power_limit": device.watts("nvmlDeviceGetEnforcedPowerLimit"),
    }


def _pcie(device: Device) -> Reading:
    return {
        "generation": device.ask("nvmlDeviceGetCurrPcieLinkGeneration"),
        "generation_max": device.ask("nvmlDeviceGetMaxPcieLinkGeneration"),
        "width": device.ask("nvmlDeviceGetCurrPcieLinkWidth"),
        "width_max": device.ask("nvmlDeviceGetMaxPcieLinkWidth"),
        "replays": device.ask("nvmlDeviceGetPcieReplayCounter"),
    }


def _nvlink(device: Device) -> Reading:
    count = device.field(FIELD_LINK_COUNT)
    states = list(_links(device, MAX_LINKS if count is None else min(count, MAX_LINKS)))
    links = [number for number, active in enumerate(states) if active]

    def total(*counters: int) -> int | None:
        found = [device.ask("nvmlDeviceGetNvLinkErrorCounter", link, each) for link in links for each in counters]
        known = [value for value in found if value is not None]
        return sum(known) if known else None

    rates = [_rate(device.field(FIELD_LINK_BER, link)) for link in links]
    return {
        "active": states,
        "replays": total(0),
        "recoveries": total(1),
        "crc": total(2, 3),
        "worst_ber": max((rate for rate in rates if rate is not None), default=None),
    }


def _links(device: Device, count: int) -> Iterator[bool]:
    states = (device.ask("nvmlDeviceGetNvLinkState", link) for link in range(count))
    return (bool(state) for state in takewhile(lambda state: state is not None, states))


def _rate(packed: int | None) -> float | None:
    """NVML packs a bit error rate as mantissa and negative exponent of ten (nvml.h: NVML_NVLINK_BER_*)."""
    if packed is None:
        return None
    return float((packed >> 8) & 0xF) * 10.0 ** -(packed & 0xFF)


def _fabric(device: Device) -> Reading:
    if not hasattr(device.nvml, "c_nvmlGpuFabricInfoV_t"):
        return {}
    found = device.nvml.c_nvmlGpuFabricInfoV_t()
    if device.ask("nvmlDeviceGetGpuFabricInfoV", device.nvml.byref(found)) is None:
        return {}
    return {"fabric_state": found.state, "fabric_status": found.status, "fabric_health": found.healthMask}


def _use(device: Device) -> Reading:
    memory = device.ask("nvmlDeviceGetMemoryInfo", MEMORY_V2)
    mig = device.ask("nvmlDeviceGetMigMode")
    compute = device.ask("nvmlDeviceGetComputeRunningProcesses")
    graphics = device.ask("nvmlDeviceGetGraphicsRunningProcesses")
    listed = compute is not None and graphics is not None
    return {
        "memory_used": None if memory is None else memory.used >> 20,
        "processes": sorted({found.pid for found in [*compute, *graphics]}) if listed else None,
        "mig": None if mig is None else bool(mig[0]),
    }


def snapshot(nvml: ModuleType, known: dict[int, Reading]) -> Reading:
    """All of it, or why there is nothing."""
    taken = time.monotonic()
    try:
        gpus = [read_gpu(nvml, index, known) for index in range(nvml.nvmlDeviceGetCount())]
        version = str(nvml.nvmlSystemGetDriverVersion())
    except nvml.NVMLError as error:
        return _refused(error)
    return {"driver": "running", "version": version, "taken": taken, "gpus": gpus}


def start() -> tuple[ModuleType | None, Reading]:
    """The binding, initialised, and {}; or what the answer is while there is no driver."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None, {"driver": "unbound", "why": "nvidia-ml-py is not installed"}
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return None, _refused(error)
    return nvml, {}


def _refused(error: Any) -> Reading:
    driver = "missing" if error.value in NO_DRIVER else "failing"
    return {"driver": driver, "why": f"NVML error {error.value}: {error}"}


def _requests() -> "SimpleQueue[str]":
    """Lines of standard input. When it closes we end at once, even while a call hangs."""
    waiting: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            waiting.put(line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    return waiting


def _say(answer: Reading) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Say who we are before the first call that may hang; then one answer a question."""
    _say({"pid": os.getpid()})
    waiting = _requests()
    nvml: ModuleType | None = None
    known: dict[int, Reading] = {}
    while True:
        waiting.get()
        nvml, refusal = (nvml, {}) if nvml else start()
        _say(snapshot(nvml, known) if nvml else refusal)


if __name__ == "__main__":
    main()
