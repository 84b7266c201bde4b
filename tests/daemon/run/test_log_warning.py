"""A write-ahead log that cannot be emptied."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.foreign_tables import build, contacts, run
from tests.support.other_programs import other_program

_READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM contacts").fetchall()
print("reads", flush=True)
sys.stdin.readline()
connection.close()
"""


def test_reader_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run next to a reader whose transaction never ends tells that the log grows."""
    monkeypatch.setattr("schedd.store.maintenance.LARGE_LOG_BYTES", 10_000)
    monkeypatch.setattr("schedd.store.connection.BUSY_TIMEOUT_MS", 50)
    path = build(tmp_path / "org.db", contacts(100))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
    # In another process: locks of one process do not keep it from anything (POSIX).
    with other_program(_READER, path):
        result = run(path, tmp_path, "job-a.1")
    [warning] = [found for found in result.warnings if found.code == "log_grows"]
    assert warning.name == "org.db-wal"
    assert "reading" in warning.message
    again = run(path, tmp_path, "job-b.1")
    assert [found for found in again.warnings if found.code == "log_grows"] == []
