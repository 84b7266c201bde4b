"""Triggers of other programs on the plan.

What they let through is the plan, and no index disagrees with it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from schedproto import ErrorCode, SchedulerError
from tests.support.foreign_tables import (
    PLAN,
    ROWS,
    build,
    contacts,
    is_sound,
    refused,
    run,
    sees_by_index,
    select,
    sender_rows,
)
from tests.support.plans import read_plan

MOVES = (
    "CREATE TRIGGER no_sunday AFTER INSERT ON email_schedules WHEN strftime('%w', "
    "new.scheduled_send_date) = '0' BEGIN "
    "UPDATE email_schedules SET scheduled_send_date = date(new.scheduled_send_date, '+1 day') "
    "WHERE id = new.id; END;"
)
IGNORES = (
    "CREATE TRIGGER no_contact BEFORE INSERT ON email_schedules WHEN new.contact_id % 7 = 0 BEGIN "
    "SELECT RAISE(IGNORE); END;"
)
DROPS = (
    "CREATE TRIGGER gone AFTER INSERT ON email_schedules WHEN new.contact_id % 7 = 0 BEGIN "
    "DELETE FROM email_schedules WHERE id = new.id; END;"
)
ADDS = (
    "CREATE TRIGGER twin AFTER INSERT ON email_schedules WHEN new.email_type = 'birthday' BEGIN "
    "INSERT INTO "
    "email_schedules(contact_id, email_type, scheduled_send_date, scheduled_send_time, status) "
    "VALUES "
    "(new.contact_id, 'letter', new.scheduled_send_date, '', 'pre-scheduled'); END;"
)
KEEPS = "CREATE TRIGGER keep BEFORE DELETE ON email_schedules BEGIN SELECT RAISE(IGNORE); END;"


@pytest.mark.parametrize("mode", ["reliable", "highperf"])
@pytest.mark.parametrize("trigger", [MOVES, IGNORES, DROPS, ADDS])
@pytest.mark.parametrize("count", [50, pytest.param(12_000, marks=pytest.mark.slow)])
def test_triggers_that_change_rows(
    tmp_path: Path, trigger: str, count: int, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is what the trigger left, a warning says so, and the indexes agree."""
    monkeypatch.setattr("schedd.store.bulk.BULK_ROWS", 5000)
    script = PLAN.format("") + ";" + trigger
    path = build(tmp_path / "org.db", contacts(count), script)
    build(tmp_path / "plain.db", contacts(count))
    plain = run(tmp_path / "plain.db", tmp_path)
    [name] = [word for word in ("no_sunday", "no_contact", "gone", "twin") if word in trigger]
    for run_id in ("job-a.1", "job-b.1"):
        result = run(path, tmp_path, run_id, mode=mode)
        assert is_sound(path)
        assert sees_by_index(path)
        differing = set(map(str, read_plan(path))) ^ set(map(str, read_plan(tmp_path / "plain.db")))
        # The second run only deletes what the trigger added, and nothing fires.
        assert bool(differing) == bool(result.warnings) == (name != "twin" or run_id == "job-a.1")
        for warning in result.warnings:
            assert (warning.code, warning.table) == ("trigger_changed_rows", "email_schedules")
            assert name in warning.message
            assert warning.count >= len(differing) / 2
        in_file = select(path, "SELECT count(*) FROM email_schedules")
        if name in {"no_contact", "gone"}:
            # What was dropped is counted: the rows that were meant, less those, are in the file.
            [warning] = result.warnings
            assert in_file == [(plain.rows_planned - warning.count,)]
            assert warning.count > 0
    assert result.rows_planned == plain.rows_planned
    assert sender_rows(path) == []


def test_trigger_that_keeps_rows(tmp_path: Path) -> None:
    """A row that a trigger does not let go is counted as one that the trigger changed."""
    path = build(tmp_path / "org.db", contacts(20), PLAN.format("") + ";", ROWS, KEEPS)
    result = run(path, tmp_path)
    assert [(w.code, w.count) for w in result.warnings] == [("trigger_changed_rows", 1)]
    assert result.rows_deleted == 0
    assert is_sound(path)


def test_trigger_that_changes_updated_rows(tmp_path: Path) -> None:
    """A trigger on updates that undoes them is seen, with the ids of the rows."""
    path = build(tmp_path / "org.db", contacts(20))
    run(path, tmp_path)
    script = (
        "CREATE TRIGGER high AFTER UPDATE ON email_schedules WHEN new.priority = 30 BEGIN "
        "UPDATE email_schedules SET priority = 1 WHERE id = new.id; END;"
    )
    build(path, "UPDATE email_schedules SET priority = 2 WHERE email_type = 'aep'", script)
    result = run(path, tmp_path, "job-b.1")
    [warning] = result.warnings
    ids = [
        row[0]
        for row in select(
            path, "SELECT id FROM email_schedules WHERE email_type = 'aep' ORDER BY id"
        )
    ]
    assert (warning.count, warning.row_ids) == (len(ids), ids[:5])
    assert result.rows_updated == len(ids)


def test_audit_triggers(tmp_path: Path) -> None:
    """Rows in other tables and changed timestamps do not cause a warning."""
    script = (
        PLAN.format(", updated_at TEXT")
        + ";CREATE TABLE audit(id INTEGER PRIMARY KEY, what TEXT, old INTEGER UNIQUE);"
        "CREATE TRIGGER i AFTER INSERT ON email_schedules BEGIN INSERT OR REPLACE INTO "
        "audit(what, old) VALUES ('i', 1); END;"
        "CREATE TRIGGER d AFTER DELETE ON email_schedules BEGIN INSERT OR REPLACE INTO "
        "audit(what, old) VALUES ('d', 1); END;"
        "CREATE TRIGGER u AFTER INSERT ON email_schedules BEGIN UPDATE email_schedules SET "
        "updated_at = 'now' "
        "WHERE id = new.id; END;"
    )
    path = build(tmp_path / "org.db", contacts(20), script, ROWS)
    dry = run(path, tmp_path, dry_run=True)
    result = run(path, tmp_path, "job-b.1")
    assert (result.rows_inserted, result.rows_deleted) == (dry.rows_inserted, dry.rows_deleted)
    assert result.rows_deleted == 1
    assert result.warnings == []
    assert run(path, tmp_path, "job-c.1").rows_unchanged == result.rows_planned


@pytest.mark.parametrize("how", ["ABORT", "FAIL", "ROLLBACK"])
def test_trigger_that_refuses(tmp_path: Path, how: str) -> None:
    """A trigger that raises is named, with its text, and the file holds what it held."""
    trigger = (
        f"CREATE TRIGGER guard BEFORE DELETE ON email_schedules BEGIN SELECT RAISE({how}, "
        "'it''s kept'); END;"
    )
    path = build(tmp_path / "org.db", contacts(20), PLAN.format("") + ";", ROWS, trigger)
    before = (
        select(path, "SELECT * FROM email_schedules"),
        select(path, "SELECT sql FROM sqlite_schema"),
    )
    with pytest.raises(SchedulerError) as caught:
        run(path, tmp_path)
    assert caught.value.code == ErrorCode.FOREIGN_SCHEMA
    assert "trigger guard" in caught.value.message
    assert "it's kept" in caught.value.message
    assert (
        select(path, "SELECT * FROM email_schedules"),
        select(path, "SELECT sql FROM sqlite_schema"),
    ) == before


def test_trigger_into_a_table_that_refuses(tmp_path: Path) -> None:
    """The error names the constraint of the other table and the trigger."""
    script = (
        PLAN.format("") + ";CREATE TABLE audit(id INTEGER PRIMARY KEY, who TEXT NOT NULL);"
        "CREATE TRIGGER a AFTER INSERT ON email_schedules BEGIN INSERT INTO audit(who) VALUES "
        "(NULL); END;"
    )
    path = build(tmp_path / "org.db", contacts(20), script)
    with pytest.raises(SchedulerError) as caught:
        run(path, tmp_path)
    assert caught.value.code == ErrorCode.FOREIGN_SCHEMA
    assert "audit.who" in caught.value.message
    assert "trigger" in caught.value.message


def test_index_that_disagrees_with_its_table(tmp_path: Path) -> None:
    """An index that an earlier release left wrong next to a trigger is found.

    The remedy is REINDEX, which works.
    """
    path = build(tmp_path / "org.db", contacts(50), PLAN.format(""))
    run(path, tmp_path)
    full = (
        "CREATE INDEX email_schedules_status_date ON email_schedules(status, scheduled_send_date)"
    )
    build(
        path,
        f"DROP INDEX email_schedules_status_date; {full} WHERE id > 5; PRAGMA writable_schema = ON;"
        f"UPDATE sqlite_schema SET sql = '{full}' WHERE name = 'email_schedules_status_date';",
    )
    assert not is_sound(path)
    build(path, "CREATE TRIGGER harmless AFTER INSERT ON email_schedules BEGIN SELECT 1; END")
    error = refused(path, tmp_path, ErrorCode.DATABASE_DAMAGED)
    assert "REINDEX" in error.hint
    build(path, "REINDEX")
    run(path, tmp_path)
    assert is_sound(path)


def test_statistics_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statistics of ANALYZE on the sender's index are kept when the index is rebuilt."""
    monkeypatch.setattr("schedd.store.bulk.BULK_ROWS", 5000)
    path = build(tmp_path / "org.db", contacts(3000), PLAN.format("") + ";", ROWS)
    build(path, "CREATE INDEX theirs ON email_schedules(status, scheduled_send_date); ANALYZE;")
    before = select(path, "SELECT * FROM sqlite_stat1 ORDER BY 1, 2")
    assert any(row[1] == "theirs" for row in before)
    assert run(path, tmp_path).rows_inserted > 5000
    assert select(path, "SELECT * FROM sqlite_stat1 ORDER BY 1, 2") == before
    assert is_sound(path)
