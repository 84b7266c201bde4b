"""Filling an empty plan.

The index that is built from sorted numbers is the one that SQLite would build.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from schedctl.synthetic import make_organization
from schedd.store import bulk
from tests.support.plans import read_plan, run_locally

INDEX = "email_schedules_status_date"


def filled(
    path: Path, tmp_path: Path, *, history: bool, mode: str = "highperf"
) -> sqlite3.Connection:
    make_organization(path, 8000, 3, dt.date(2026, 11, 23))
    if not history:
        connection = sqlite3.connect(path)
        connection.execute("DELETE FROM email_schedules")
        connection.commit()
        connection.close()
    result = run_locally(path, tmp_path / "scratch", "2026-11-23", mode=mode)
    assert result.rows_inserted >= bulk.BULK_ROWS
    return sqlite3.connect(path)


def index_rows(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    """The index's contents, read from the index alone."""
    sql = (
        f"SELECT status, scheduled_send_date, id FROM email_schedules INDEXED BY {INDEX} WHERE "
        "status >= '' ORDER BY 1, 2, 3"
    )
    plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
    assert f"COVERING INDEX {INDEX}" in plan[0][3]
    return connection.execute(sql).fetchall()


@pytest.mark.parametrize("mode", ["reliable", "highperf"])
@pytest.mark.parametrize("history", [False, True])
def test_index_is_whole(tmp_path: Path, history: bool, mode: str) -> None:
    """SQLite finds nothing wrong, the index has every row, and its SQL and name are as before."""
    connection = filled(tmp_path / "org.db", tmp_path, history=history, mode=mode)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    rows = index_rows(connection)
    assert rows == sorted(
        connection.execute(
            "SELECT status, scheduled_send_date, id FROM email_schedules NOT INDEXED"
        )
    )
    [(sql,)] = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (INDEX,))
    assert sql.upper().startswith("CREATE INDEX")
    leftover = connection.execute(
        "SELECT name FROM sqlite_schema WHERE name LIKE '%build%'"
    ).fetchall()
    assert leftover == []
    connection.close()


def test_index_goes_on_working(tmp_path: Path) -> None:
    """Rows that the sender changes, and a rebuilt index, leave the file consistent."""
    connection = filled(tmp_path / "org.db", tmp_path, history=False)
    connection.execute("UPDATE email_schedules SET status = 'sent' WHERE id % 3 = 0")
    connection.execute("DELETE FROM email_schedules WHERE id % 7 = 0")
    connection.commit()
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    before = index_rows(connection)
    connection.execute(f"REINDEX {INDEX}")
    assert index_rows(connection) == before
    connection.execute("VACUUM")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_same_plan_as_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is the one that is written with the index kept up row by row."""
    filled(tmp_path / "bulk.db", tmp_path, history=False).close()
    plan = read_plan(tmp_path / "bulk.db")
    monkeypatch.setattr(bulk, "BULK_ROWS", 10**9)
    make_organization(tmp_path / "plain.db", 8000, 3, dt.date(2026, 11, 23))
    connection = sqlite3.connect(tmp_path / "plain.db")
    connection.execute("DELETE FROM email_schedules")
    connection.commit()
    connection.close()
    run_locally(tmp_path / "plain.db", tmp_path / "scratch", "2026-11-23")
    assert read_plan(tmp_path / "plain.db") == plan


@pytest.mark.parametrize("mode", ["reliable", "highperf"])
def test_a_wrong_index_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """A row that differs in another program's table is found; SQLite builds the index."""
    add = bulk.BulkLoad.add

    def mistaken(self: bulk.BulkLoad, last: int, skipped: np.ndarray, days: np.ndarray) -> None:
        # One row, which is not in the sample, is taken for a row of the day after.
        days = days.copy()
        days[1] += 1
        add(self, last, skipped, days)

    monkeypatch.setattr(bulk.BulkLoad, "add", mistaken)
    connection = filled(tmp_path / "org.db", tmp_path, history=True, mode=mode)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    rows = index_rows(connection)
    assert rows == sorted(
        connection.execute(
            "SELECT status, scheduled_send_date, id FROM email_schedules NOT INDEXED"
        )
    )
    connection.close()


def test_a_wrong_index_stands_out_in_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If rows are not as they were asked for, the sample finds it, whatever the table's size."""
    add = bulk.BulkLoad.add
    monkeypatch.setattr(bulk, "MAX_CHECKED_ROWS", 0)
    monkeypatch.setattr(
        bulk.BulkLoad,
        "add",
        lambda self, last, skipped, days: add(self, last, skipped, days + days % 2),
    )
    connection = filled(tmp_path / "org.db", tmp_path, history=True)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
