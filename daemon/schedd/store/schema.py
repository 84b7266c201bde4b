"""The tables of an organization's file: the known ones, their columns, and the scheduler's own."""

from __future__ import annotations

from dataclasses import dataclass, field

import apsw

from schedproto import ErrorCode, SchedulerError

from .errors import foreign_schema
from .limits import connect
from .tables import TABLE, Index, Table, affinity_of, quoted, read_table, texts

#: The largest integer up to which floating-point numbers hold all integers exactly.
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
#: The content of a row besides its key. The application may change its times and the run's id.
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
  contact_id INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (contact_id, reason)
) WITHOUT ROWID""",
    "scheduler_config": """CREATE TABLE scheduler_config(
  version INTEGER PRIMARY KEY, toml TEXT NOT NULL,
  created_at TEXT NOT NULL, created_by TEXT NOT NULL, withdrawn_at TEXT, withdrawn_by TEXT)""",
}


@dataclass(frozen=True)
class Schema:
    """The known tables of a file that exist.

    columns: table -> its columns, lower-case.   affinities: table -> column -> affinity (SQLite,
    "Datatypes", section 3.1).   with_rowid: the tables that have row ids; views, virtual and
    WITHOUT ROWID tables do not.   ordered_contacts: whether the table of contacts is stored in the
    order of the ids.

        read_schema(connection).has("contacts", "id", "email")  # True
    """

    columns: dict[str, frozenset[str]] = field(default_factory=dict)
    affinities: dict[str, dict[str, str]] = field(default_factory=dict)
    with_rowid: frozenset[str] = frozenset()
    ordered_contacts: bool = True

    def has(self, table: str, *columns: str) -> bool:
        """Return whether a table exists with these columns."""
        return table in self.columns and self.columns[table].issuperset(columns)

    def affinity(self, table: str, column: str) -> str:
        """Return the affinity of a column; `BLOB`, which converts nothing, if it does not exist."""
        return self.affinities.get(table, {}).get(column, "BLOB")

    def row_id(self, table: str) -> str:
        """Return the SQL of a table's row id, NULL if it has none."""
        return "rowid" if table in self.with_rowid else "NULL"

    def table_order(self, table: str) -> str:
        """Return the ORDER BY clause for the order of a table, empty if it has no row ids."""
        return " ORDER BY rowid" if table in self.with_rowid else ""


def table_columns(connection: apsw.Connection, table: str) -> frozenset[str]:
    """Return the columns of a table, lower-case; empty if the table does not exist."""
    return frozenset(_affinities(connection, table))


def _affinities(connection: apsw.Connection, table: str) -> dict[str, str]:
    """Return the columns of a table, lower-case, and their affinities."""
    sql = "SELECT CAST(lower(name) AS BLOB), CAST(type AS BLOB) FROM pragma_table_xinfo(?, 'main')"
    return {
        str(name): affinity_of(str(declared or ""))
        for name, declared in texts(connection, sql, (table,))
    }


def version(connection: apsw.Connection) -> int:
    """Return the schema's version, which SQLite increments with each change by any program."""
    return int(connection.execute("PRAGMA main.schema_version").get)


def read_schema(connection: apsw.Connection) -> Schema:
    """Return the known tables that exist. Raises `SchedulerError` (`foreign_schema`)."""
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
    with_rowid = frozenset(
        str(name)
        for name, kind, without_rowid in texts(connection, sql)
        if kind == "table" and not without_rowid
    )
    contacts = read_table(connection, "contacts")
    return Schema(
        columns={table: frozenset(columns) for table, columns in affinities.items()},
        affinities=affinities,
        with_rowid=with_rowid & affinities.keys(),
        ordered_contacts=contacts is not None and contacts.is_ordered_by("id"),
    )


def check_contacts(connection: apsw.Connection, schema: Schema, path: str) -> None:
    """Raise `SchedulerError` unless `contacts` has the required columns and a row."""
    if "contacts" not in schema.columns:
        raise SchedulerError(
            ErrorCode.CONTACTS_MISSING,
            "the database has no table 'contacts'",
            hint="Check that this is an organization's database; docs/DATABASE.md lists the "
            "tables.",
            details={"path": path},
        )
    missing = [name for name in REQUIRED_COLUMNS if name not in schema.columns["contacts"]]
    if missing:
        noun = "columns" if len(missing) > 1 else "column"
        raise SchedulerError(
            ErrorCode.COLUMN_MISSING,
            f"the table 'contacts' lacks the {noun} {', '.join(missing)}",
            hint="Add the missing columns in the main application; docs/DATABASE.md lists the "
            "columns.",
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
    """Raise unless contacts.id is a unique column of integers.

    The rules spread e-mails by a hash of the integer, and all keys and orders depend on it. A
    column that is not an alias of the rowid is accepted, but slower (`Schema.ordered_contacts`).
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
    """Raise for an id that is not an integer; an alias of the rowid cannot hold one."""
    rows = texts(
        connection,
        """
        SELECT CAST(quote(id) AS BLOB) FROM contacts
        WHERE typeof(id) <> 'integer'
        ORDER BY id DESC LIMIT 1
        """,
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
    """Raise for a contact id that a floating-point column cannot hold exactly."""
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
# As in a unique index: NULL is not equal to NULL.
_KEYED = " AND ".join(f"{name} IS NOT NULL" for name in PLAN_KEY)


def check_keys(connection: apsw.Connection, schema: Schema) -> None:
    """Raise `duplicate_keys` if rows of the sender prevent the plan's missing unique index.

    Planned rows do not count: the run deletes surplus ones (rules, section 11).
    """
    if not schema.has(PLAN, *PLAN_KEY, "status") or has_key(read_table(connection, PLAN)):
        return
    shown_key = ", ".join(f"CAST({name} AS BLOB)" for name in PLAN_KEY)
    of_sender = "(status IS NULL OR status COLLATE BINARY NOT IN ('pre-scheduled', 'skipped'))"
    keys = texts(
        connection,
        f"""
        SELECT {shown_key}, count(*) FROM {PLAN}
        WHERE {_KEYED} AND {of_sender}
        GROUP BY {_PLAIN_KEY}
        HAVING count(*) > 1
        LIMIT 6
        """,
    )
    if not keys:
        return
    shown = "; ".join(f"contact {c}, {t}, {d} ({n} rows)" for c, t, d, n in keys[:5])
    more = "; and more" if len(keys) > 5 else ""
    raise SchedulerError(
        ErrorCode.DUPLICATE_KEYS,
        f"email_schedules has several rows with one key: {shown}{more}",
        hint="Each (contact_id, email_type, scheduled_send_date) may occur only once; remove the "
        "duplicate rows.",
        details={"keys": shown},
    )


def has_key(plan: Table | None) -> bool:
    """Return whether a unique index is on the plan's key, in any collation."""
    return plan is not None and any(
        index.unique and index.is_on(PLAN_KEY) for index in plan.indexes
    )


def complete_key(connection: apsw.Connection) -> None:
    """Create the plan's unique index if it is missing, after surplus planned rows were deleted."""
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
    """Return a name for an index, with a number appended if the name is taken."""
    taken = {
        name
        for (name,) in texts(connection, "SELECT CAST(lower(name) AS BLOB) FROM main.sqlite_schema")
    }
    names = (name if not number else f"{name}_{number}" for number in range(len(taken) + 1))
    return next(candidate for candidate in names if candidate not in taken)


# The sender's index -------------------------------------------------------------------------------


def _sender_indexes(plan: Table | None) -> list[Index]:
    """Return the indexes on exactly (status, scheduled_send_date), in any collation."""
    return [] if plan is None else [i for i in plan.indexes if i.is_on(SENDER_INDEX_COLUMNS)]


def sender_indexes(connection: apsw.Connection) -> dict[str, str]:
    """Return the name and SQL of the plain indexes on exactly (status, scheduled_send_date)."""
    indexes = _sender_indexes(read_table(connection, PLAN))
    plain = {index.name for index in indexes if index.is_plain and not index.unique}
    found = texts(
        connection,
        """
        SELECT CAST(name AS BLOB), CAST(sql AS BLOB) FROM main.sqlite_schema
        WHERE type = 'index' AND sql IS NOT NULL
        """,
    )
    # An index whose SQL is not valid text cannot be rebuilt from it.
    return {name: sql for name, sql in found if name in plain and "\ufffd" not in name + sql}


# Completing ---------------------------------------------------------------------------------------


def is_complete(connection: apsw.Connection, schema: Schema) -> bool:
    """Return whether `complete` and `complete_key` would change nothing."""
    own = connect(":memory:")
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
    """Create or complete the scheduler's tables, inside the caller's transaction.

    Existing rows, columns and indexes stay. `complete_key` later adds the unique index of an
    existing plan.
    """
    if PLAN not in schema.columns:
        columns = ", ".join(f"{name} {kind}" for name, kind in PLAN_COLUMNS.items())
        connection.execute(f"CREATE TABLE {PLAN}({columns}, UNIQUE ({', '.join(PLAN_KEY)}))")
    else:
        for name, kind in PLAN_COLUMNS.items():
            if name not in schema.columns[PLAN] and name != "id":
                # SQLite adds a column only if existing rows may lack a value.
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


def add_missing_columns(connection: apsw.Connection, table: str, existing: frozenset[str]) -> None:
    """Add the columns that one of the scheduler's tables lacks since an older release."""
    scratch = connect(":memory:")
    scratch.execute(OWN_TABLES[table])
    for name, kind in scratch.execute("SELECT name, type FROM pragma_table_info(?)", (table,)):
        if name.lower() not in existing:
            connection.execute(f"ALTER TABLE {quoted(table)} ADD COLUMN {name} {kind}")
    scratch.close()
