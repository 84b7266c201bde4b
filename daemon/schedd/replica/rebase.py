"""Our changes carried over to a file that somebody else has changed meanwhile, as a changeset of SQLite's sessions.

What the main application wrote always wins:

- only tables that the scheduler writes are carried over, so contacts and campaigns are theirs in any case;
- a row that we changed and they changed or removed (sent, for example) stays as they have it;
- a row that we added under a number or key that they have taken is left out.

A plan whose inputs they changed, or of which something was left out, is computed anew afterwards; that run starts from
the rows carried over and writes only what differs, so that the result is the plan of the final inputs.
"""

from __future__ import annotations

from pathlib import Path

import apsw

from schedd.store import schema
from schedd.store.connection import open_writer
from schedd.store.errors import sqlite_errors
from schedproto import Mode

#: Tables that the scheduler writes during a run.
OWN = (schema.PLAN, "scheduler_runs", "contact_issues")


def _tables(connection: apsw.Connection, database: str) -> dict[str, tuple[tuple[str, bool], ...]]:
    """Return table -> (column, whether it is of the primary key), for tables that have one."""
    found = {}
    # `database` is one of this module's two names.
    rows = connection.execute(f"SELECT name FROM {database}.sqlite_schema WHERE type = 'table'").fetchall()  # noqa: S608
    for name in (str(row[0]) for row in rows):
        if name.startswith("sqlite_"):
            continue
        columns = tuple(
            (str(column), bool(key))
            for column, key in connection.execute("SELECT name, pk FROM pragma_table_info(?, ?)", (name, database))
        )
        if any(key for _, key in columns):
            found[name] = columns
    return found


def changes_of(before: Path, after: Path) -> bytes | None:
    """Return what the scheduler's tables became, as a changeset; None if one of them is another table now."""
    connection = open_writer(after, Mode.RELIABLE)
    try:
        with sqlite_errors(after):
            connection.execute("ATTACH ? AS before", (str(before),))
            old, new = _tables(connection, "before"), _tables(connection, "main")
            session = apsw.Session(connection, "main")
            for table in OWN:
                if table not in new:
                    continue
                if old.get(table) != new[table]:
                    return None
                session.attach(table)
                session.diff("before", table)
            changes = session.changeset()
            session.close()
            return changes
    finally:
        connection.close()


def apply(changes: bytes, file: Path) -> bool:
    """Carry changes over to a file; returns whether all of them found their place."""
    connection = open_writer(file, Mode.RELIABLE)
    whole = True

    def conflict(_reason: int, _change: apsw.TableChange) -> int:
        nonlocal whole
        whole = False
        return apsw.SQLITE_CHANGESET_OMIT

    try:
        with sqlite_errors(file):
            apsw.Changeset.apply(changes, connection, conflict=conflict)
        return whole
    finally:
        connection.close()


def inputs_differ(before: Path, after: Path) -> bool:
    """Return whether anything that a plan depends on differs: any table, with or without a primary key."""
    connection = open_writer(after, Mode.RELIABLE)
    try:
        with sqlite_errors(after):
            connection.execute("ATTACH ? AS before", (str(before),))
            query = "SELECT type, name, sql FROM {}.sqlite_schema ORDER BY 1, 2"
            if (
                connection.execute(query.format("main")).fetchall()
                != connection.execute(query.format("before")).fetchall()
            ):
                return True
            keyed = _tables(connection, "main")
            tables = connection.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'").fetchall()
            for table in (str(row[0]) for row in tables):
                if table.startswith("sqlite_") or table in {"scheduler_runs", "contact_issues"}:
                    continue  # the scheduler's own notes, which no plan depends on
                if table not in keyed:
                    return True
                session = apsw.Session(connection, "main")
                session.attach(table)
                session.diff("before", table)
                differs = not session.is_empty
                session.close()
                if differs:
                    return True
            return False
    finally:
        connection.close()


def forget_run(file: Path, run_id: str) -> None:
    """Remove the note of a run whose plan is computed anew."""
    connection = open_writer(file, Mode.RELIABLE)
    try:
        with sqlite_errors(file):
            if "scheduler_runs" in _tables(connection, "main"):
                connection.execute("DELETE FROM scheduler_runs WHERE run_id = ?", (run_id,))
    finally:
        connection.close()
