"""Reports: the summaries of runs in `scheduler_runs`, and the contacts with issues."""

from __future__ import annotations

from pathlib import Path

import apsw
import msgspec

from schedproto import ContactIssue, Report, RunResult

from .connection import open_reader
from .errors import sqlite_errors
from .schema import Schema, read_schema
from .tables import texts

#: Maximum number of contacts with an issue in a report.
MAX_ISSUES = 500
#: Maximum number of runs among which readable summaries are searched.
_MAX_RUNS = 50


def read_report(path: Path, organization: str, now: str) -> Report:
    """Return a report on the newest two completed runs that have a summary.

    now: the time of the report.   Raises `SchedulerError` if the file cannot be read.
    """
    connection = open_reader(path)
    try:
        with sqlite_errors(path):
            connection.execute("BEGIN")
            schema = read_schema(connection)
            runs = _runs(connection, schema, organization)
            issues, total = _issues(connection, schema)
    finally:
        connection.close()
    return Report(
        organization=organization,
        generated_at=now,
        latest=runs[0] if runs else None,
        previous=runs[1] if len(runs) > 1 else None,
        issues=issues,
        issues_total=total,
    )


def _runs(connection: apsw.Connection, schema: Schema, organization: str) -> list[RunResult]:
    if not schema.has("scheduler_runs", "summary", "status", "started_at"):
        return []
    found: list[RunResult] = []
    rows = texts(
        connection,
        f"""
        SELECT CAST(summary AS BLOB) FROM scheduler_runs
        WHERE status = 'completed' AND summary NOT NULL
        ORDER BY started_at DESC, rowid DESC
        LIMIT {_MAX_RUNS}
        """,
    )
    for (summary,) in rows:
        try:
            run = msgspec.json.decode(summary, type=RunResult)
        except msgspec.DecodeError:
            continue  # written by another program, or by a later release
        # The file may have been copied from another organization.
        found.append(msgspec.structs.replace(run, organization=organization))
        if len(found) == 2:
            break
    return found


def _issues(connection: apsw.Connection, schema: Schema) -> tuple[list[ContactIssue], int]:
    if not schema.has("contact_issues", "contact_id", "reason"):
        return [], 0
    [(total,)] = connection.execute("SELECT count(*) FROM contact_issues")
    rows = texts(
        connection,
        f"""
        SELECT contact_id, CAST(CAST(reason AS TEXT) AS BLOB) FROM contact_issues
        WHERE typeof(contact_id) = 'integer'
        ORDER BY contact_id, reason
        LIMIT {MAX_ISSUES}
        """,
    )
    issues = [ContactIssue(contact_id=contact, reason=reason or "") for contact, reason in rows]
    return issues, int(total)
