"""Checks of a file's schema before a run's first write (docs/DATABASE.md).

They find out what SQLite will do with the run's statements, from two sources: pragmas (`tables`),
and EXPLAIN of each statement. EXPLAIN compiles triggers, indexes and generated columns, and so
finds missing functions, collations and tables. `probe` adds a third source: rows written into a
copy of the tables in memory. None of them changes the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import apsw

from schedproto import ErrorCode, SchedulerError

from .errors import add_to_message, extended_result, foreign_schema, of_constraint, unique_violation
from .limits import connect
from .schema import OWN_TABLES, PLAN, PLAN_COLUMNS, READ_TABLES, Schema
from .tables import TABLE, Table, quoted, read_table, texts

#: Columns of the plan that are NULL in some rows.
NULLABLE = ("skip_reason", "campaign_instance_id", "sms_template", "metadata")
#: Columns of the plan that the scheduler does not write.
NOT_WRITTEN = ("id", "actual_send_datetime")
#: Types of STRICT tables that accept texts, and integers.
_TEXT_TYPES, _NUMBER_TYPES = {"TEXT", "ANY"}, {"TEXT", "ANY", "INT", "INTEGER", "REAL"}
#: For each of the scheduler's tables: the columns without which it is another program's, and its
#: key (None: any).
_CORE: dict[str, tuple[set[str], tuple[str, ...] | None]] = {
    "scheduler_runs": ({"run_id", "as_of", "status", "started_at"}, ("run_id",)),
    "contact_issues": ({"contact_id", "reason"}, ("contact_id", "reason")),
    "scheduler_config": ({"version", "toml"}, None),
}
#: The statements of a run on its own tables; on the plan: see `check_plan`.
_OWN_STATEMENTS = {
    "scheduler_runs": (
        "INSERT INTO scheduler_runs(run_id, as_of, status, started_at) VALUES ('', '', '', '')",
        "UPDATE scheduler_runs SET status = '' WHERE rowid = 1",
        "DELETE FROM scheduler_runs WHERE run_id = ''",
    ),
    "contact_issues": (
        "INSERT INTO contact_issues(contact_id, reason) VALUES (1, '')",
        "DELETE FROM contact_issues WHERE contact_id = 1 AND reason = ''",
    ),
    "scheduler_config": ("SELECT version, toml FROM scheduler_config",),
}


def check_tables(connection: apsw.Connection, schema: Schema) -> None:
    """Raise `foreign_schema` or `column_missing` for a table that a run cannot use."""
    for name in READ_TABLES:
        if name in schema.columns:
            check_readable(connection, name, schema)
    plan = read_table(connection, PLAN)
    if plan is not None:
        check_plan(connection, plan)
    for name in OWN_TABLES:
        check_own(connection, name)


def check_readable(connection: apsw.Connection, name: str, schema: Schema) -> None:
    """Raise unless all columns can be read; a generated one may need a missing function."""
    columns = [column for column in READ_TABLES[name] if column in schema.columns[name]]
    _compile_columns(
        connection, name, columns, lambda some: f"SELECT {', '.join(some)} FROM {name}"
    )


def check_plan(connection: apsw.Connection, plan: Table) -> None:
    """Raise if the declaration of an existing `email_schedules` rules out the plan."""
    _check_kind(plan)
    _check_id(plan)
    _check_columns(plan)
    clause = plan.conflict_clause()
    if clause is not None:
        raise foreign_schema(
            f"a constraint of {PLAN} has a conflict clause, which can silently delete or drop "
            f"rows: {clause}",
            "Remove the ON CONFLICT clause from the constraint, and use INSERT OR REPLACE or an "
            "upsert in the application instead.",
            table=PLAN,
            constraint=clause,
        )
    known = [name for name in PLAN_COLUMNS if name in plan.columns]
    written = [name for name in known if name not in NOT_WRITTEN]
    nulls = ", ".join("NULL" for _ in written)
    _compile(connection, PLAN, f"INSERT INTO {PLAN}({', '.join(written)}) VALUES ({nulls})", "")
    _compile(connection, PLAN, f"DELETE FROM {PLAN} WHERE id = 1", "")
    _compile_columns(
        connection,
        PLAN,
        written,
        lambda some: (
            f"UPDATE {PLAN} SET {', '.join(f'{name} = NULL' for name in some)} WHERE id = 1"
        ),
    )
    _compile_columns(
        connection,
        PLAN,
        known,
        lambda some: f"SELECT id FROM {PLAN} WHERE {' OR '.join(f'{name} = 0' for name in some)}",
    )


def _check_kind(table: Table) -> None:
    if table.kind != TABLE:
        raise foreign_schema(
            f"{table.name} is a {table.kind}, not a table",
            f"Make {table.name} a table with the columns of docs/DATABASE.md. Views need another "
            "name.",
            table=table.name,
        )
    if table.without_rowid:
        raise foreign_schema(
            f"{table.name} is a WITHOUT ROWID table, so SQLite does not number its rows",
            f"Make {table.name} without WITHOUT ROWID, with `id INTEGER PRIMARY KEY`.",
            table=table.name,
            constraint="WITHOUT ROWID",
        )


def _check_id(plan: Table) -> None:
    alias = plan.rowid_alias
    if "id" not in plan.columns:
        remedy = (
            f"Rename its key: ALTER TABLE {PLAN} RENAME COLUMN {quoted(alias)} TO id."
            if alias
            else f"Make {PLAN} with `id INTEGER PRIMARY KEY` and a unique index on its current key."
        )
        raise SchedulerError(
            ErrorCode.COLUMN_MISSING,
            f"the table {PLAN} lacks the column id, so its rows have no number",
            hint=f"{remedy} Nothing was changed.",
            details={"table": PLAN, "columns": "id", "column": "id"},
        )
    if alias != "id":
        raise foreign_schema(
            f"the column {PLAN}.id {plan.why_not_rowid('id')}, so SQLite does not number the "
            "rows by it",
            f"Make {PLAN} with `id INTEGER PRIMARY KEY`; keep the existing id in another column.",
            table=PLAN,
            column="id",
        )


def _check_columns(plan: Table) -> None:
    for column in plan.columns.values():
        name = f"{PLAN}.{column.name}"
        written = column.name in PLAN_COLUMNS and column.name not in NOT_WRITTEN
        if column.generated and written:
            raise foreign_schema(
                f"the column {name} is generated, but the scheduler must write it",
                f"Make {name} an ordinary column.",
                table=PLAN,
                column=column.name,
            )
        if column.not_null and not column.generated and column.name != "id":
            _check_not_null(name, column.name, column.default, written)
        if plan.strict and written:
            _check_strict(name, column.name, column.type.upper())


def _check_not_null(name: str, column: str, default: str | None, written: bool) -> None:
    if not written and default is None:
        remedy = f"Give {name} a default, or drop NOT NULL."
        message = f"the column {name} is NOT NULL without a default and unknown to the scheduler"
    elif written and column in NULLABLE:
        remedy = f"Drop NOT NULL from {name}."
        message = f"the column {name} is NOT NULL, but the scheduler writes NULL in some rows"
    else:
        return
    raise foreign_schema(message, remedy, table=PLAN, column=column, constraint="NOT NULL")


def _check_strict(name: str, column: str, kind: str) -> None:
    takes = _NUMBER_TYPES if PLAN_COLUMNS[column].startswith("INTEGER") else _TEXT_TYPES
    if kind not in takes:
        raise foreign_schema(
            f"the column {name} of a STRICT table has the type {kind}, which does not accept the "
            "values that the scheduler writes",
            f"Declare {name} as {PLAN_COLUMNS[column].split()[0]} or ANY.",
            table=PLAN,
            column=column,
            constraint=f"STRICT {kind}",
        )


def check_own(connection: apsw.Connection, name: str) -> None:
    """Raise if one of the scheduler's own tables was made by another program."""
    table = read_table(connection, name)
    if table is None:
        return
    wrong = not_ours(table)
    if wrong:
        raise foreign_schema(
            f"the table {name} is not the scheduler's: {wrong}",
            f"Rename it (ALTER TABLE {name} RENAME TO ...), and the scheduler creates its own "
            "(docs/DATABASE.md).",
            table=name,
        )
    for sql in _OWN_STATEMENTS[name]:
        _compile(connection, name, sql, "")


def not_ours(table: Table) -> str:
    """Return why a table is not the scheduler's, an empty text if it is."""
    if table.kind != TABLE:
        return f"it is a {table.kind}"
    name = table.name.lower()
    scratch = connect(":memory:")
    scratch.execute(OWN_TABLES[name])
    own = read_table(scratch, name)
    scratch.close()
    ours = set() if own is None else set(own.columns)
    core, key = _CORE[name]
    strangers = set(table.columns) - ours
    clause = table.conflict_clause()
    wrong = ""
    if missing := core - set(table.columns):
        wrong = f"it lacks the column {min(missing)}"
    # A later release may have added columns to the known ones.
    elif strangers and (name == "contact_issues" or not ours <= set(table.columns)):
        wrong = f"it has a column {min(strangers)}"
    elif key is not None and table.key != key:
        wrong = f"its primary key is ({', '.join(table.key)}), not ({', '.join(key)})"
    elif clause is not None:
        wrong = f"a constraint has a conflict clause: {clause}"
    return wrong or _wrong_column(table, strangers)


def _wrong_column(table: Table, strangers: set[str]) -> str:
    """Return how a column differs from the scheduler's declaration, an empty text if none does."""
    for column in table.columns.values():
        wanted = {"contact_id": "INTEGER", "reason": "TEXT"}.get(column.name, column.type)
        if table.name.lower() == "contact_issues" and column.type.upper() != wanted.upper():
            return f"its column {column.name} has the type {column.type or 'none'}, not {wanted}"
        if (
            column.name in strangers
            and column.not_null
            and column.default is None
            and not column.generated
        ):
            return f"its column {column.name} is NOT NULL without a default"
    return ""


def _compile_columns(
    connection: apsw.Connection,
    table: str,
    columns: Sequence[str],
    statement: Callable[[Sequence[str]], str],
) -> None:
    """Compile a statement with all columns; if it fails, column by column, to name the cause."""
    try:
        _explain(connection, statement(columns))
    except apsw.SQLError:
        for column in columns:
            _compile(connection, table, statement([column]), column)
        _compile(connection, table, statement(columns), "")


def _explain(connection: apsw.Connection, sql: str) -> None:
    """Have SQLite compile a statement; the rows of EXPLAIN may have names that are not text."""
    cursor = connection.cursor()
    try:
        cursor.execute("EXPLAIN " + sql)
    finally:
        cursor.close(True)


def _compile(connection: apsw.Connection, table: str, sql: str, column: str) -> None:
    """Have SQLite compile a statement without running it; raise `foreign_schema` if it cannot."""
    try:
        _explain(connection, sql)
    except apsw.SQLError as error:
        raise _uncompilable(connection, table, column, str(error)) from None


def _uncompilable(
    connection: apsw.Connection, table: str, column: str, text: str
) -> SchedulerError:
    found = objects_with(connection, table, text)
    details = {"table": table, "sqlite": text}
    if column:
        details["column"] = column
    at = f"{table}.{column}" if column else table
    if found:
        kind, name = found[0]
        details[kind] = name
        at += f", which has the {kind} {name},"
    verb = "read" if table in READ_TABLES else "written"
    return foreign_schema(
        f"{at} cannot be {verb}: {text}",
        "Repair or drop the object that needs this. Functions and collations that an "
        "application registers exist only in that application; a trigger or view may refer to a "
        "dropped table.",
        **details,
    )


def objects_with(connection: apsw.Connection, table: str, text: str) -> list[tuple[str, str]]:
    """Return (kind, name) of the table's triggers and indexes that mention what an error names."""
    names = [
        part for part in re.findall(r"[\w$]+", text.rpartition(":")[2]) if part.lower() != "main"
    ]
    if not names:
        return []
    rows = texts(
        connection,
        """
        SELECT type, CAST(name AS BLOB), CAST(lower(sql) AS BLOB) FROM main.sqlite_schema
        WHERE type IN ('trigger', 'index') AND lower(tbl_name) = lower(?) AND sql IS NOT NULL
        ORDER BY type DESC, name
        """,
        (table,),
    )
    return [(str(kind), str(name)) for kind, name, sql in rows if names[-1].lower() in str(sql)]


@contextmanager
def explained(connection: apsw.Connection) -> Iterator[None]:
    """Translate the rejection of a row by a constraint or trigger into `foreign_schema`."""
    try:
        yield
    except apsw.ConstraintError as error:
        raise _refused_row(connection, error) from error
    except apsw.FullError:
        if _ids_are_used_up(connection):
            raise foreign_schema(
                f"{PLAN}.id is AUTOINCREMENT and has reached the largest possible value, so no "
                "row can be added",
                f"Give the rows of {PLAN} smaller ids and set its row in sqlite_sequence to the "
                "largest of them.",
                table=PLAN,
                column="id",
                constraint="AUTOINCREMENT",
            ) from None
        raise


def _ids_are_used_up(connection: apsw.Connection) -> bool:
    """Return whether AUTOINCREMENT is exhausted, which SQLite reports as a full disk."""
    if not connection.execute(
        "SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_sequence'"
    ).fetchone():
        return False
    row = connection.execute(
        "SELECT 1 FROM main.sqlite_sequence WHERE lower(name) = ? AND seq >= ?", (PLAN, 2**63 - 1)
    ).fetchone()
    return row is not None


def _refused_row(connection: apsw.Connection, error: apsw.ConstraintError) -> SchedulerError:
    text, code = str(error), extended_result(error)
    if code == apsw.SQLITE_CONSTRAINT_TRIGGER:
        return _raised(connection, text)
    refusal = of_constraint(error)
    if refusal is None:
        return foreign_schema(
            f"a constraint of the file rejects a row: {text}",
            "Check the constraints of its tables.",
            sqlite=text,
        )
    if code == apsw.SQLITE_CONSTRAINT_CHECK:
        refusal = (
            of_constraint(error, _table_with(connection, refusal.details["constraint"])) or refusal
        )
    name, columns = refusal.details.get("table", ""), refusal.details.get("column", "")
    table = read_table(connection, name) if name else None
    if table is not None and code == apsw.SQLITE_CONSTRAINT_UNIQUE and columns:
        wanted = tuple(columns.lower().split(", "))
        named = [
            i.name for i in table.indexes if i.unique and i.columns == wanted and i.origin == "c"
        ]
        refusal = unique_violation(table.name, named[0] if named else "", columns)
    if name and name.lower() not in {PLAN, *OWN_TABLES}:
        add_to_message(refusal, f"; a trigger of {PLAN} writes into {name}")
    return refusal


def _table_with(connection: apsw.Connection, constraint: str) -> str:
    """Return the table whose SQL has the text or name of a CHECK constraint, the plan first."""
    rows = texts(
        connection,
        """
        SELECT CAST(name AS BLOB), CAST(sql AS BLOB) FROM main.sqlite_schema
        WHERE type = 'table' AND sql IS NOT NULL
        """,
    )
    names = [str(name) for name, sql in rows if constraint in str(sql)]
    return min(names, key=lambda name: name.lower() not in {PLAN, *OWN_TABLES}, default="")


def _raised(connection: apsw.Connection, text: str) -> SchedulerError:
    """Return the error for a trigger's RAISE; names the trigger whose SQL has the text."""
    rows = texts(
        connection,
        """
        SELECT CAST(name AS BLOB), CAST(tbl_name AS BLOB), CAST(sql AS BLOB)
        FROM main.sqlite_schema
        WHERE type = 'trigger'
        """,
    )
    written = {PLAN, *OWN_TABLES}
    raising = [row for row in rows if "raise" in str(row[2]).lower()]
    saying = [row for row in raising if text.replace("'", "''") in str(row[2])] or raising
    saying.sort(key=lambda row: str(row[1]).lower() not in written)
    details = {"sqlite": text}
    if saying:
        name, table, _ = saying[0]
        details |= {"table": str(table), "trigger": str(name)}
        subject = f"the trigger {name} of {table}"
    else:
        subject = "a trigger of the file"
    return foreign_schema(
        f"{subject} rejects what the scheduler writes: {text}",
        "Change the trigger so that rows with the status 'pre-scheduled' or 'skipped' can be "
        "inserted, updated and deleted, or drop it.",
        **details,
    )
