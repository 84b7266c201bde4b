"""The tables of an organization's file: which are there, with which columns, and the scheduler's own."""

from __future__ import annotations

from dataclasses import dataclass, field

import apsw

from schedproto import ErrorCode, SchedulerError

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
    "contact_campaigns": ("contact_id", "campaign_instance_id", "trigger_date", "status", "metadata"),
    "tracking_clicks": ("contact_id", "clicked_at"),
    "contact_events": ("contact_id", "event_type", "metadata", "created_at"),
}
REQUIRED_COLUMNS = ("id", "email", "zip_code")

#: The plan's columns: name -> declaration for a new table, and for a column added to an existing one.
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
    """The known tables of a file: table -> its columns, lower-case. Tables that are missing are absent.

    affinities: table -> column -> what its declared type makes of values (SQLite, "Datatypes", section 3.1).
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
        """Return the affinity of a column; `BLOB`, which converts nothing, for one that is not there."""
        return self.affinities.get(table, {}).get(column, "BLOB")

    def row_id(self, table: str) -> str:
        """Return the SQL of a table's row id, NULL where it has none."""
        return "rowid" if table in self.with_rowid else "NULL"

    def table_order(self, table: str) -> str:
        """Return the ORDER BY clause for the order of a table, empty where it has none."""
        return " ORDER BY rowid" if table in self.with_rowid else ""


def affinity_of(declared: str) -> str:
    """Return the affinity of a declared type (SQLite, "Datatypes", section 3.1)."""
    declared = declared.upper()
    if "INT" in declared:
        return "INTEGER"
    if any(part in declared for part in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not declared or "BLOB" in declared:
        return "BLOB"
    return "REAL" if any(part in declared for part in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def quoted(name: str) -> str:
    """Return an identifier quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def table_columns(connection: apsw.Connection, table: str) -> frozenset[str]:
    """Return the columns of a table, lower-case; empty if there is no such table."""
    return frozenset(_affinities(connection, table))


def _affinities(connection: apsw.Connection, table: str) -> dict[str, str]:
    """Return the columns of a table, lower-case, and their affinities."""
    rows = connection.execute("SELECT lower(name), type FROM pragma_table_xinfo(?, 'main')", (table,))
    return {str(name): affinity_of(str(declared or "")) for name, declared in rows}


def read_schema(connection: apsw.Connection) -> Schema:
    """Return which of the known tables are there, and with which columns."""
    affinities = {}
    for table in (*READ_TABLES, PLAN, *OWN_TABLES):
        found = _affinities(connection, table)
        if found:
            affinities[table] = found
    kinds = connection.execute("SELECT lower(name), type, wr FROM pragma_table_list WHERE schema = 'main'")
    with_rowid = frozenset(str(name) for name, kind, without in kinds if kind == "table" and not without)
    return Schema(
        columns={table: frozenset(columns) for table, columns in affinities.items()},
        affinities=affinities,
        with_rowid=with_rowid & affinities.keys(),
        ordered_contacts=_is_ordered(connection),
    )


def _is_ordered(connection: apsw.Connection) -> bool:
    """Return whether `contacts` is stored in the order of its ids.

    It is if `id` is the alias of the rowid, or the key of a WITHOUT ROWID table: then no index stands for the key.
    """
    rows = connection.execute("SELECT count(*) FROM pragma_index_list('contacts', 'main') WHERE origin = 'pk'")
    [(indexes,)] = rows
    kinds = connection.execute(
        "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = 'contacts' COLLATE NOCASE"
    )
    return any(without for (without,) in kinds) or not indexes


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
    key = connection.execute(
        "SELECT lower(name) FROM pragma_table_xinfo('contacts', 'main') WHERE pk > 0 AND upper(type) = 'INTEGER'"
    ).fetchall()
    if not missing and key != [("id",)]:
        raise SchedulerError(
            ErrorCode.COLUMN_MISSING,
            "the column contacts.id is not the table's INTEGER PRIMARY KEY",
            hint="The main application's table must declare `id INTEGER PRIMARY KEY`.",
            details={"path": path, "columns": "id"},
        )
    if missing:
        raise SchedulerError(
            ErrorCode.COLUMN_MISSING,
            f"the table 'contacts' lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}",
            hint="Add what is missing in the main application; docs/DATABASE.md lists the columns.",
            details={"path": path, "columns": ", ".join(missing)},
        )

    if connection.execute("SELECT 1 FROM contacts LIMIT 1").fetchone() is None:
        raise SchedulerError(
            ErrorCode.CONTACTS_EMPTY,
            "the table 'contacts' has no rows",
            hint="Check that this is the right file; the present plan, if there is one, was left alone.",
            details={"path": path},
        )


def check_keys(connection: apsw.Connection, schema: Schema) -> None:
    """Raise `duplicate_keys` if the plan's unique index is missing and cannot be made."""
    if schema.has(PLAN, *PLAN_KEY) and list(PLAN_KEY) not in _indexes(connection, True).values():
        _raise_on_duplicates(connection)


def _indexes(connection: apsw.Connection, unique: bool) -> dict[str, list[str]]:
    """Return the plan's whole, plainly collated indexes: name -> columns, lower-case."""
    found = {}
    rows = connection.execute(
        "SELECT name FROM pragma_index_list(?, 'main') WHERE partial = 0 AND \"unique\" = ?",
        (PLAN, int(unique)),
    ).fetchall()
    for (name,) in rows:
        parts = connection.execute(
            "SELECT lower(name), \"desc\" = 0 AND upper(coll) = 'BINARY' "
            "FROM pragma_index_xinfo(?, 'main') WHERE key = 1 ORDER BY seqno",
            (name,),
        ).fetchall()
        if all(column is not None and plain for column, plain in parts):
            found[str(name)] = [str(column) for column, _ in parts]
    return found


def sender_indexes(connection: apsw.Connection) -> dict[str, str]:
    """Return the indexes on exactly (status, scheduled_send_date): name -> the SQL that made it."""
    names = [n for n, columns in _indexes(connection, False).items() if tuple(columns) == SENDER_INDEX_COLUMNS]
    return {
        name: connection.execute("SELECT sql FROM sqlite_schema WHERE type = 'index' AND name = ?", (name,)).get
        for name in names
    }


def _raise_on_duplicates(connection: apsw.Connection) -> None:
    keys = connection.execute(
        "SELECT contact_id, email_type, scheduled_send_date, count(*) FROM email_schedules "
        "GROUP BY 1, 2, 3 HAVING count(*) > 1 LIMIT 6"
    ).fetchall()
    if not keys:
        return
    shown = "; ".join(f"contact {c}, {t}, {d} ({n} rows)" for c, t, d, n in keys[:5])
    raise SchedulerError(
        ErrorCode.DUPLICATE_KEYS,
        f"email_schedules has several rows with one key: {shown}{'; and more' if len(keys) > 5 else ''}",
        hint="Each (contact_id, email_type, scheduled_send_date) may stand once; remove the surplus rows.",
        details={"keys": shown},
    )


def is_complete(connection: apsw.Connection, schema: Schema) -> bool:
    """Return whether `complete` would change nothing."""
    own = apsw.Connection(":memory:")
    for sql in OWN_TABLES.values():
        own.execute(sql)
    wanted = {name: table_columns(own, name) for name in OWN_TABLES} | {PLAN: frozenset(PLAN_COLUMNS)}
    own.close()
    return (
        all(wanted[name] <= schema.columns.get(name, frozenset()) for name in wanted)
        and list(PLAN_KEY) in _indexes(connection, True).values()
        and bool(sender_indexes(connection))
    )


def complete(connection: apsw.Connection, schema: Schema) -> None:
    """Make or complete the scheduler's tables, inside the caller's transaction.

    Existing rows, columns and indexes stay. Duplicate keys of the plan raise `duplicate_keys`.
    """
    if PLAN not in schema.columns:
        columns = ", ".join(f"{name} {kind}" for name, kind in PLAN_COLUMNS.items())
        connection.execute(f"CREATE TABLE {PLAN}({columns}, UNIQUE ({', '.join(PLAN_KEY)}))")
    else:
        for name, kind in PLAN_COLUMNS.items():
            if name not in schema.columns[PLAN] and name != "id":
                # A column can only be added if rows that are there may lack it.
                connection.execute(f"ALTER TABLE {PLAN} ADD COLUMN {name} {kind.removesuffix(' NOT NULL')}")
        if list(PLAN_KEY) not in _indexes(connection, True).values():
            _raise_on_duplicates(connection)
            connection.execute(f"CREATE UNIQUE INDEX {PLAN_KEY_INDEX} ON {PLAN}({', '.join(PLAN_KEY)})")
    if not sender_indexes(connection):
        connection.execute(f"CREATE INDEX {SENDER_INDEX} ON {PLAN}({', '.join(SENDER_INDEX_COLUMNS)})")
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
