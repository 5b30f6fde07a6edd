"""The folder that stands for a node's machine: its devices, kernel log, boot and instance id.

`hardware/` is what is plugged in, `dev/` what the running kernel sees: booting copies the one to
the other, so a device lost by the kernel comes back with a reboot and a broken one does not.
"""

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MachineFolder:
    """One node's machine under `folder`, with `gpus` GPUs."""

    folder: Path
    gpus: int

    @property
    def dev(self) -> Path:
        return self.folder / "dev"

    @property
    def hardware(self) -> Path:
        return self.folder / "hardware"

    @property
    def kernel_log(self) -> Path:
        return self.folder / "kernel.log"

    @property
    def fitted_file(self) -> Path:
        return self.folder / "gpus"

    @property
    def boot_id_file(self) -> Path:
        return self.folder / "boot_id"

    @property
    def instance_id_file(self) -> Path:
        return self.folder / "instance_id"

    @property
    def boot_id(self) -> str:
        return _read(self.boot_id_file)

    @property
    def instance_id(self) -> str:
        return _read(self.instance_id_file)

    def assemble(self) -> None:
        """Make the machine anew, every device in place, switched off."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.hardware.mkdir(parents=True)
        for number in range(self.gpus):
            (self.hardware / f"nvidia{number}").touch()
        _write(self.fitted_file, str(self.gpus))
        _write(self.instance_id_file, f"i-{uuid.uuid4().hex[:12]}")

    def fit(self) -> None:
        """Plug in or out what a changed number of GPUs asks for, running or not; broken ones stay broken."""
        had = self._fitted()
        if had == self.gpus:
            return
        for folder in (self.hardware, self.dev):
            for number in range(had, self.gpus):
                (folder / f"nvidia{number}").touch()
            for number in range(self.gpus, had):
                (folder / f"nvidia{number}").unlink(missing_ok=True)
        _write(self.fitted_file, str(self.gpus))

    def _fitted(self) -> int:
        """How many GPUs it was made for."""
        if self.fitted_file.exists():
            return int(_read(self.fitted_file))
        return 1 + max((int(file.name.removeprefix("nvidia")) for file in self.hardware.glob("nvidia*")), default=-1)

    def switch_on(self) -> None:
        """Boot: devices as the hardware has them, an empty kernel log, a new boot id."""
        shutil.rmtree(self.dev, ignore_errors=True)
        self.dev.mkdir()
        for device in self.hardware.iterdir():
            (self.dev / device.name).touch()
        if self.kernel_log.exists():
            self.kernel_log.rename(self.folder / "kernel.log.1")
        self.kernel_log.touch()
        _write(self.boot_id_file, str(uuid.uuid4()))

    def switch_off(self) -> None:
        """A machine that is off has no boot id; agents then keep silent about it."""
        self.boot_id_file.unlink(missing_ok=True)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _write(path: Path, text: str) -> None:
    """Replace in one step: an agent may be reading."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text + "\n")
    fresh.replace(path)
