"""The journal and the agents' sequence numbers in one SQLite file."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcli.domain.ledger import Entry
from hpcli.errors import HpcliError

SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sequence (node TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
"""


class SqliteStore:
    """An append-only journal that survives `kill -9` between any two entries."""

    def __init__(self, path: Path) -> None:
        """Open or make the file (0600). Raises `HpcliError` when that cannot be done."""
        self._path = path
        try:
            path.touch(mode=0o600, exist_ok=True)
            self._database = sqlite3.connect(path, isolation_level=None, timeout=10)
        except (OSError, sqlite3.Error) as error:
            raise self._broken(error) from error
        try:
            self._database.execute("PRAGMA journal_mode = WAL")
            # An intent must be on disk before Slurm is touched.
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(SCHEMA)
        except sqlite3.Error as error:
            self._database.close()
            raise self._broken(error) from error

    def append(self, kind: str, body: Mapping[str, object], at: float) -> int:
        """Write one entry and return its number. Raises `HpcliError` (disk full, read-only)."""
        try:
            cursor = self._database.execute(
                "INSERT INTO journal (at, kind, body) VALUES (?, ?, ?)", (at, kind, json.dumps(body))
            )
        except sqlite3.Error as error:
            raise self._broken(error) from error
        return cursor.lastrowid or 0

    def since(self, entry_id: int) -> Sequence[Entry]:
        """Entries after the one with this number, oldest first. Raises `HpcliError` (a damaged file)."""
        query = "SELECT id, at, kind, body FROM journal WHERE id > ? ORDER BY id"
        try:
            rows = self._database.execute(query, (entry_id,)).fetchall()
            return [(number, at, kind, json.loads(body)) for number, at, kind, body in rows]
        except (sqlite3.Error, ValueError) as error:
            raise self._broken(error) from error

    def sequences(self) -> dict[str, int]:
        """The highest sequence number accepted from each node."""
        return dict(self._database.execute("SELECT node, seq FROM sequence"))

    def remember_sequences(self, sequences: Mapping[str, int]) -> None:
        """Raises `HpcliError` (disk full, read-only)."""
        try:
            with self._database:
                self._database.execute("BEGIN")
                self._database.executemany("INSERT OR REPLACE INTO sequence VALUES (?, ?)", sequences.items())
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def close(self) -> None:
        self._database.close()

    def _broken(self, error: Exception) -> HpcliError:
        return HpcliError(f"journal {self._path}", str(error), "is the disk full, or the folder not ours?")
