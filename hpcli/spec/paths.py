"""Files of this machine that a spec names: relative ones count from the folder of the file that says them."""

from pathlib import Path

from hpcli.spec.document import Value

FILES = (
    ("prolog",),
    ("epilog",),
    ("accounting", "database", "password_file"),
    ("packages", "folder"),
    ("hosts", "identity"),
    ("hosts", "known_hosts"),
)


def resolve(value: Value, folder: Path) -> Value:
    """Give the values with every named file as an absolute path, `~` being the user's home folder."""
    for keys in FILES:
        value = _resolved(value, keys, folder)
    return value


def _resolved(value: Value, keys: tuple[str, ...], folder: Path) -> Value:
    if keys and isinstance(value, dict) and keys[0] in value:
        return {**value, keys[0]: _resolved(value[keys[0]], keys[1:], folder)}
    if not keys and isinstance(value, list):
        return [_resolved(one, (), folder) for one in value]
    if not keys and isinstance(value, str) and value:
        return str(folder / _without_tilde(value))
    return value


def _without_tilde(text: str) -> Path:
    if text != "~" and not text.startswith("~/"):
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError:  # a user without a home
        return Path(text)
