"""The description of an organization's file and of the data folder, as `schedctl info` shows it.

Only reads.
"""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from schedproto import OrganizationInfo, SchedulerError, VolumeInfo
from schedproto.ids import DATABASE_SUFFIX, ORGANIZATION_ID
from schedproto.jobs import LastRun, TableInfo

from .connection import open_reader
from .errors import sqlite_errors
from .runs import applicable_configuration
from .schema import OWN_TABLES, PLAN, PLAN_COLUMNS, READ_TABLES, Schema, read_schema
from .tables import texts

#: Maximum number of days that are listed.
NEXT_DAYS = 14


def describe(path: Path, organization: str) -> OrganizationInfo:
    """Return the description of a file.

    Raises `SchedulerError` if the file cannot be read at all. Damage that is found later is
    reported in the `error` field, next to what could be read.
    """
    connection = open_reader(path)
    try:
        with sqlite_errors(path):
            connection.execute("BEGIN")
            schema = read_schema(connection)
            [(page_size,)] = connection.execute("PRAGMA page_size")
            [(journal,)] = connection.execute("PRAGMA journal_mode")
        info = OrganizationInfo(
            organization=organization,
            path=str(path),
            size_bytes=path.stat().st_size,
            journal_mode=str(journal),
            page_size=int(page_size),
            tables=[
                TableInfo(name=name, present=name in schema.columns)
                for name in (*READ_TABLES, PLAN)
            ],
        )
        try:
            with sqlite_errors(path):
                return _details(connection, schema, info)
        except SchedulerError as error:
            return _replaced(info, error=error.info())
    finally:
        connection.close()


def _replaced(info: OrganizationInfo, **changes: object) -> OrganizationInfo:
    values = {name: getattr(info, name) for name in info.__struct_fields__}
    return OrganizationInfo(**(values | changes))


def _details(
    connection: apsw.Connection, schema: Schema, info: OrganizationInfo
) -> OrganizationInfo:
    tables = []
    for name in (*READ_TABLES, PLAN, *OWN_TABLES):
        if name not in schema.columns:
            tables.append(TableInfo(name=name, present=False))
            continue
        [(rows,)] = connection.execute(f"SELECT count(*) FROM {name}")
        known = READ_TABLES.get(name, tuple(PLAN_COLUMNS) if name == PLAN else ())
        missing = [column for column in known if column not in schema.columns[name]]
        carriers = ["carrier", "current_carrier"]  # either does
        if name == "contacts" and not set(carriers) <= set(missing):
            missing = [column for column in missing if column not in carriers]
        tables.append(TableInfo(name=name, present=True, rows=int(rows), missing_columns=missing))
    contacts = next((table.rows for table in tables if table.name == "contacts"), None)
    plan: dict[str, int] = {}
    next_dates: dict[str, int] = {}
    if schema.has(PLAN, "status", "scheduled_send_date"):
        plan = _counts(connection, "status", f"{PLAN} GROUP BY status ORDER BY status")
        planned = f"{PLAN} WHERE status = 'pre-scheduled'"
        dates = "GROUP BY scheduled_send_date ORDER BY scheduled_send_date"
        next_dates = _counts(
            connection, "scheduled_send_date", f"{planned} {dates} LIMIT {NEXT_DAYS}"
        )
    issues = {}
    if schema.has("contact_issues", "reason"):
        issues = _counts(connection, "reason", "contact_issues GROUP BY reason ORDER BY reason")
    stored = applicable_configuration(connection, schema)
    return _replaced(
        info,
        contacts=contacts,
        plan=plan,
        next_dates=next_dates,
        issues=issues,
        tables=tables,
        last_run=_last_run(connection, schema),
        config_version=None if stored is None else stored.version,
    )


def _counts(connection: apsw.Connection, column: str, source: str) -> dict[str, int]:
    """Return the number of rows of each value of a column. source: the SQL after FROM."""
    rows = texts(connection, f"SELECT CAST({column} AS BLOB), count(*) FROM {source}")
    return {str(value): int(count) for value, count in rows}


def _last_run(connection: apsw.Connection, schema: Schema) -> LastRun | None:
    columns = ("run_id", "as_of", "status", "mode", "started_at", "finished_at", "error")
    if not schema.has("scheduler_runs", *columns):
        return None
    values = ", ".join(f"CAST({name} AS BLOB)" for name in columns)
    newest = "scheduler_runs ORDER BY started_at DESC, rowid DESC LIMIT 1"
    for row in texts(connection, f"SELECT {values} FROM {newest}"):
        return LastRun(**dict(zip(columns, row, strict=True)))
    return None


def volume(data_dir: Path) -> VolumeInfo:
    """Return the data folder's space and the organizations in it."""
    stats = os.statvfs(data_dir)
    organizations = {}
    for path in sorted(data_dir.glob(f"*{DATABASE_SUFFIX}")):
        if ORGANIZATION_ID.fullmatch(path.stem) and path.is_file():
            organizations[path.stem] = path.stat().st_size
    return VolumeInfo(
        data_dir=str(data_dir),
        total_bytes=stats.f_blocks * stats.f_frsize,
        free_bytes=stats.f_bavail * stats.f_frsize,
        organizations=organizations,
    )
