"""Invariants of every file after a run, for any input (docs/RULES.md, docs/DATABASE.md)."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

PLAN = "email_schedules"
OWN = {"scheduler_runs", "contact_issues", "scheduler_config", PLAN}
#: Functions of the applications whose files are looked at, without which SQLite cannot check them.
APPLICATION_FUNCTIONS = ("fold", "libsql_vector_idx")
_OTHERS = "status IS NULL OR status NOT IN ('pre-scheduled', 'skipped')"
_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"
Rows = dict[str, list[tuple[Any, ...]]]


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file for reading; texts come as their bytes."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        for function in APPLICATION_FUNCTIONS:
            connection.create_function(function, 1, lambda value: value, deterministic=True)
        yield connection


def columns_of(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns of a table as they are written."""
    return [row[1].decode() for row in connection.execute(f'PRAGMA table_info("{table}")')]


def sender_rows(path: Path, columns: dict[str, list[str]] | None = None) -> Rows:
    """Return the rows that are not the scheduler's.

    These are the tables of other programs, and the sender's rows of the plan.

    columns: those of each table to look at; the run adds some to the plan's.
    """
    found: Rows = {}
    with opened(path) as connection:
        for table in [row[0].decode() for row in connection.execute(_TABLES)]:
            if table.startswith("sqlite_") or (table in OWN and table != PLAN):
                continue
            names = (
                columns[table]
                if columns is not None and table in columns
                else columns_of(connection, table)
            )
            values = ", ".join(f'typeof("{name}"), CAST("{name}" AS BLOB)' for name in names)
            where = f"WHERE {_OTHERS}" if table == PLAN else ""
            found[table] = sorted(
                connection.execute(f'SELECT {values} FROM "{table}" {where}').fetchall(), key=repr
            )
    return found


def table_columns(path: Path) -> dict[str, list[str]]:
    """Return the columns of every table of a file."""
    with opened(path) as connection:
        names = [row[0].decode() for row in connection.execute(_TABLES)]
        return {name: columns_of(connection, name) for name in names}


def plan_rows(path: Path) -> list[tuple[Any, ...]]:
    """Return all columns of all rows of the plan's table, in the order of their ids."""
    with opened(path) as connection:
        return connection.execute(f"SELECT * FROM {PLAN} ORDER BY rowid").fetchall()


def integrity(path: Path) -> str:
    """Return the result of `PRAGMA integrity_check`.

    A value of another type than its column's does not count.
    """
    with opened(path) as connection:
        found = [row[0].decode() for row in connection.execute("PRAGMA integrity_check")]
    return "; ".join(text for text in found if not re.match(r"\S+ value in ", text)) or "ok"


def index_differences(path: Path) -> list[str]:
    """Return where the sender's query finds other rows by the index than by a scan of the table."""
    query = (
        f"SELECT rowid FROM {PLAN} {{}} WHERE +status IS ? AND +scheduled_send_date IS ? "
        "ORDER BY rowid"
    )
    by_index = (
        f"SELECT rowid FROM {PLAN} WHERE status IS ? AND scheduled_send_date IS ? ORDER BY rowid"
    )
    wrong = []
    with opened(path) as connection:
        keys = connection.execute(
            f"SELECT DISTINCT status, scheduled_send_date FROM {PLAN} NOT INDEXED"
        ).fetchall()
        indexed = connection.execute(
            f"SELECT count(*) FROM {PLAN} WHERE status IS 'pre-scheduled'"
        ).fetchone()
        scanned = connection.execute(
            f"SELECT count(*) FROM {PLAN} NOT INDEXED WHERE +status IS 'pre-scheduled'"
        ).fetchone()
        if indexed != scanned:
            wrong.append(f"{indexed[0]} pre-scheduled rows by the index, {scanned[0]} in the table")
        for key in keys[:60]:
            found, there = (
                connection.execute(sql, key).fetchall()
                for sql in (by_index, query.format("NOT INDEXED"))
            )
            if found != there:
                wrong.append(f"{key}: {len(found)} rows by the index, {len(there)} in the table")
    return wrong


def duplicate_keys(path: Path) -> bool:
    """Return whether several rows that the scheduler must not touch have one key."""
    keys = "contact_id, email_type, scheduled_send_date"
    with opened(path) as connection:
        found = connection.execute(
            f"SELECT 1 FROM {PLAN} WHERE {_OTHERS} GROUP BY {keys} HAVING count(*) > 1 LIMIT 1"
        )
        return found.fetchone() is not None
