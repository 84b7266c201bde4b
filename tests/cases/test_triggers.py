"""Triggers of the application on the plan's table: they act, and the file stays sound."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest

from schedproto import ErrorCode
from tests.cases.runs import refused, scheduled


def test_audit(tmp_path: Path) -> None:
    """Triggers that write a log.

    The counts are those of the plan's rows, and the log has each of them.
    """
    outcome = scheduled("audit_trigger", tmp_path)
    assert outcome.dates("birthday") == {1: "2026-12-06", 2: "2027-01-06"}
    assert (outcome.result.rows_inserted, outcome.result.rows_deleted) == (4, 2)
    with closing(sqlite3.connect(outcome.path)) as connection:
        logged = Counter(what for (what,) in connection.execute("SELECT what FROM audit"))
    # The first two were inserted by the application.
    assert (logged["I"], logged["D"]) == (2 + 4, 2)
    assert outcome.warnings == {}


@pytest.mark.slow
def test_rows_moved_to_another_day(tmp_path: Path) -> None:
    """A trigger that moves Sunday's e-mails to Monday.

    Every row is found on its day, and a warning counts them.
    """
    outcome = scheduled("trigger_moves_rows", tmp_path, settles=False, against_reference=False)
    [(code, table, _), (count, _)] = next(iter(outcome.warnings.items()))
    assert (code, table, count) == ("trigger_changed_rows", "email_schedules", 5_957)
    days = [
        date.fromisoformat(day)
        for rows in outcome.rows.values()
        for day, reason in rows
        if not reason
    ]
    assert len(days) == outcome.result.rows_planned - outcome.result.skipped["same_day_conflict"]
    assert not any(day.weekday() == 6 for day in days)


@pytest.mark.slow
def test_rows_left_out(tmp_path: Path) -> None:
    """A trigger that leaves out contacts of a do-not-contact list.

    They have no row, and a warning counts them.
    """
    outcome = scheduled("trigger_ignores_rows", tmp_path, against_reference=False)
    assert outcome.warnings == {("trigger_changed_rows", "email_schedules", ""): (6, [])}
    assert not {1000, 2000, 3000} & {contact for contact, _ in outcome.rows}
    assert outcome.result.rows_inserted == outcome.result.rows_planned - 6
    with closing(sqlite3.connect(outcome.path)) as connection:
        # No row that was sent years ago is offered for sending.
        offered = (
            "SELECT count(*) FROM email_schedules WHERE status = 'pre-scheduled' AND "
            "scheduled_send_date < '2026'"
        )
        assert connection.execute(offered).fetchone() == (0,)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("raise_trigger", ("nodel", "use cancel instead")),
        ("broken_view", ("tt", "gone")),
        ("trigger_function", ("trigger t", "app_user")),
    ],
)
def test_refused(name: str, named: tuple[str, ...], tmp_path: Path) -> None:
    """A trigger that refuses the plan's rows, or that cannot run here, is named."""
    error = refused(name, tmp_path)
    assert error.code == ErrorCode.FOREIGN_SCHEMA
    for part in named:
        assert part in error.message


def test_guard_that_is_not_met(tmp_path: Path) -> None:
    """A trigger that forbids deletions does not matter if no row is deleted."""
    outcome = scheduled(
        "raise_trigger", tmp_path, "DROP TRIGGER nodel; DELETE FROM email_schedules"
    )
    assert outcome.dates("birthday") == {1: "2026-12-06"}
