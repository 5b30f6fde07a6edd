"""The folder and the files by which `ssh` processes share one connection and obey our rules."""

import hashlib
import os
import socket
import stat
from dataclasses import astuple, dataclass
from pathlib import Path

from hpcli.errors import HpcliError
from hpcli.transport import local_files
from hpcli.transport.faults import CONNECT_LIMIT
from hpcli.transport.target import SshTarget

LONGEST = 80
"""Of the socket's path: ssh binds it with 17 characters more first, and the kernel takes 107."""

RULES = f"""\
StrictHostKeyChecking yes
UpdateHostKeys no
VerifyHostKeyDNS no
NoHostAuthenticationForLocalhost no
ConnectTimeout {CONNECT_LIMIT}
ServerAliveInterval 5
ServerAliveCountMax 3
LogLevel ERROR
RequestTTY no
RemoteCommand none
PermitLocalCommand no
ForwardAgent no
ForwardX11 no
"""
"""Read before any configuration of the user: in ssh the first value counts. Jump hosts obey them as well."""


@dataclass(frozen=True, slots=True)
class Control:
    """What is particular to one target: its shared socket, and its configuration without and with questions."""

    socket: Path
    quiet: Path
    asking: Path
    lock: Path

    def answers(self) -> bool:
        """Whether a shared connection is there to be used."""
        with socket.socket(socket.AF_UNIX) as ours:
            ours.setblocking(False)
            try:
                ours.connect(str(self.socket))
            except BlockingIOError:
                return True
            except OSError:
                return False
        return True


def default_folder(runtime: str = "", uid: int | None = None) -> Path:
    """A private folder for sockets; `runtime` is XDG_RUNTIME_DIR."""
    if runtime and len(runtime) < LONGEST - len("/hpcli-ssh/") - 16:
        return Path(runtime) / "hpcli-ssh"
    return Path(f"/tmp/hpcli-{os.getuid() if uid is None else uid}")


def make_control(folder: Path, target: SshTarget) -> Control:
    """Raises `HpcliError` when the folder is not ours alone, or its path too long for a socket."""
    _own(folder)
    name = hashlib.sha256(repr(astuple(target)).encode()).hexdigest()[:16]
    control = Control(folder / name, folder / f"{name}.conf", folder / f"{name}.ask.conf", folder / "asking")
    if len(str(control.socket)) > LONGEST:
        raise HpcliError(str(folder), f"found a path of {len(str(folder))} characters", "set XDG_RUNTIME_DIR shorter")
    sources = [target.config] if target.config else ["~/.ssh/config", "/etc/ssh/ssh_config"]
    included = "".join(f'Include "{_absolute(source)}"\n' for source in sources)
    for path, batch in ((control.quiet, "yes"), (control.asking, "no")):
        _keep(path, f"BatchMode {batch}\n{RULES}{included}")
    return control


def _absolute(source: str) -> str:
    return source if source.startswith("~") else str(Path(source).absolute())


def _keep(path: Path, text: str) -> None:
    try:
        if path.read_text() == text:
            return
    except OSError:
        pass
    local_files.put(text.encode(), path, 0o600)


def _own(folder: Path) -> None:
    # Others may write to /tmp: a folder that was there before us might be theirs, or a link.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        mode = f"{stat.filemode(found.st_mode)} of uid {found.st_uid}"
        raise HpcliError(str(folder), f"found {mode}, expected a folder of ours with mode 0700", "remove it")
