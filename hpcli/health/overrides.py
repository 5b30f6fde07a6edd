"""What a site may write under `health:` in cluster.yaml, judged before any agent reads it."""

from collections.abc import Mapping

from hpcli.errors import HpcliError
from hpcli.health.check import prepare
from hpcli.health.kernel_log import load_table
from hpcli.health.registry import CHECKS


def fault_of(section: str, key: str, value: Mapping[str, object]) -> HpcliError | None:
    """Why the agents would refuse `health.<section>.<key>: value`; None when they take it."""
    try:
        if section == "kernel_log":
            load_table({key: value})
        for check in CHECKS:
            if section == "checks" and check.name == key:
                prepare(check, value)
    except HpcliError as error:
        return error
    return None
