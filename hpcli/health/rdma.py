"""RDMA devices and their ports, as /sys/class/infiniband shows them."""

from dataclasses import dataclass

from hpcli.health import sysfs
from hpcli.ports import Host

CLASS = "/sys/class/infiniband"


@dataclass(frozen=True, slots=True)
class Port:
    """`state` and `physical` in the kernel's words ("ACTIVE", "LinkUp"), `rate` in Gb/s.

    `lost`: times that a port which is down now lost its link since the driver was loaded; 0 for one that is up.
    """

    name: str
    device: str
    driver: str
    layer: str
    state: str
    physical: str
    rate: float
    lost: int = 0

    @property
    def is_up(self) -> bool:
        return self.state == "ACTIVE" and self.physical in ("LinkUp", "")

    @property
    def is_efa(self) -> bool:
        return self.driver == "efa"


@dataclass(frozen=True, slots=True)
class Ports:
    """`ports` in the order of their names."""

    ports: tuple[Port, ...]


def ports(host: Host, exclude: str = "") -> Ports:
    """All ports but those of excluded devices. Raises ValueError where /sys shows no devices of any kind."""
    found = host.glob(f"{CLASS}/*/ports/*/state")
    if not found and not host.glob("/sys/class/*"):
        raise ValueError("/sys/class: found nothing, is /sys mounted?")
    kept = (path for path in found if not sysfs.matches(path.split("/")[4], exclude))
    return Ports(tuple(_port(host, path.removesuffix("/state")) for path in kept))


def _port(host: Host, folder: str) -> Port:
    device = folder.split("/")[4]
    state = _word(sysfs.text(host, f"{folder}/state"))
    return Port(
        name=f"{device}:{folder.rpartition('/')[2]}",
        device=device,
        driver=driver(host, device),
        layer=sysfs.text(host, f"{folder}/link_layer"),
        state=state,
        physical=_word(sysfs.text(host, f"{folder}/phys_state")),
        rate=sysfs.quantity(sysfs.text(host, f"{folder}/rate")),
        lost=0 if state == "ACTIVE" else sysfs.number(host, f"{folder}/counters/link_downed"),
    )


def driver(host: Host, device: str) -> str:
    """Name of the kernel driver behind an RDMA device, "" where it has none (software RDMA)."""
    lines = sysfs.text(host, f"{CLASS}/{device}/device/uevent").splitlines()
    return next((line.removeprefix("DRIVER=") for line in lines if line.startswith("DRIVER=")), "")


def _word(text: str) -> str:
    """`4: ACTIVE` is ACTIVE."""
    return text.partition(":")[2].strip() or text
