"""Values that may stand in a Slurm configuration file: nothing that ends a value, a line or an argument.

Slurm reads `#` as a comment and white space as the end of a value. It has quotes and backslashes against that, which
only a value that may hold anything, such as a password, gets.
"""

import re
from ipaddress import ip_address

from hpcli.errors import HpcliError

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")
_PARAMETER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_ESCAPED = str.maketrans({"\\": "\\\\", "#": "\\#"})
_FORBIDDEN = frozenset(" #\"'\\=;,[]{}()*?$`&|<>!%")


def path(what: str, value: str) -> str:
    """Check an absolute path. Raises `HpcliError`."""
    if not value.startswith("/") or not value.isprintable() or _FORBIDDEN & set(value):
        expected = "an absolute path without spaces, quotes, commas, brackets or #, which Slurm cannot read"
        raise _refused(
            what, value, expected, "move the folder, or name another one with XDG_STATE_HOME or HPCLI_RUNTIME_DIR"
        )
    return value


def path_per_node(what: str, value: str) -> str:
    """Check an absolute path in which `%n` stands for the node's name. Raises `HpcliError`."""
    if "%n" not in value:
        raise _refused(what, value, "a path with %n in it, since many nodes share this machine")
    path(what, value.replace("%n", "n"))
    return value


def path_of_node(what: str, value: str) -> str:
    """Check an absolute path, in which `%n` may stand for the node's name. Raises `HpcliError`."""
    path(what, value.replace("%n", "n"))
    return value


def host(what: str, value: str) -> str:
    """Check a host name or an IPv4 address. Raises `HpcliError`."""
    if not _HOST.fullmatch(value):
        raise _refused(what, value, "a host name or IPv4 address")
    return value


def address(what: str, value: str) -> str:
    """Check an address, which may be IPv6 too. Raises `HpcliError`."""
    if ":" not in value:
        return host(what, value)
    try:
        return str(ip_address(value))
    except ValueError:
        raise _refused(what, value, "a host name or an IP address") from None


def port(what: str, value: int) -> str:
    """Check a TCP port. Raises `HpcliError`."""
    if not 1 <= value <= 65535:
        raise _refused(what, str(value), "a port from 1 to 65535")
    return str(value)


def word(what: str, value: str) -> str:
    """Check a user, database or similar name. Raises `HpcliError`."""
    if not _WORD.fullmatch(value):
        raise _refused(what, value, "letters, digits, _, ., @ and -")
    return value


def parameter(value: str) -> str:
    """Check the name of a parameter of slurm.conf. Raises `HpcliError`."""
    if not _PARAMETER.fullmatch(value):
        raise _refused("slurm_conf", value, "the name of a parameter of slurm.conf, letters only")
    return value


def setting(what: str, value: bool | int | float | str) -> str:
    """Write a free value as slurm.conf takes it: YES or NO, quotes around blanks. Raises `HpcliError`."""
    if isinstance(value, bool):
        return "YES" if value else "NO"
    text = str(value).strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if not text.strip() or not text.isprintable() or set('#"\\') & set(text):
        raise _refused(what, text, 'one line without #, " and \\, which Slurm cannot read')
    return f'"{text}"' if " " in text else text


def password(what: str, value: str) -> str:
    """Write a password as slurmdbd.conf takes it. Raises `HpcliError`, which does not tell it."""
    if not (value.isascii() and value.isprintable()) or '"' in value:
        expected = 'printable ASCII characters without ", which slurmdbd cannot read'
        raise HpcliError(what, f"found another character in it, expected {expected}", "change the password")
    escaped = value.translate(_ESCAPED)
    return f'"{escaped}"' if " " in escaped else escaped


def _refused(what: str, value: str, expected: str, hint: str = "") -> HpcliError:
    return HpcliError(what, f"found {value!r}, expected {expected}", hint)
