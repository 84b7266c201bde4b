"""Test rows, written into a copy of the scheduler's tables in memory.

They find what no pragma reports: CHECK constraints, types of STRICT tables, expressions in indexes
and generated columns. The file itself is not changed, so read-only files are tested as well.
Triggers are left out: their effect depends on the rows, and the run sees it in its transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import apsw

from schedd.engine.calendar import iso, to_date
from schedproto import SchedulerError

from .errors import add_to_message, extended_result, foreign_schema, of_constraint
from .limits import connect
from .schema import OWN_TABLES, PLAN, complete, read_schema
from .tables import texts

#: Types of e-mail; with each status, the tables have to accept at least one.
_TYPES = ("birthday", "effective_date", "aep", "post_window", "campaign_x", "followup_1_cold")
#: A row that violates a unique index has passed all other constraints.
_PASSED = {
    apsw.SQLITE_CONSTRAINT_UNIQUE,
    apsw.SQLITE_CONSTRAINT_PRIMARYKEY,
    apsw.SQLITE_CONSTRAINT_ROWID,
}


@dataclass(frozen=True)
class Sample:
    """Values that all rows of a run share. as_of: ordinal.   now: UTC, `YYYY-MM-DD HH:MM:SS`."""

    as_of: int
    send_time: str
    run_id: str
    now: str


def try_rows(connection: apsw.Connection, sample: Sample) -> None:
    """Raise `foreign_schema` if the file rejects all rows with one of the plan's two statuses."""
    copy = _copy(connection)
    if copy is None:
        return
    contact = int(connection.execute("SELECT max(id) FROM contacts").get)
    try:
        for status, reason in (("pre-scheduled", None), ("skipped", "exclusion:NY:year_round")):
            refusals = [
                _refusal(copy, _row(sample, contact, kind, status, reason)) for kind in _TYPES
            ]
            if None not in refusals:
                raise _named(refusals[0], status)
        refusal = _insert(
            copy, "contact_issues", {"contact_id": contact, "reason": "missing_email"}
        )
        if refusal is not None:
            raise refusal
    finally:
        copy.close()


def _named(refusal: SchedulerError | None, status: str) -> SchedulerError:
    """Return a refusal with the status of the rejected row."""
    if refusal is None:
        return foreign_schema(f"{PLAN} rejects rows with the status {status!r}", "", table=PLAN)
    refusal.details.setdefault("status", status)
    add_to_message(refusal, f" (a row with the status {status!r})")
    return refusal


def _copy(connection: apsw.Connection) -> apsw.Connection | None:
    """Return a copy of the scheduler's tables without rows, as `complete` would leave them.

    None if the file's SQL does not work here; `foreign` has reported the reason.
    """
    copy = connect(":memory:")
    try:
        copy.execute("PRAGMA trusted_schema = OFF")
        copy.execute(f"PRAGMA encoding = '{connection.execute('PRAGMA main.encoding').get}'")
        names = [PLAN, *OWN_TABLES]
        found = texts(
            connection,
            f"""
            SELECT CAST(sql AS BLOB) FROM main.sqlite_schema
            WHERE type IN ('table', 'index') AND sql IS NOT NULL
                AND lower(tbl_name) IN ({", ".join("?" * len(names))})
            ORDER BY type DESC, rowid
            """,
            names,
        )
        for (sql,) in found:
            copy.execute(str(sql))
        complete(copy, read_schema(copy))
    except apsw.Error:
        copy.close()
        return None
    return copy


def _row(
    sample: Sample, contact: int, kind: str, status: str, reason: str | None
) -> dict[str, Any]:
    event = to_date(sample.as_of + 15)
    return {
        "contact_id": contact,
        "email_type": kind,
        "scheduled_send_date": iso(sample.as_of + 1),
        "scheduled_send_time": sample.send_time,
        "status": status,
        "skip_reason": reason,
        "priority": 10,
        "campaign_instance_id": 1 if kind == "campaign_x" else None,
        "email_template": kind,
        "sms_template": None,
        "event_year": event.year,
        "event_month": event.month,
        "event_day": event.day,
        "scheduler_run_id": sample.run_id,
        "metadata": '{"parent_id": 1, "parent_type": "birthday"}'
        if kind.startswith("followup")
        else None,
        "created_at": sample.now,
        "updated_at": sample.now,
    }


def _refusal(copy: apsw.Connection, row: dict[str, Any]) -> SchedulerError | None:
    """Return why the plan rejects a row, None if it accepts it; removes the row again."""
    refusal = _insert(copy, PLAN, row)
    copy.execute(f"DELETE FROM {PLAN}")
    return refusal


def _insert(copy: apsw.Connection, table: str, row: dict[str, Any]) -> SchedulerError | None:
    names = ", ".join(row)
    places = ", ".join(f":{name}" for name in row)
    try:
        copy.execute(f"INSERT INTO {table}({names}) VALUES ({places})", row)
    except apsw.ConstraintError as error:
        if extended_result(error) in _PASSED:
            return None
        return of_constraint(error, table) or _other(table, error)
    except apsw.Error as error:
        return _other(table, error)
    return None


def _other(table: str, error: apsw.Error) -> SchedulerError:
    return foreign_schema(
        f"{table} rejects a row of the plan: {error}",
        f"Check the constraints, indexes and generated columns of {table}.",
        table=table,
        sqlite=str(error),
    )
