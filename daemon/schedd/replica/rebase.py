"""Carry a run's changes over to another version of the file, as a changeset (SQLite's sessions).

What the other writer wrote always wins:

- Only tables that the scheduler writes are carried over, so contacts and campaigns stay as they
  are in the other version.
- A row that both have changed or removed (moved by us, sent by them) stays as they have it.
- A row that we added under a number or key that they have used is left out.

If the plan's inputs differ, or something was left out, the caller computes the plan again. That run
starts from the rows carried over and writes only the differences, so the result is the plan of the
final inputs.
"""

from __future__ import annotations

from pathlib import Path

import apsw

from schedd.store import schema
from schedd.store.connection import open_writer
from schedd.store.errors import sqlite_errors
from schedd.store.tables import texts
from schedproto import Mode

#: Tables that the scheduler writes during a run.
OWN = (schema.PLAN, "scheduler_runs", "contact_issues")
#: The scheduler's own records, which no plan depends on.
NOT_INPUTS = frozenset({"scheduler_runs", "contact_issues"})


def _tables(connection: apsw.Connection, database: str) -> dict[str, tuple[tuple[str, bool], ...]]:
    """Return table -> (column, whether it is in the primary key), for tables that have one."""
    found = {}
    # `database` is one of this module's two names.
    rows = texts(
        connection,
        f"SELECT CAST(name AS BLOB) FROM {database}.sqlite_schema WHERE type = 'table'",  # noqa: S608
    )
    for name in (str(row[0]) for row in rows):
        if name.startswith("sqlite_"):
            continue
        columns = tuple(
            (str(column), bool(key))
            for column, key in texts(
                connection,
                "SELECT CAST(name AS BLOB), pk FROM pragma_table_info(?, ?)",
                (name, database),
            )
        )
        if any(key for _, key in columns):
            found[name] = columns
    return found


def changes_of(before: Path, after: Path) -> bytes | None:
    """Return the changes of the scheduler's tables as a changeset, None if a table was replaced.

    Example:

        changes = changes_of(Path("before.db"), Path("ours.db"))
        complete = apply(changes, Path("before.db"), Path("theirs.db"))
    """
    connection = open_writer(after, Mode.RELIABLE)
    try:
        with sqlite_errors(after):
            connection.execute("ATTACH ? AS before", (str(before),))
            old, new = _tables(connection, "before"), _tables(connection, "main")
            if any(old.get(table) != new[table] for table in OWN if table in new):
                return None
            return _difference(connection, [table for table in OWN if table in new])
    finally:
        connection.close()


def _difference(connection: apsw.Connection, tables: list[str]) -> bytes:
    """Return the changeset from the tables of `before` to those of `main`."""
    session = apsw.Session(connection, "main")
    for table in tables:
        session.attach(table)
        session.diff("before", table)
    changes = session.changeset()
    session.close()
    return changes


def _row_of(change: apsw.TableChange) -> tuple[object, ...]:
    """Return the table and the primary key of the row of a change."""
    values = change.new if change.old is None else change.old
    assert values is not None  # every change has one of them
    return (change.name, *(values[column] for column in sorted(change.pk_columns)))


def apply(changes: bytes, before: Path, file: Path) -> bool:
    """Apply changes of `before` to a file that another writer made of it; return whether all were.

    Rows that the other writer has changed are left out. An update in a changeset has only the
    changed columns, so SQLite would apply it to a row whose other columns differ: a row that was
    sent would move to another day.
    """
    connection = open_writer(file, Mode.RELIABLE)
    complete = True

    def untouched(change: apsw.TableChange) -> bool:
        nonlocal complete
        if _row_of(change) in touched:
            complete = False
            return False
        return True

    def conflict(_reason: int, _change: apsw.TableChange) -> int:
        nonlocal complete
        complete = False
        return apsw.SQLITE_CHANGESET_OMIT

    try:
        with sqlite_errors(file):
            connection.execute("ATTACH ? AS before", (str(before),))
            old, new = _tables(connection, "before"), _tables(connection, "main")
            if any(old.get(table) != new.get(table) for table in OWN):
                return False
            theirs = _difference(connection, [table for table in OWN if table in new])
            touched = {_row_of(change) for change in apsw.Changeset.iter(theirs)}
            connection.execute("DETACH before")
            apsw.Changeset.apply(changes, connection, filter_change=untouched, conflict=conflict)
        return complete
    finally:
        connection.close()


def inputs_differ(before: Path, after: Path) -> bool:
    """Return whether anything that a plan depends on differs, or may differ.

    Tables without a primary key cannot be compared, and count as different.
    """
    connection = open_writer(after, Mode.RELIABLE)
    try:
        with sqlite_errors(after):
            connection.execute("ATTACH ? AS before", (str(before),))
            if _schema(connection, "main") != _schema(connection, "before"):
                return True
            keyed = _tables(connection, "main")
            tables = texts(
                connection,
                "SELECT CAST(name AS BLOB) FROM main.sqlite_schema WHERE type = 'table'",
            )
            return any(
                table not in keyed or _content_differs(connection, table)
                for table in (str(row[0]) for row in tables)
                if not table.startswith("sqlite_") and table not in NOT_INPUTS
            )
    finally:
        connection.close()


def _schema(connection: apsw.Connection, database: str) -> list[tuple[object, ...]]:
    # `database` is one of this module's two names.
    columns = "type, CAST(name AS BLOB), CAST(sql AS BLOB)"
    query = f"SELECT {columns} FROM {database}.sqlite_schema ORDER BY 1, 2"  # noqa: S608
    return connection.execute(query).fetchall()


def _content_differs(connection: apsw.Connection, table: str) -> bool:
    session = apsw.Session(connection, "main")
    session.attach(table)
    session.diff("before", table)
    differs = not session.is_empty
    session.close()
    return differs


def forget_run(file: Path, run_id: str) -> None:
    """Remove the record of a run whose plan is computed again."""
    connection = open_writer(file, Mode.RELIABLE)
    try:
        with sqlite_errors(file):
            if "scheduler_runs" in _tables(connection, "main"):
                connection.execute("DELETE FROM scheduler_runs WHERE run_id = ?", (run_id,))
    finally:
        connection.close()
