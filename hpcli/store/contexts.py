"""The file of a user's contexts: JSON, readable by its owner alone, changed by one command at a time."""

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from hpcli.domain.context import Context, Contexts
from hpcli.errors import HpcliError
from hpcli.transport import local_files

VERSION = 1


def contexts_path(environ: Mapping[str, str]) -> Path | None:
    """Where it lies, as the XDG base directory specification has it; None for a user without a home."""
    given, home = environ.get("XDG_CONFIG_HOME", ""), environ.get("HOME", "")
    base = Path(given) if given.startswith("/") else Path(home) / ".config" if home else None
    return base / "hpcli" / "contexts.json" if base else None


class ContextFile:
    """Implements `services.contexts.ContextStore`."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self) -> Contexts:
        """Nothing is there before the first change. Raises `HpcliError` for a file that is not ours."""
        try:
            text = self._path.read_text() if self._path else ""
        except (FileNotFoundError, NotADirectoryError):
            return Contexts()
        except (OSError, ValueError) as error:
            raise HpcliError(
                str(self._path), f"found {error}, expected to read it", "check its mode and owner"
            ) from None
        try:
            return _parse(text) if text.strip() else Contexts()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            found = f"found {error!r}, expected what hpcli context has written"
            raise HpcliError(
                str(self._path), found, "put it right, or move it away and add your contexts anew"
            ) from None

    def change(self, change: Callable[[Contexts], Contexts]) -> Contexts:
        """Replace what is there. Raises `HpcliError`, and what `change` raises; then all is as before."""
        if self._path is None:
            raise HpcliError("contexts", "found no HOME, expected a place for them", "set HOME or XDG_CONFIG_HOME")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise HpcliError(str(self._path.parent), f"found {error.strerror}, expected a folder of ours") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            changed = change(self.read())
            local_files.put(_text(changed).encode(), self._path, 0o600)
            return changed
        finally:
            os.close(lock)


def _text(contexts: Contexts) -> str:
    known = {name: _short(context) for name, context in sorted(contexts.known.items())}
    return json.dumps({"version": VERSION, "current": contexts.current, "contexts": known}, indent=1) + "\n"


def _short(context: Context) -> dict[str, object]:
    return {key: value for key, value in asdict(context).items() if value and key != "name"}


def _parse(text: str) -> Contexts:
    raw = json.loads(text)
    if raw["version"] != VERSION:
        raise ValueError(f"version {raw['version']}")
    known = {str(name): Context(name=str(name), **fields) for name, fields in raw["contexts"].items()}
    return Contexts(str(raw["current"]), known)
