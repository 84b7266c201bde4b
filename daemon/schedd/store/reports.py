"""What a report says.

The summaries that runs leave in `scheduler_runs`, and the contacts with issues.
"""

from __future__ import annotations

from pathlib import Path

import apsw
import msgspec

from schedproto import ContactIssue, Report, RunResult

from .connection import open_reader
from .errors import sqlite_errors
from .schema import Schema, read_schema

#: Contacts with an issue that a report names.
MAX_ISSUES = 500
#: Runs that are looked through for summaries that can be read.
_MAX_RUNS = 50


def read_report(path: Path, organization: str, now: str) -> Report:
    """Return the newest two completed runs that left a summary.

    Raises `SchedulerError` for a file without use.
    """
    connection = open_reader(path)
    try:
        with sqlite_errors(path):
            connection.execute("BEGIN")
            present = read_schema(connection)
            runs = _runs(connection, present, organization)
            issues, total = _issues(connection, present)
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


def _runs(connection: apsw.Connection, present: Schema, organization: str) -> list[RunResult]:
    if not present.has("scheduler_runs", "summary", "status", "started_at"):
        return []
    found: list[RunResult] = []
    rows = connection.execute(
        "SELECT CAST(summary AS BLOB) FROM scheduler_runs WHERE status = 'completed' AND summary NOT NULL "
        f"ORDER BY started_at DESC, rowid DESC LIMIT {_MAX_RUNS}"
    )
    for (summary,) in rows:
        try:
            run = msgspec.json.decode(summary, type=RunResult)
        except msgspec.DecodeError:
            continue  # written by another program, or by a release to come
        # A file that was copied to another name tells of itself under that name.
        found.append(msgspec.structs.replace(run, organization=organization))
        if len(found) == 2:
            break
    return found


def _issues(connection: apsw.Connection, present: Schema) -> tuple[list[ContactIssue], int]:
    if not present.has("contact_issues", "contact_id", "reason"):
        return [], 0
    [(total,)] = connection.execute("SELECT count(*) FROM contact_issues")
    rows = connection.execute(
        "SELECT contact_id, CAST(reason AS TEXT) FROM contact_issues WHERE typeof(contact_id) = 'integer' "
        f"ORDER BY contact_id, reason LIMIT {MAX_ISSUES}"
    )
    return [ContactIssue(contact_id=contact, reason=reason or "") for contact, reason in rows], int(
        total
    )
