"""Organizations whose tables another program made, for the tests of this folder."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schedproto import ErrorCode, RunResult, SchedulerError
from tests.support.plans import read_plan, run_locally

AS_OF = "2026-11-23"
COLUMNS = "id INTEGER PRIMARY KEY, email TEXT, zip_code TEXT, birth_date TEXT, effective_date TEXT"
#: The plan's required columns, as a script part that other columns and constraints follow.
PLAN = (
    "CREATE TABLE email_schedules(id INTEGER PRIMARY KEY, contact_id INTEGER NOT NULL, email_type "
    "TEXT NOT NULL, "
    "scheduled_send_date TEXT NOT NULL, scheduled_send_time TEXT NOT NULL, status TEXT NOT NULL{})"
)
#: A row of the sender and one of a present plan.
ROWS = (
    "INSERT INTO email_schedules(id, contact_id, email_type, scheduled_send_date, "
    "scheduled_send_time, status) VALUES "
    "(1, 2, 'birthday', '2026-01-05', '08:30:00', 'sent'), (2, 3, 'aep', '2026-12-31', "
    "'08:30:00', 'pre-scheduled');"
)


def contacts(count: int, columns: str = COLUMNS) -> str:
    """Return a script with a table of contacts.

    Every tenth lives in New York, so that rows are skipped.
    """
    return (
        f"CREATE TABLE contacts({columns});"
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "
        "INSERT INTO contacts(id, email, zip_code, birth_date, effective_date) SELECT i, 'u' || i "
        "|| '@example.org', "
        "CASE i % 10 WHEN 0 THEN '10001' ELSE '75001' END, date('1950-01-01', '+' || ((i * 7919) "
        "% 9000) || ' days'), "
        "date('2015-01-01', '+' || ((i * 104729) % 3000) || ' days') FROM n;"
    )


def build(
    path: Path, *scripts: str, prepare: Callable[[sqlite3.Connection], Any] = lambda _: None
) -> Path:
    """Make a file. prepare: registers what only the application has, functions and collations."""
    connection = sqlite3.connect(path)
    prepare(connection)
    for script in scripts:
        connection.executescript(script)
    connection.commit()
    connection.close()
    return path


def application(connection: sqlite3.Connection) -> None:
    """Register a function and a collation that no other program has."""
    connection.create_function("fold", 1, lambda text: text and text.lower(), deterministic=True)
    connection.create_collation(
        "FOLDED", lambda a, b: (a.lower() > b.lower()) - (a.lower() < b.lower())
    )


def select(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Return rows of a query."""
    connection = sqlite3.connect(path)
    application(connection)
    rows = connection.execute(sql).fetchall()
    connection.close()
    return rows


def sender_rows(path: Path) -> list[tuple[Any, ...]]:
    """Return the rows of the sender: all that are not of the plan."""
    return select(
        path,
        "SELECT id, contact_id, email_type, scheduled_send_date, scheduled_send_time, status FROM "
        "email_schedules "
        "NOT INDEXED WHERE status COLLATE BINARY NOT IN ('pre-scheduled', 'skipped') ORDER BY id",
    )


def is_sound(path: Path) -> bool:
    """Return whether SQLite finds nothing wrong, each index compared with its table."""
    return select(path, "PRAGMA integrity_check") == [("ok",)]


def sees_by_index(path: Path) -> bool:
    """Return whether the sender's queries give with indexes what they give without."""
    scan = select(
        path,
        "SELECT status, scheduled_send_date, count(*), group_concat(id) FROM (SELECT * FROM "
        "email_schedules "
        "NOT INDEXED ORDER BY id) GROUP BY 1, 2",
    )
    connection = sqlite3.connect(path)
    application(connection)
    for status, day, count, ids in scan:
        rows = connection.execute(
            "SELECT id FROM email_schedules WHERE status = ? AND scheduled_send_date = ? ORDER BY "
            "id",
            (status, day),
        ).fetchall()
        if len(rows) != count or ",".join(str(row[0]) for row in rows) != ids:
            return False
    connection.close()
    return True


def run(path: Path, tmp_path: Path, run_id: str = "job-a.1", **spec: Any) -> RunResult:
    return run_locally(path, tmp_path / "scratch", AS_OF, run_id=run_id, **spec)


def refused(
    path: Path, tmp_path: Path, code: ErrorCode = ErrorCode.FOREIGN_SCHEMA, **spec: Any
) -> SchedulerError:
    """Run, expect the error, and see that no byte of the file has changed."""
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(SchedulerError) as caught:
        run(path, tmp_path, **spec)
    error = caught.value
    assert error.code == code, error
    assert "fault of the scheduler" not in error.hint
    assert error.hint
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    return error


def settles(path: Path, tmp_path: Path) -> RunResult:
    """Run twice.

    The second run changes nothing, the file is sound, and the sender's rows are as they were.
    """
    before = sender_rows(path) if select(path, "PRAGMA table_info(email_schedules)") else []
    result = run(path, tmp_path)
    assert len(read_plan(path)) == result.rows_planned
    assert is_sound(path)
    assert sees_by_index(path)
    assert sender_rows(path) == before
    again = run(path, tmp_path, "job-b.1")
    assert (again.rows_inserted, again.rows_updated, again.rows_deleted) == (0, 0, 0)
    assert again.rows_unchanged == result.rows_planned
    return result
