"""Rules about files of this machine that a spec names: they are there, and they are what they should be."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from hpcli.spec.model import Spec
from hpcli.spec.problems import Finding
from hpcli.spec.rules.rule import ON_HOSTS, Limits, Rule

MAX_SCRIPT = 1 << 20
MAX_PASSWORD = 4096
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")

_Fault = tuple[str, str]
"""What was found, and what was expected."""


def _scripts(spec: Spec, limits: Limits) -> Iterator[Finding]:
    if not limits.files:
        return
    for section, scripts in (("prolog", spec.prolog), ("epilog", spec.epilog)):
        for i, path in enumerate(scripts):
            fault = _script_fault(Path(path))
            if fault:
                yield Finding((section, i), *fault)


def _script_fault(path: Path) -> _Fault | None:
    if not _NAME.fullmatch(path.name):
        return f"the name {path.name!a}", "a script named with letters, digits, _ . and -"
    content, fault = _read(path, MAX_SCRIPT, "a script")
    if fault:
        return fault
    if not content.startswith(b"#!"):
        return f"{path} without #!", "a script whose first line names its interpreter, such as #!/bin/sh"
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return f"{path}, which is not UTF-8", "a script in UTF-8"
    return (f"{path} with a NUL byte", "a script") if "\0" in text else None


def _password_file(spec: Spec, limits: Limits) -> Iterator[Finding]:
    if not limits.files or spec.accounting.database is None:
        return
    path = Path(spec.accounting.database.password_file)
    content, fault = _read(path, MAX_PASSWORD, "a file with the password")
    fault = fault or _mode_fault(path)
    if not fault and len(content.splitlines()) != 1:
        fault = (f"{path} with {len(content.splitlines())} lines", "one line, the password")
    if fault:
        yield Finding(("accounting", "database", "password_file"), *fault)


def _mode_fault(path: Path) -> _Fault | None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & 0o077:
        return None
    return f"{path} with mode {mode:04o}", f"mode 0600, so that nobody else reads it: chmod 600 {path}"


def _identity(spec: Spec, limits: Limits) -> Iterator[Finding]:
    identity = spec.hosts.identity
    if not limits.files or identity is None or spec.provider not in ON_HOSTS:
        return
    fault = _missing(Path(identity), "a private SSH key")
    if fault:
        yield Finding(("hosts", "identity"), *fault)


def _packages(spec: Spec, limits: Limits) -> Iterator[Finding]:
    folder = spec.packages.folder
    if limits.files and folder is not None and spec.provider != "local" and not Path(folder).is_dir():
        found = f"{folder}, which is no folder" if Path(folder).exists() else f"no {folder}"
        yield Finding(("packages", "folder"), found, "a folder with debs/ and wheels/")


def _read(path: Path, most: int, what: str) -> tuple[bytes, _Fault | None]:
    fault = _missing(path, what)
    if fault:
        return b"", fault
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        return b"", (f"{path}: {os.strerror(error.errno or 0).lower()}", f"{what} that can be read")
    if len(content) > most:
        return b"", (f"{path} of more than {most} bytes", f"{what} of at most {most} bytes")
    return content, None


def _missing(path: Path, what: str) -> _Fault | None:
    """Opening what is no plain file could block or have effects."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"{path}: {os.strerror(error.errno or 0).lower()}", what
    return None if stat.S_ISREG(mode) else (f"{path}, which is no file", what)


RULES = (
    Rule(_scripts, ("prolog", "epilog")),
    Rule(_password_file, ("accounting",)),
    Rule(_identity, ("hosts.identity", "provider")),
    Rule(_packages, ("packages", "provider")),
)
