"""Verification of a written plan before the commit (docs/DATABASE.md)."""

from __future__ import annotations

from collections.abc import Mapping

import apsw

from schedproto import ErrorCode, RunWarning, SchedulerError

from .errors import REINDEX_HINT, foreign_schema
from .expected import ExpectedRows
from .schema import PLAN
from .tables import read_table
from .write import IssueWriter, PlanWriter

#: The code of a warning about a trigger of the application.
TRIGGER_CHANGED_ROWS = "trigger_changed_rows"


def planned_by_status(counts: Mapping[str, Mapping[str, int]]) -> tuple[int, int]:
    """Return the numbers of pre-scheduled and skipped rows. counts: by type and status."""
    rows = [(status, count) for statuses in counts.values() for status, count in statuses.items()]
    scheduled = sum(count for status, count in rows if status == "pre-scheduled")
    return scheduled, sum(count for _, count in rows) - scheduled


def _stored(connection: apsw.Connection, by: str) -> tuple[int, int]:
    """Return the numbers of pre-scheduled and skipped rows in the file. by: an index clause."""
    scheduled, skipped = (
        connection.execute(
            f"SELECT count(*) FROM main.{PLAN}{by} WHERE status = '{status}' COLLATE BINARY"
        ).get
        for status in ("pre-scheduled", "skipped")
    )
    return int(scheduled), int(skipped)


def verify_plan(
    connection: apsw.Connection, writer: PlanWriter, planned: tuple[int, int]
) -> list[RunWarning]:
    """Return warnings for rows that triggers changed.

    planned: the numbers of pre-scheduled and skipped rows.   Raises `SchedulerError` if the file
    does not hold the plan for another reason.
    """
    if writer.expected is not None:
        return _by_triggers(connection, writer.expected, planned)
    changes = writer.changes
    if not (changes.inserted or changes.updated or changes.deleted):
        return []
    if (
        writer.load is None
        and writer.count_rows() == writer.rows_before + changes.inserted - changes.deleted
    ):
        # SQLite counted each change and maintained the indexes, so the sum is sufficient.
        return []
    # By the index that SQLite chooses, as the sender would see the rows.
    stored = _stored(connection, "")
    if stored == planned:
        return []
    if _stored(connection, " NOT INDEXED") == planned:
        raise SchedulerError(
            ErrorCode.DATABASE_DAMAGED,
            f"an index of {PLAN} on its status is inconsistent with the table",
            hint=f"{REINDEX_HINT} Nothing was changed.",
            details={"table": PLAN},
        )
    raise foreign_schema(
        f"{PLAN} holds {sum(stored):,} rows of the plan after {sum(planned):,} were planned",
        f"Run `PRAGMA integrity_check`, and check the constraints of {PLAN}.",
        table=PLAN,
    )


def _by_triggers(
    connection: apsw.Connection, expected: ExpectedRows, planned: tuple[int, int]
) -> list[RunWarning]:
    expected.compare(last=True)
    missing = expected.missing
    stored = _stored(connection, " NOT INDEXED")
    surplus = sum(stored) - (sum(planned) - missing)
    count = max(missing, surplus, 0)
    if not count:
        return []
    plan = read_table(connection, PLAN)
    names = ", ".join(sorted(plan.triggers)) if plan is not None else ""
    return [
        RunWarning(
            code=TRIGGER_CHANGED_ROWS,
            table=PLAN,
            count=count,
            row_ids=sorted(expected.row_ids),
            message=(
                f"Triggers of {PLAN} ({names}) changed, dropped or added {count:,} rows of the "
                "plan; the plan is what they let through."
            ),
        )
    ]


def verify_issues(connection: apsw.Connection, issues: IssueWriter) -> list[RunWarning]:
    """Return a warning if a trigger changed the rows of `contact_issues`."""
    table = read_table(connection, "contact_issues")
    if table is None or not table.triggers or not issues.differs():
        return []
    names = ", ".join(sorted(table.triggers))
    return [
        RunWarning(
            code=TRIGGER_CHANGED_ROWS,
            table=table.name,
            count=1,
            message=f"Triggers of {table.name} ({names}) changed what the run found.",
        )
    ]
