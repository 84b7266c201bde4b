"""The tables of an organization's file.

Which are there, with which columns, and the scheduler's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import apsw

from schedproto import ErrorCode, SchedulerError

from .errors import foreign_schema
from .tables import TABLE, Index, Table, affinity_of, quoted, read_table, texts

#: Up to here a floating-point number holds every whole number exactly.
_LARGEST_EXACT = 2**53

#: The main application's tables and the columns that are read of them (docs/DATABASE.md).
READ_TABLES: dict[str, tuple[str, ...]] = {
    "contacts": (
        "id",
        "email",
        "zip_code",
        "birth_date",
        "effective_date",
        "status",
        "carrier",
        "current_carrier",
        "failed_underwriting",
    ),
    "campaign_types": (
        "name",
        "respect_exclusion_windows",
        "enable_followups",
        "days_before_event",
        "target_all_contacts",
        "priority",
        "active",
        "spread_evenly",
        "skip_failed_underwriting",
    ),
    "campaign_instances": (
        "id",
        "campaign_type",
        "instance_name",
        "email_template",
        "sms_template",
        "active_start_date",
        "active_end_date",
        "spread_start_date",
        "spread_end_date",
        "target_states",
        "target_carriers",
        "metadata",
    ),
    "contact_campaigns": (
        "contact_id",
        "campaign_instance_id",
        "trigger_date",
        "status",
        "metadata",
    ),
    "tracking_clicks": ("contact_id", "clicked_at"),
    "contact_events": ("contact_id", "event_type", "metadata", "created_at"),
}
REQUIRED_COLUMNS = ("id", "email", "zip_code")

#: The plan's columns: name -> declaration for a new table, and for a column added to an existing
#: one.
PLAN_COLUMNS: dict[str, str] = {
    "id": "INTEGER PRIMARY KEY",
    "contact_id": "INTEGER NOT NULL",
    "email_type": "TEXT NOT NULL",
    "scheduled_send_date": "TEXT NOT NULL",
    "scheduled_send_time": "TEXT NOT NULL",
    "status": "TEXT NOT NULL",
    "skip_reason": "TEXT",
    "priority": "INTEGER",
    "campaign_instance_id": "INTEGER",
    "email_template": "TEXT",
    "sms_template": "TEXT",
    "event_year": "INTEGER",
    "event_month": "INTEGER",
    "event_day": "INTEGER",
    "scheduler_run_id": "TEXT",
    "metadata": "TEXT",
    "created_at": "TEXT",
    "updated_at": "TEXT",
    "actual_send_datetime": "TEXT",
}
PLAN = "email_schedules"
PLAN_KEY = ("contact_id", "email_type", "scheduled_send_date")
#: What a row says besides its key. Its times and the run's id may be changed by the application.
PLAN_CONTENT = (
    "scheduled_send_time",
    "status",
    "skip_reason",
    "priority",
    "campaign_instance_id",
    "email_template",
    "sms_template",
    "event_year",
    "event_month",
    "event_day",
    "metadata",
)
PLAN_KEY_INDEX = "email_schedules_key"
SENDER_INDEX_COLUMNS = ("status", "scheduled_send_date")
SENDER_INDEX = "email_schedules_status_date"

OWN_TABLES: dict[str, str] = {
    "scheduler_runs": """CREATE TABLE scheduler_runs(
  run_id TEXT PRIMARY KEY, as_of TEXT NOT NULL, config_version INTEGER, mode TEXT NOT NULL,
  started_at TEXT NOT NULL, finished_at TEXT, status TEXT NOT NULL, error TEXT,
  contacts_read INTEGER, contacts_eligible INTEGER,
  rows_inserted INTEGER, rows_updated INTEGER, rows_deleted INTEGER, rows_unchanged INTEGER,
  counts TEXT, stage_timings TEXT, summary TEXT)""",
    "contact_issues": """CREATE TABLE contact_issues(
  contact_id INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (contact_id, reason)) WITHOUT ROWID""",
    "scheduler_config": """CREATE TABLE scheduler_config(
  version INTEGER PRIMARY KEY, toml TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT NOT NULL,
  withdrawn_at TEXT, withdrawn_by TEXT)""",
}


@dataclass(frozen=True)
class Schema:
    """The known tables of a file: table -> its columns, lower-case.

    Tables that are missing are absent.

    affinities: table -> column -> what its declared type makes of values (SQLite, "Datatypes",
    section 3.1).
    with_rowid: the tables that have row ids; views, virtual and WITHOUT ROWID tables do not.
    ordered_contacts: whether the table of contacts is stored in the order of the ids.
    """

    columns: dict[str, frozenset[str]] = field(default_factory=dict)
    affinities: dict[str, dict[str, str]] = field(default_factory=dict)
    with_rowid: frozenset[str] = frozenset()
    ordered_contacts: bool = True

    def has(self, table: str, *columns: str) -> bool:
        """Return whether a table is there with these columns."""
        return table in self.columns and self.columns[table].issuperset(columns)

    def affinity(self, table: str, column: str) -> str:
        """Return the affinity of a column.

        `BLOB`, which converts nothing, for one that is not there.
        """
        return self.affinities.get(table, {}).get(column, "BLOB")

    def row_id(self, table: str) -> str:
        """Return the SQL of a table's row id, NULL where it has none."""
        return "rowid" if table in self.with_rowid else "NULL"

    def table_order(self, table: str) -> str:
        """Return the ORDER BY clause for the order of a table, empty where it has none."""
        return " ORDER BY rowid" if table in self.with_rowid else ""


def table_columns(connection: apsw.Connection, table: str) -> frozenset[str]:
    """Return the columns of a table, lower-case; empty if there is no such table."""
    return frozenset(_affinities(connection, table))


def _affinities(connection: apsw.Connection, table: str) -> dict[str, str]:
    """Return the columns of a table, lower-case, and their affinities."""
    sql = "SELECT CAST(lower(name) AS BLOB), CAST(type AS BLOB) FROM pragma_table_xinfo(?, 'main')"
    return {
        str(name): affinity_of(str(declared or ""))
        for name, declared in texts(connection, sql, (table,))
    }


def version(connection: apsw.Connection) -> int:
    """Return the number that SQLite raises with each change of the schema, by whatever program."""
    return int(connection.execute("PRAGMA main.schema_version").get)


def read_schema(connection: apsw.Connection) -> Schema:
    """Return which of the known tables are there, and with which columns."""
    affinities = {}
    for table in (*READ_TABLES, PLAN, *OWN_TABLES):
        try:
            found = _affinities(connection, table)
        except apsw.SQLError as error:
            raise foreign_schema(
                f"{table} cannot be read: {error}",
                f"Repair {table} in the program that made it: it is a view on a dropped object, "
                "or a virtual table of an extension that only that program has.",
                table=table,
                sqlite=str(error),
            ) from None
        if found:
            affinities[table] = found
    sql = "SELECT CAST(lower(name) AS BLOB), type, wr FROM pragma_table_list WHERE schema = 'main'"
    kinds = texts(connection, sql)
    with_rowid = frozenset(
        str(name) for name, kind, without in kinds if kind == "table" and not without
    )
    contacts = read_table(connection, "contacts")
    return Schema(
        columns={table: frozenset(columns) for table, columns in affinities.items()},
        affinities=affinities,
        with_rowid=with_rowid & affinities.keys(),
        ordered_contacts=contacts is not None and contacts.is_ordered_by("id"),
    )


def check_contacts(connection: apsw.Connection, schema: Schema, path: str) -> None:
    """Raise unless `contacts` is there with the required columns and at least one row."""
    if "contacts" not in schema.columns:
        raise SchedulerError(
            ErrorCode.CONTACTS_MISSING,
            "the database has no table 'contacts'",
            hint="Check that this is an organization's database; docs/DATABASE.md lists the tables.",
            details={"path": path},
        )
    missing = [name for name in REQUIRED_COLUMNS if name not in schema.columns["contacts"]]
    if missing:
        raise SchedulerError(
            ErrorCode.COLUMN_MISSING,
            f"the table 'contacts' lacks the column{'s' if len(missing) > 1 else ''} "
            f"{', '.join(missing)}",
            hint="Add the missing columns in the main application; docs/DATABASE.md lists the columns.",
            details={"path": path, "columns": ", ".join(missing)},
        )
    _check_contacts_key(connection, path)
    if schema.affinity(PLAN, "contact_id") == "REAL":
        _check_exact_ids(connection, path)

    if connection.execute("SELECT 1 FROM contacts LIMIT 1").fetchone() is None:
        raise SchedulerError(
            ErrorCode.CONTACTS_EMPTY,
            "the table 'contacts' has no rows",
            hint="Check that this is the correct file. The existing plan, if any, was not changed.",
            details={"path": path},
        )


def _check_contacts_key(connection: apsw.Connection, path: str) -> None:
    """Raise unless contacts.id is a unique column of whole numbers.

    The rules spread e-mails by a hash of a whole number, and all keys and orders rest on it. A
    column that is not an alias of the rowid serves as well, if only more slowly
    (`Schema.ordered_contacts`).
    """
    table = read_table(connection, "contacts")
    if table is None:
        return
    if table.kind != TABLE:
        raise foreign_schema(
            f"contacts is a {table.kind}, not a table, so unique contact ids are not guaranteed",
            "Make contacts a table with `id INTEGER PRIMARY KEY`.",
            path=path,
            table="contacts",
        )
    if not table.is_unique("id"):
        raise foreign_schema(
            f"the column contacts.id {table.why_not_rowid('id')} and has no unique index",
            "The table must declare `id INTEGER PRIMARY KEY`, or have a unique index on id.",
            path=path,
            table="contacts",
            column="id",
        )
    if table.rowid_alias != "id":
        _check_stored_ids(connection, path)


def _check_stored_ids(connection: apsw.Connection, path: str) -> None:
    """Raise for an id that is not a whole number, which only a column that is not the rowid's alias can hold."""
    rows = texts(
        connection,
        "SELECT CAST(quote(id) AS BLOB) FROM contacts WHERE typeof(id) <> 'integer' ORDER BY id DESC LIMIT 1",
    )
    for row in rows:
        raise foreign_schema(
            f"the table contacts has a row whose id is not a whole number: {row[0]:.60}",
            "Give each contact a whole number as its id, here and in the tables that refer to "
            "it, and keep the existing id in another column. Text ids (for example UUIDs) are "
            "not supported.",
            path=path,
            table="contacts",
            column="id",
        )


def _check_exact_ids(connection: apsw.Connection, path: str) -> None:
    """Raise for a contact id that the plan's contact_id, declared as a floating-point number, cannot hold."""
    smallest = connection.execute("SELECT min(id) FROM contacts").get
    largest = connection.execute("SELECT max(id) FROM contacts").get
    for number in (smallest, largest):
        if number is not None and abs(number) > _LARGEST_EXACT:
            raise foreign_schema(
                f"the column {PLAN}.contact_id is declared as a floating-point number, which "
                f"cannot hold the contact id {number} exactly",
                f"Declare {PLAN}.contact_id as INTEGER in the program that made the table.",
                path=path,
                table=PLAN,
                column="contact_id",
            )


# The key of the plan ------------------------------------------------------------------------------

_PLAIN_KEY = ", ".join(f"{name} COLLATE BINARY" for name in PLAN_KEY)
# As a unique index has it: NULL is not equal to NULL.
_KEYED = " AND ".join(f"{name} IS NOT NULL" for name in PLAN_KEY)


def check_keys(connection: apsw.Connection, schema: Schema) -> None:
    """Raise `duplicate_keys` if the plan's unique index is missing and rows that stay make it impossible.

    Rows of the present plan do not count: surplus ones are deleted with the difference (rules,
    section 11).
    """
    if not schema.has(PLAN, *PLAN_KEY, "status") or has_key(read_table(connection, PLAN)):
        return
    shown_key = ", ".join(f"CAST({name} AS BLOB)" for name in PLAN_KEY)
    keys = texts(
        connection,
        f"SELECT {shown_key}, count(*) FROM {PLAN} "
        f"WHERE {_KEYED} AND (status IS NULL OR status COLLATE BINARY NOT IN ('pre-scheduled', 'skipped')) "
        f"GROUP BY {_PLAIN_KEY} HAVING count(*) > 1 LIMIT 6",
    )
    if not keys:
        return
    shown = "; ".join(f"contact {c}, {t}, {d} ({n} rows)" for c, t, d, n in keys[:5])
    raise SchedulerError(
        ErrorCode.DUPLICATE_KEYS,
        "email_schedules has several rows with one key: "
        f"{shown}{'; and more' if len(keys) > 5 else ''}",
        hint="Each (contact_id, email_type, scheduled_send_date) may occur only once; remove the duplicate rows.",
        details={"keys": shown},
    )


def has_key(plan: Table | None) -> bool:
    """Return whether a unique index keeps the plan's keys apart.

    One with another collation keeps more apart.
    """
    return plan is not None and any(
        index.unique and index.is_on(PLAN_KEY) for index in plan.indexes
    )


def complete_key(connection: apsw.Connection) -> None:
    """Make the plan's unique index if it is missing.

    The surplus rows of the present plan are deleted by then.
    """
    if has_key(read_table(connection, PLAN)):
        return
    try:
        connection.execute(
            f"CREATE UNIQUE INDEX {_free_name(connection, PLAN_KEY_INDEX)} ON {PLAN}({_PLAIN_KEY})"
        )
    except apsw.ConstraintError:
        check_keys(connection, read_schema(connection))
        raise


def _free_name(connection: apsw.Connection, name: str) -> str:
    """Return a name for an index, with a number if another object has the name already."""
    taken = {
        name
        for (name,) in texts(connection, "SELECT CAST(lower(name) AS BLOB) FROM main.sqlite_schema")
    }
    names = (name if not number else f"{name}_{number}" for number in range(len(taken) + 1))
    return next(candidate for candidate in names if candidate not in taken)


# The sender's index -------------------------------------------------------------------------------


def _sender_indexes(plan: Table | None) -> list[Index]:
    """Return the indexes on exactly (status, scheduled_send_date), whatever their collations."""
    return [] if plan is None else [i for i in plan.indexes if i.is_on(SENDER_INDEX_COLUMNS)]


def sender_indexes(connection: apsw.Connection) -> dict[str, str]:
    """Return the plain indexes on exactly (status, scheduled_send_date).

    Name -> the SQL that made it.
    """
    plain = {
        i.name for i in _sender_indexes(read_table(connection, PLAN)) if i.is_plain and not i.unique
    }
    found = texts(
        connection,
        "SELECT CAST(name AS BLOB), CAST(sql AS BLOB) FROM main.sqlite_schema WHERE type = 'index' AND sql IS NOT NULL",
    )
    # One whose SQL is not text cannot be made again as it was.
    return {name: sql for name, sql in found if name in plain and "\ufffd" not in name + sql}


# Completing ---------------------------------------------------------------------------------------


def is_complete(connection: apsw.Connection, schema: Schema) -> bool:
    """Return whether `complete` and `complete_key` would change nothing."""
    own = apsw.Connection(":memory:")
    for sql in OWN_TABLES.values():
        own.execute(sql)
    wanted = {name: table_columns(own, name) for name in OWN_TABLES} | {
        PLAN: frozenset(PLAN_COLUMNS)
    }
    own.close()
    plan = read_table(connection, PLAN)
    return (
        all(wanted[name] <= schema.columns.get(name, frozenset()) for name in wanted)
        and has_key(plan)
        and bool(_sender_indexes(plan))
    )


def complete(connection: apsw.Connection, schema: Schema) -> None:
    """Make or complete the scheduler's tables, inside the caller's transaction.

    Existing rows, columns and indexes stay. The unique index of an existing plan comes last: see
    `complete_key`.
    """
    if PLAN not in schema.columns:
        columns = ", ".join(f"{name} {kind}" for name, kind in PLAN_COLUMNS.items())
        connection.execute(f"CREATE TABLE {PLAN}({columns}, UNIQUE ({', '.join(PLAN_KEY)}))")
    else:
        for name, kind in PLAN_COLUMNS.items():
            if name not in schema.columns[PLAN] and name != "id":
                # A column can only be added if rows that are there may lack it.
                connection.execute(
                    f"ALTER TABLE {PLAN} ADD COLUMN {name} {kind.removesuffix(' NOT NULL')}"
                )
    if not _sender_indexes(read_table(connection, PLAN)):
        name = _free_name(connection, SENDER_INDEX)
        connection.execute(f"CREATE INDEX {name} ON {PLAN}({', '.join(SENDER_INDEX_COLUMNS)})")
    for name, sql in OWN_TABLES.items():
        if name not in schema.columns:
            connection.execute(sql)
        else:
            add_missing_columns(connection, name, schema.columns[name])


def add_missing_columns(connection: apsw.Connection, table: str, present: frozenset[str]) -> None:
    """Add the columns of one of the scheduler's own tables that an older release did not have."""
    scratch = apsw.Connection(":memory:")
    scratch.execute(OWN_TABLES[table])
    for name, kind in scratch.execute("SELECT name, type FROM pragma_table_info(?)", (table,)):
        if name.lower() not in present:
            connection.execute(f"ALTER TABLE {quoted(table)} ADD COLUMN {name} {kind}")
    scratch.close()
