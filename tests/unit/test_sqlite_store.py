"""The journal on disk: in order, private, whole after a crash, and plain about what it cannot do."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcli.errors import HpcliError
from hpcli.store.sqlite import SqliteStore

WRITER = """
import sys
from pathlib import Path
from hpcli.store.sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    print(store.append("intent", {"number": number}, float(number)), flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(path)
    yield opened
    opened.close()


def test_entries_come_back_in_order(store: SqliteStore) -> None:
    first = store.append("opened", {"node": "c1", "evidence": ["ü\n", "\x00"]}, 1.5)
    second = store.append("closed", {}, 2.5)
    assert store.since(0) == [
        (first, 1.5, "opened", {"node": "c1", "evidence": ["ü\n", "\x00"]}),
        (second, 2.5, "closed", {}),
    ]
    assert store.since(first) == [(second, 2.5, "closed", {})]
    assert store.since(second) == []


def test_sequence_numbers_are_replaced(store: SqliteStore) -> None:
    store.remember_sequences({"c1": 1, "c2": 2})
    store.remember_sequences({"c1": (1 << 63) - 1})
    assert store.sequences() == {"c1": (1 << 63) - 1, "c2": 2}


def test_all_of_it_outlives_a_restart(path: Path, store: SqliteStore) -> None:
    store.append("pause", {"reason": "x"}, 1.0)
    store.remember_sequences({"c1": 9})
    again = SqliteStore(path)
    assert [entry[2] for entry in again.since(0)] == ["pause"]
    assert again.sequences() == {"c1": 9}
    again.close()


def test_nobody_else_can_read_it(path: Path, store: SqliteStore) -> None:
    store.append("pause", {}, 1.0)
    assert {oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()} == {"0o600"}


def test_what_append_returned_for_is_there_after_kill_9(path: Path) -> None:
    argv = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."}) as writer:
        assert writer.stdout
        acknowledged = [int(writer.stdout.readline()) for _ in range(30)][-1]
        writer.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(line) for line in writer.stdout if line.endswith("\n"))])
    after = SqliteStore(path)
    numbers = [entry[3]["number"] for entry in after.since(0)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= acknowledged
    after.close()


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to look at" * 50, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_file_that_is_no_journal(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(HpcliError, match=f"journal {path}"):
        SqliteStore(path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HpcliError, match="No such file"):
        SqliteStore(tmp_path / "none" / "journal.sqlite")


def test_a_full_disk_is_told_and_leaves_the_journal_whole(path: Path, store: SqliteStore) -> None:
    kept = store.append("pause", {}, 1.0)
    store.remember_sequences({"c1": 1})
    limit(store, pages=4)
    with pytest.raises(HpcliError, match="full"):
        store.append("intent", {"why": "x" * 100_000}, 2.0)
    with pytest.raises(HpcliError, match="full"):
        store.remember_sequences({f"c{number}": number for number in range(100_000)})
    limit(store, pages=1 << 30)
    assert [entry[0] for entry in store.since(0)] == [kept]
    assert store.sequences() == {"c1": 1}
    assert store.append("intent", {}, 3.0) > kept


def limit(store: SqliteStore, pages: int) -> None:
    """To SQLite a database at its greatest size is the same as a full disk."""
    store._database.execute(f"PRAGMA max_page_count = {pages}")


def test_an_entry_that_is_damaged_is_told(path: Path, store: SqliteStore) -> None:
    store.append("pause", {}, 1.0)
    vandal = sqlite3.connect(path)
    vandal.execute("UPDATE journal SET body = '{'")
    vandal.commit()
    vandal.close()
    with pytest.raises(HpcliError, match="journal"):
        store.since(0)
