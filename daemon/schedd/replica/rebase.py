"""Our changes carried over to a file that somebody else has changed meanwhile, as a changeset of SQLite's sessions.

What the main application wrote always wins:

- only tables that the scheduler writes are carried over, so contacts and campaigns are theirs in
  any case;
- a row that both have changed or removed (moved by us, sent by them) stays as they have it;
- a row that we added under a number or key that they have taken is left out.

A plan whose inputs they changed, or of which something was left out, is computed anew afterwards;
that run starts from the rows carried over and writes only what differs, so that the result is the
plan of the final inputs.
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


def _tables(connection: apsw.Connection, database: str) -> dict[str, tuple[tuple[str, bool], ...]]:
    """Return table -> (column, whether it is of the primary key), for tables that have one."""
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
    """Return what the scheduler's tables became, as a changeset.

    None if one of them is another table now.
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
    """Return what makes the tables of `main` of those of `before`."""
    session = apsw.Session(connection, "main")
    for table in tables:
        session.attach(table)
        session.diff("before", table)
    changes = session.changeset()
    session.close()
    return changes


def _row_of(change: apsw.TableChange) -> tuple[object, ...]:
    """Return which row a change is about: its table and its primary key."""
    values = change.new if change.old is None else change.old
    assert values is not None  # every change has one of them
    return (change.name, *(values[column] for column in sorted(change.pk_columns)))


def apply(changes: bytes, before: Path, file: Path) -> bool:
    """Carry changes of `before` over to what somebody else made of it.

    Returns whether all found their place.

    A changeset's update tells only of the columns that it changes, and would be applied to a row
    whose other columns they have changed: a row that was sent would move to another day. So rows
    that they have touched are left out.
    """
    connection = open_writer(file, Mode.RELIABLE)
    whole = True

    def untouched(change: apsw.TableChange) -> bool:
        nonlocal whole
        if _row_of(change) in touched:
            whole = False
            return False
        return True

    def conflict(_reason: int, _change: apsw.TableChange) -> int:
        nonlocal whole
        whole = False
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
        return whole
    finally:
        connection.close()


def inputs_differ(before: Path, after: Path) -> bool:
    """Return whether anything that a plan depends on differs.

    Any table, with or without a primary key.
    """
    connection = open_writer(after, Mode.RELIABLE)
    try:
        with sqlite_errors(after):
            connection.execute("ATTACH ? AS before", (str(before),))
            query = """
                SELECT type, CAST(name AS BLOB), CAST(sql AS BLOB) FROM {}.sqlite_schema
                ORDER BY 1, 2
            """
            if (
                connection.execute(query.format("main")).fetchall()
                != connection.execute(query.format("before")).fetchall()
            ):
                return True
            keyed = _tables(connection, "main")
            tables = texts(
                connection,
                "SELECT CAST(name AS BLOB) FROM main.sqlite_schema WHERE type = 'table'",
            )
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
