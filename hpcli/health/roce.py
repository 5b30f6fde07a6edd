"""The check of RoCE settings: what a lossless Ethernet needs is set on every port or it is not lossless."""

from dataclasses import dataclass

from hpcli.domain.check import CheckResult, Remedy, Severity
from hpcli.health import rdma, sysfs
from hpcli.health.check import AnyCheck, Check, Context, Scope
from hpcli.health.rdma import Port
from hpcli.ports import Host

QOS_TIMEOUT = 5.0
"""Seconds for mlnx_qos, which is a Python program."""

GIDS = 16
"""Entries of a port's GID table that are looked at; those in use come first."""


@dataclass(frozen=True, slots=True)
class ConfigParameters:
    """What every RoCE port must have; "", 0 and -1 are not checked.

    `mtu` of the interface in bytes; `gid`: a kind of address that it must own, as "RoCE v2"; `pfc`: priorities
    with flow control and no others, as "3"; `ecn`: the priority on which congestion is signalled and obeyed.
    `names`: devices, globs with commas.
    """

    mtu: int = 0
    gid: str = ""
    pfc: str = ""
    ecn: int = -1
    names: str = "*"


@dataclass(frozen=True, slots=True)
class RocePort:
    """`pfc`: priorities with flow control, as "3" or "3,4"; "" when none has or mlnx_qos does not say."""

    name: str
    interface: str
    mtu: int
    gids: tuple[str, ...]
    pfc: str
    ecn: bool


@dataclass(frozen=True, slots=True)
class RocePorts:
    ports: tuple[RocePort, ...]


async def gather_config(host: Host, parameters: ConfigParameters) -> RocePorts:
    """Starts mlnx_qos once a port when `pfc` is given. Raises `NotFound` when it is not there then."""
    ports = [port for port in rdma.ports(host).ports if port.layer == "Ethernet" and port.is_up]
    ours = [port for port in ports if sysfs.matches(port.device, parameters.names)]
    return RocePorts(tuple([await _port(host, port, parameters) for port in ours]))


async def _port(host: Host, port: Port, parameters: ConfigParameters) -> RocePort:
    folder = f"{rdma.CLASS}/{port.device}/ports/{port.name.rpartition(':')[2]}/gid_attrs"
    interface = sysfs.text(host, f"{folder}/ndevs/0")
    kinds = {sysfs.text(host, f"{folder}/types/{index}") for index in range(GIDS)} - {""}
    pfc = ""
    if parameters.pfc and interface:
        answer = await host.run(["mlnx_qos", "-i", interface], timeout=QOS_TIMEOUT)
        pfc = parse_pfc(answer.out)
    ecn = [f"/sys/class/net/{interface}/ecn/{end}/enable/{parameters.ecn}" for end in ("roce_np", "roce_rp")]
    return RocePort(
        port.name,
        interface,
        sysfs.number(host, f"/sys/class/net/{interface}/mtu"),
        tuple(sorted(kinds)),
        pfc,
        all(sysfs.text(host, path) == "1" for path in ecn),
    )


def parse_pfc(text: str) -> str:
    """Parse `mlnx_qos -i`: under `PFC configuration:`, a line of priorities and one of 0 and 1."""
    rows = dict[str, list[str]]()
    for line in text.partition("PFC configuration:")[2].splitlines()[:5]:
        name, *cells = line.split() or [""]
        rows.setdefault(name, cells)
    pairs = zip(rows.get("priority", []), rows.get("enabled", []), strict=False)
    return ",".join(priority for priority, enabled in pairs if enabled == "1")


def judge_config(evidence: RocePorts, parameters: ConfigParameters) -> CheckResult:
    """One port without flow control drops packets under load, and every job that spans it crawls."""
    if not evidence.ports:
        message = f"no RoCE port of a device named {parameters.names} is up"
        return CheckResult("roce.config", Severity.UNKNOWN, message)
    faults = [(port, fault) for port in evidence.ports for fault in _faults(port, parameters)]
    if not faults:
        return CheckResult("roce.config", Severity.OK, f"{len(evidence.ports)} ports set as expected")
    port = faults[0][0]
    shown = sysfs.some(f"{port.name} ({port.interface}): {fault}" for port, fault in faults)
    hint = f"set it again, and for the next boot too: mlnx_qos -i {port.interface}, ip link"
    return CheckResult("roce.config", Severity.CRITICAL, shown, Remedy.DRAIN, component=port.name, hint=hint)


def _faults(port: RocePort, parameters: ConfigParameters) -> list[str]:
    faults = []
    if parameters.mtu and port.mtu != parameters.mtu:
        faults.append(f"MTU {port.mtu}, expected {parameters.mtu}")
    if parameters.gid and parameters.gid not in port.gids:
        faults.append(f"no address of kind {parameters.gid}")
    if parameters.pfc and port.pfc != ",".join(sysfs.words(parameters.pfc)):
        faults.append(f"flow control on priority {port.pfc or 'none'}, expected {parameters.pfc}")
    if parameters.ecn >= 0 and not port.ecn:
        faults.append(f"no ECN on priority {parameters.ecn}")
    return faults


def _any_expectation(parameters: ConfigParameters) -> bool:
    return bool(parameters.mtu or parameters.gid or parameters.pfc or parameters.ecn >= 0)


CONFIG = Check(
    name="roce.config",
    detects="a RoCE port whose settings are not the fabric's",
    source="/sys/class/infiniband, /sys/class/net, mlnx_qos",
    scope=Scope.MACHINE,
    parameters=ConfigParameters,
    gather=gather_config,
    judge=judge_config,
    evidence=RocePorts,
    applies=_any_expectation,
    contexts=frozenset({Context.ACCEPTANCE}),
    timeout=30.0,
)

CHECKS: tuple[AnyCheck, ...] = (CONFIG,)
