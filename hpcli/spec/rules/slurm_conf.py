"""Rules about the free map `slurm_conf`: nothing that hpcli itself must say, and one parameter each.

Whether Slurm knows a parameter is not judged here: slurmctld is asked before anything is touched.
"""

import re
from collections.abc import Iterator

from hpcli.spec.model import Spec
from hpcli.spec.problems import Finding, show
from hpcli.spec.rules.rule import Limits, Rule

_OURS = "nothing: hpcli sets it"
OWNED: dict[str, str] = {
    "ClusterName": "name",
    "SlurmctldHost": "controller.name",
    "ControlMachine": "controller.name",
    "ControlAddr": "controller.name",
    "BackupController": "controller.name",
    "BackupAddr": "controller.name",
    "NodeName": "compute",
    "FrontendName": "compute",
    "DownNodes": "compute",
    "PartitionName": "partitions",
    "GresTypes": "compute[].gpus",
    "Prolog": "prolog",
    "Epilog": "epilog",
    "TopologyPlugin": "topology.plugin",
    "RebootProgram": "hosts.reboot_command",
    "AccountingStorageType": "accounting.enabled",
    "AccountingStorageHost": "accounting",
    "AccountingStoragePort": "accounting.database.port",
    "AccountingStoragePass": "accounting.database.password_file",
    "AccountingStorageUser": "accounting.database.user",
    "AccountingStorageLoc": "accounting.database.name",
    "AccountingStorageBackupHost": "accounting",
    "SlurmctldPort": "",
    "SlurmdPort": "",
    "SlurmUser": "",
    "SlurmdUser": "",
    "StateSaveLocation": "",
    "SlurmdSpoolDir": "",
    "SlurmctldPidFile": "",
    "SlurmdPidFile": "",
    "SlurmctldLogFile": "",
    "SlurmdLogFile": "",
    "AuthType": "",
    "AuthInfo": "",
    "CredType": "",
    "ReturnToService": "",
    "Include": "",
}
"""Parameters that hpcli writes, and the key of cluster.yaml that says them; "" where none does."""

REASONS = {
    "Include": "nothing: each parameter as a key of slurm_conf",
    "ReturnToService": f"{_OURS} to 1, so that a node that was set down stays down",
    "SlurmctldPort": f"{_OURS} (with provider local, local.first_port moves it)",
    "SlurmdPort": f"{_OURS} (with provider local, local.first_port moves it)",
    "JobCompPass": "nothing: everybody may read slurm.conf",
}
FREE_ACCOUNTING = frozenset({"accountingstoragetres", "accountingstorageenforce", "accountingstorageparameters"})

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_FAULTS = (
    (re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"), "one line of printable text"),
    (re.compile("#"), "a value without #, where Slurm's comments begin"),
    (re.compile(r"\\"), "a value without a backslash, which Slurm takes for the end of a line"),
    (re.compile(r"\s\S*="), "this parameter's value alone: every parameter is a key of its own"),
)
_QUOTES = re.compile(r'[^"]*|"[^"]*"')
_OWNED_BY_LOWER = {name.lower(): name for name in (*OWNED, "JobCompPass")}


def _names(spec: Spec, _: Limits) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for key in spec.slurm_conf:
        loc = ("slurm_conf", key)
        if not _NAME.fullmatch(key):
            yield Finding(loc, show(key), "the name of a parameter of slurm.conf(5), letters and digits only")
            continue
        first = seen.setdefault(key.lower(), key)
        if first != key:
            yield Finding(loc, f"{key} beside {first}", "each parameter once: Slurm ignores upper and lower case")
        expected = _owned(key)
        if expected:
            yield Finding(loc, f"{key}, which hpcli owns", expected)


def _owned(key: str) -> str:
    name = _OWNED_BY_LOWER.get(key.lower(), key)
    if name in REASONS:
        return REASONS[name]
    if name in OWNED:
        return f"{OWNED[name]} instead" if OWNED[name] else _OURS
    storage = key.lower().startswith("accountingstorage") and key.lower() not in FREE_ACCOUNTING
    return "accounting instead" if storage else ""


def _values(spec: Spec, _: Limits) -> Iterator[Finding]:
    for key, value in spec.slurm_conf.items():
        if _owned(key):  # told already, and it may be a password
            continue
        text = str(value)
        fault = next((expected for pattern, expected in _FAULTS if pattern.search(text)), "")
        if not fault and not text.strip():
            fault = "a value"
        if not fault and not _QUOTES.fullmatch(text):
            fault = "quotes around the whole value, or none"
        if fault:
            yield Finding(("slurm_conf", key), show(value), fault)


RULES = (Rule(_names), Rule(_values, ("slurm_conf",)))
