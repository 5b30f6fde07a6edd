"""Which of the two SSH transports carries us to a machine."""

import logging
import os
import shutil
import sys
from collections.abc import Mapping

from hpcli.errors import UsageFault
from hpcli.machines import RemoteTransport
from hpcli.transport.control import default_folder
from hpcli.transport.openssh import OpenSsh
from hpcli.transport.target import SshTarget

log = logging.getLogger(__name__)
FORCED = "HPCLI_SSH"
WAYS = ("openssh", "paramiko")


def connect(
    target: SshTarget, *, lasting: bool = False, environment: Mapping[str, str] | None = None
) -> RemoteTransport:
    """A transport that connects with its first program.

    OpenSSH where there is an `ssh` program, else paramiko; paramiko also for a process that lives on (`lasting`),
    which needs no shared connection. `HPCLI_SSH=openssh|paramiko` decides otherwise.
    """
    env = os.environ if environment is None else environment
    way, why = _choose(env, lasting)
    log.debug("%s: by %s, since %s", target.subject, way, why)
    if way == "openssh":
        terminal = sys.stdin is not None and sys.stdin.isatty()
        return OpenSsh(target, folder=default_folder(env.get("XDG_RUNTIME_DIR", "")), terminal=terminal)
    # Half a second to import, and most processes never need it.
    from hpcli.transport.ssh import ParamikoSsh

    return ParamikoSsh(target)


def _choose(env: Mapping[str, str], lasting: bool) -> tuple[str, str]:
    forced = env.get(FORCED, "")
    if forced:
        if forced not in WAYS:
            raise UsageFault(FORCED, f"found {forced!r}, expected one of: {', '.join(WAYS)}", f"unset {FORCED}")
        return forced, f"{FORCED} says so"
    program = shutil.which("ssh", path=env.get("PATH"))
    if not program:
        return "paramiko", "there is no ssh program on PATH"
    if lasting:
        return "paramiko", "this process lives on"
    return "openssh", f"{program} is there"
