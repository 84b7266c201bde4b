"""Organization files in every condition.

A clear error for each, and the file afterwards as it was before.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from schedd.store.info import describe, volume
from schedproto import ErrorCode, SchedulerError
from tests.support.other_programs import locked
from tests.support.paths import ROOT
from tests.support.plans import (
    GOLDEN,
    digest,
    expect_error,
    make_database,
    read_issues,
    read_plan,
    run_locally,
)

CONTACTS = (
    "CREATE TABLE contacts(id INTEGER PRIMARY KEY, email TEXT, zip_code TEXT, birth_date "
    "TEXT, effective_date TEXT);"
)
ROWS = "".join(
    f"INSERT INTO contacts VALUES({i}, 'u{i}@example.org', '77002', "
    f"'19{30 + i % 40}-05-{1 + i % 28:02d}', '2015-06-01');"
    for i in range(1, 41)
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.mark.parametrize("mode", ["reliable", "highperf"])
class TestErrors:
    def test_missing(self, folder: Path, tmp_path: Path, mode: str) -> None:
        """A file that is not there."""
        error = expect_error(folder / "org.db", tmp_path, ErrorCode.DATABASE_MISSING, mode=mode)
        assert "org.db" in error.message

    def test_folder(self, folder: Path, tmp_path: Path, mode: str) -> None:
        """A folder where the file should be."""
        (folder / "org.db").mkdir()
        expect_error(folder / "org.db", tmp_path, ErrorCode.DATABASE_UNREADABLE, mode=mode)

    @pytest.mark.parametrize("content", [b"this is not a database" * 100, os.urandom(8192)])
    def test_not_sqlite(self, folder: Path, tmp_path: Path, mode: str, content: bytes) -> None:
        """Something else than an SQLite database."""
        path = folder / "org.db"
        path.write_bytes(content)
        expect_error(path, tmp_path, ErrorCode.DATABASE_NOT_SQLITE, mode=mode)

    def test_empty_file(self, folder: Path, tmp_path: Path, mode: str) -> None:
        """A file of no bytes, which is an empty database."""
        path = folder / "org.db"
        path.touch()
        expect_error(path, tmp_path, ErrorCode.CONTACTS_MISSING, mode=mode)

    def test_no_contacts_table(self, folder: Path, tmp_path: Path, mode: str) -> None:
        """No table of contacts."""
        path = make_database(folder / "org.db", "CREATE TABLE other(x);")
        expect_error(path, tmp_path, ErrorCode.CONTACTS_MISSING, mode=mode)

    def test_no_contacts(self, folder: Path, tmp_path: Path, mode: str) -> None:
        """A table of contacts without rows: the existing plan is kept."""
        path = make_database(folder / "org.db", CONTACTS)
        expect_error(path, tmp_path, ErrorCode.CONTACTS_EMPTY, mode=mode)

    @pytest.mark.parametrize("column", ["email", "zip_code"])
    def test_missing_column(self, folder: Path, tmp_path: Path, mode: str, column: str) -> None:
        """A required column is missing; the error names it."""
        path = make_database(
            folder / "org.db", CONTACTS.replace(f"{column} TEXT", f"x_{column} TEXT") + ROWS
        )
        error = expect_error(path, tmp_path, ErrorCode.COLUMN_MISSING, mode=mode)
        assert column in error.message

    def test_id_is_no_key(self, folder: Path, tmp_path: Path, mode: str) -> None:
        """contacts.id is not the primary key."""
        path = make_database(
            folder / "org.db", CONTACTS.replace("INTEGER PRIMARY KEY", "TEXT") + ROWS
        )
        error = expect_error(path, tmp_path, ErrorCode.FOREIGN_SCHEMA, mode=mode)
        assert "no unique index" in error.message

    def test_locked(
        self, folder: Path, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another program holds the write lock for longer than is waited."""
        monkeypatch.setattr("schedd.store.connection.BUSY_TIMEOUT_MS", 200)
        path = make_database(folder / "org.db", CONTACTS + ROWS)
        with locked(path), pytest.raises(SchedulerError) as caught:
            run_locally(path, tmp_path / "scratch", "2026-11-23", mode=mode)
        assert caught.value.code == ErrorCode.DATABASE_LOCKED
        assert caught.value.retryable

    def test_read_only(self, folder: Path, tmp_path: Path, mode: str) -> None:
        """A file marked read-only is refused, also for root; a dry run works."""
        path = make_database(folder / "org.db", CONTACTS + ROWS)
        path.chmod(0o444)
        expect_error(path, tmp_path, ErrorCode.DATABASE_READ_ONLY, mode=mode)
        before = digest(path)
        result = run_locally(path, tmp_path / "scratch", "2026-11-23", mode=mode, dry_run=True)
        assert result.rows_inserted > 0
        assert digest(path) == before

    def test_duplicate_keys(self, folder: Path, tmp_path: Path, mode: str) -> None:
        """A plan table without the unique index that has a key twice: named, nothing deleted."""
        plan = (
            "CREATE TABLE email_schedules(id INTEGER PRIMARY KEY, contact_id INTEGER NOT NULL, "
            "email_type TEXT NOT NULL,"
            " scheduled_send_date TEXT NOT NULL, scheduled_send_time TEXT NOT NULL, status TEXT "
            "NOT NULL);"
            + "INSERT INTO email_schedules VALUES(NULL, 3, 'aep', '2026-01-01', '08:30:00', "
            "'sent');" * 2
        )
        path = make_database(folder / "org.db", CONTACTS + ROWS + plan)
        error = expect_error(path, tmp_path, ErrorCode.DUPLICATE_KEYS, mode=mode)
        assert "contact 3, aep, 2026-01-01" in error.message

    def test_bad_stored_configuration(self, folder: Path, tmp_path: Path, mode: str) -> None:
        """The organization's stored configuration is not understood: the run does not start."""
        config = (
            "CREATE TABLE scheduler_config(version INTEGER PRIMARY KEY, toml TEXT, created_at "
            "TEXT, created_by TEXT);"
            "INSERT INTO scheduler_config VALUES(4, '[frequency]\nperiod_day = 3', '', '');"
        )
        path = make_database(folder / "org.db", CONTACTS + ROWS + config)
        error = expect_error(path, tmp_path, ErrorCode.INVALID_CONFIGURATION, mode=mode)
        assert "version 4" in error.message
        assert "period_days" in error.message


def _schema(path: Path) -> dict[str, str]:
    connection = sqlite3.connect(path)
    found = dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))
    connection.close()
    return found


def _dump(path: Path, table: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    rows = connection.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall()
    connection.close()
    return rows


def test_foreign_tables_stay(folder: Path, tmp_path: Path) -> None:
    """Tables, indexes and rows of the main application are the same after a run.

    So is the journal mode.
    """
    path = make_database(folder / "org.db", (GOLDEN / "01-november.sql").read_text())
    schema = _schema(path)
    foreign = [
        name
        for name in schema
        if name not in {"email_schedules", "sqlite_sequence"}
        and "INDEX" not in schema[name].upper()
    ]
    rows = {name: _dump(path, name) for name in foreign}
    others = (
        "SELECT * FROM email_schedules WHERE status NOT IN ('pre-scheduled', 'skipped') ORDER BY id"
    )
    history = sqlite3.connect(path).execute(others).fetchall()
    run_locally(path, tmp_path / "scratch", "2026-11-23")
    after = _schema(path)
    assert {name: after[name] for name in schema} == schema
    assert {name: _dump(path, name) for name in foreign} == rows
    assert sqlite3.connect(path).execute(others).fetchall() == history
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert {"scheduler_runs", "contact_issues", "scheduler_config"} <= set(after)


def test_new_file_gets_tables(folder: Path, tmp_path: Path) -> None:
    """A file without plan tables gets them, with the unique key and the sender's index."""
    path = make_database(folder / "org.db", CONTACTS + ROWS)
    result = run_locally(path, tmp_path / "scratch", "2026-11-23")
    assert result.rows_inserted == len(read_plan(path)) > 0
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(
            "INSERT INTO email_schedules(contact_id, email_type, scheduled_send_date, "
            "scheduled_send_time, status) "
            "SELECT contact_id, email_type, scheduled_send_date, scheduled_send_time, status FROM "
            "email_schedules"
        )
    plan = connection.execute(
        "EXPLAIN QUERY PLAN SELECT * FROM email_schedules WHERE status = 'pre-scheduled' AND "
        "scheduled_send_date = 'x'"
    ).fetchall()
    assert "INDEX" in plan[0][3]
    run = connection.execute(
        "SELECT run_id, as_of, status, rows_inserted, contacts_read FROM scheduler_runs"
    ).fetchall()
    assert run == [("job-test.1", "2026-11-23", "completed", result.rows_inserted, 40)]
    connection.close()


def test_existing_plan_table_is_completed(folder: Path, tmp_path: Path) -> None:
    """Absent columns are added and the unique index is made; rows that were there stay."""
    plan = (
        "CREATE TABLE email_schedules(id INTEGER PRIMARY KEY, contact_id INTEGER NOT NULL, "
        "email_type TEXT NOT NULL,"
        " scheduled_send_date TEXT NOT NULL, scheduled_send_time TEXT, status TEXT NOT NULL, mine "
        "TEXT DEFAULT 'x');"
        "CREATE INDEX theirs ON email_schedules(mine);"
        "INSERT INTO email_schedules VALUES(9, 3, 'aep', '2020-01-01', '08:30:00', 'sent', 'keep');"
    )
    path = make_database(folder / "org.db", CONTACTS + ROWS + plan)
    run_locally(path, tmp_path / "scratch", "2026-11-23")
    connection = sqlite3.connect(path)
    assert connection.execute(
        "SELECT mine, status FROM email_schedules WHERE id = 9"
    ).fetchone() == ("keep", "sent")
    assert connection.execute(
        "SELECT count(DISTINCT mine) FROM email_schedules WHERE id <> 9"
    ).fetchone() == (1,)
    assert "theirs" in _schema(path)
    connection.close()
    again = run_locally(path, tmp_path / "scratch", "2026-11-23", run_id="job-b.1")
    assert (again.rows_inserted, again.rows_updated, again.rows_deleted) == (0, 0, 0)


def test_difference_repairs_exactly_what_differs(folder: Path, tmp_path: Path) -> None:
    """Rows changed, deleted and added by hand are repaired; all others keep their run id."""
    path = make_database(folder / "org.db", (GOLDEN / "08-crowded.sql").read_text())
    run_locally(path, tmp_path / "scratch", "2026-08-20")
    plan = read_plan(path)
    connection = sqlite3.connect(path)
    ids = [
        row[0]
        for row in connection.execute(
            "SELECT id FROM email_schedules WHERE status = 'pre-scheduled'"
        )
    ]
    changes = [
        "priority = 99",
        "email_template = 'other'",
        "scheduled_send_time = '09:00:00'",
        "metadata = '{}'",
        "event_day = 31",
        "skip_reason = 'because'",
        "status = 'skipped'",
        "sms_template = 'x'",
        "campaign_instance_id = 77",
        "event_year = 'abc'",
    ]
    for row_id, change in zip(ids, changes, strict=False):
        connection.execute(f"UPDATE email_schedules SET {change} WHERE id = ?", (row_id,))
    connection.execute("DELETE FROM email_schedules WHERE id IN (?, ?)", ids[20:22])
    for contact, kind, day in (
        (1, "invented", "2027-01-01"),
        (10**9, "aep", "2027-01-01"),
        (-5, "aep", "2027-01-02"),
    ):
        connection.execute(
            "INSERT INTO email_schedules(contact_id, email_type, scheduled_send_date, status) "
            "VALUES (?, ?, ?, 'skipped')",
            (contact, kind, day),
        )
    connection.execute(
        "INSERT INTO email_schedules(contact_id, email_type, scheduled_send_date, status) "
        "VALUES (2, 'aep', '2027-01-01 10:00', 'pre-scheduled')"
    )
    connection.commit()
    connection.close()
    result = run_locally(path, tmp_path / "scratch", "2026-08-20", run_id="job-b.1")
    assert (result.rows_inserted, result.rows_updated, result.rows_deleted) == (2, len(changes), 4)
    assert read_plan(path) == plan
    connection = sqlite3.connect(path)
    touched = connection.execute(
        "SELECT count(*) FROM email_schedules WHERE scheduler_run_id = 'job-b.1'"
    ).fetchone()
    assert touched == (2 + len(changes),)
    connection.close()


def test_keys_held_by_others(folder: Path, tmp_path: Path) -> None:
    """A planned row whose key a failed row holds is left out and counted.

    A dispatched one only left out.
    """
    path = make_database(folder / "org.db", CONTACTS + ROWS)
    run_locally(path, tmp_path / "scratch", "2026-11-23")
    connection = sqlite3.connect(path)
    connection.execute(
        "UPDATE email_schedules SET status = 'failed' WHERE contact_id = 5 AND email_type = 'aep'"
    )
    connection.execute(
        "UPDATE email_schedules SET status = 'cancelled' WHERE contact_id = 6 AND email_type = "
        "'aep'"
    )
    connection.commit()
    connection.close()
    result = run_locally(path, tmp_path / "scratch", "2026-11-23", run_id="job-b.1")
    assert result.keys_held == 2
    connection = sqlite3.connect(path)
    states = connection.execute(
        "SELECT status FROM email_schedules WHERE contact_id IN (5, 6) AND email_type = 'aep'"
    )
    assert [row[0] for row in states] == ["failed", "cancelled"]
    connection.close()


def test_issues_are_a_difference(folder: Path, tmp_path: Path) -> None:
    """contact_issues says what the last run found, and only what differs is written."""
    path = make_database(folder / "org.db", CONTACTS + ROWS)
    connection = sqlite3.connect(path)
    connection.executescript(
        "UPDATE contacts SET email = NULL WHERE id = 1; UPDATE contacts SET zip_code = '00000' "
        "WHERE id = 2;"
        "UPDATE contacts SET birth_date = 'x', effective_date = 'y' WHERE id = 3;"
    )
    run_locally(path, tmp_path / "scratch", "2026-11-23")
    expected = [
        [1, "missing_email"],
        [2, "unknown_zip"],
        [3, "invalid_birth_date"],
        [3, "invalid_effective_date"],
    ]
    assert read_issues(path) == expected
    connection.executescript("UPDATE contacts SET email = 'a@example.org' WHERE id = 1;")
    run_locally(path, tmp_path / "scratch", "2026-11-23", run_id="job-b.1")
    assert read_issues(path) == expected[1:]
    connection.close()


def test_huge_and_sparse_ids(folder: Path, tmp_path: Path) -> None:
    """Ids up to 2**40, negative ones and texts for ids give the plan that small ids give."""
    plain = make_database(folder / "plain.db", CONTACTS + ROWS)
    run_locally(plain, tmp_path / "scratch", "2026-06-01", workers=2)
    ids = {i: (i - 20) * (2**40 // 25) if i % 2 else 2**40 - i for i in range(1, 41)}
    far = make_database(folder / "far.db", CONTACTS + ROWS)
    connection = sqlite3.connect(far)
    connection.execute("UPDATE contacts SET id = -id")
    connection.executemany("UPDATE contacts SET id = ? WHERE id = ?", [(ids[i], -i) for i in ids])
    connection.commit()
    connection.close()
    for workers in (1, 5):
        result = run_locally(
            far, tmp_path / "scratch", "2026-06-01", workers=workers, run_id=f"job-{workers}.1"
        )
        assert result.rows_planned == len(read_plan(far)) == len(read_plan(plain))
        if workers == 5:
            assert result.rows_unchanged == result.rows_planned
    connection = sqlite3.connect(far)
    connection.execute(
        "INSERT INTO email_schedules(contact_id, email_type, scheduled_send_date, "
        "scheduled_send_time, status) "
        "VALUES ('text', 'aep', '2027-01-01', '', 'skipped')"
    )
    connection.commit()
    connection.close()
    result = run_locally(far, tmp_path / "scratch", "2026-06-01", run_id="job-c.1")
    assert (result.rows_deleted, result.rows_inserted, result.rows_updated) == (1, 0, 0)


def test_dry_run_changes_nothing(folder: Path, tmp_path: Path) -> None:
    """A dry run counts what a run would change, and leaves every byte as it is."""
    path = make_database(folder / "org.db", (GOLDEN / "01-november.sql").read_text())
    before = digest(path)
    dry = run_locally(path, tmp_path / "scratch", "2026-11-23", dry_run=True)
    assert digest(path) == before
    real = run_locally(path, tmp_path / "scratch", "2026-11-23")
    names = (
        "rows_planned",
        "rows_inserted",
        "rows_updated",
        "rows_deleted",
        "rows_unchanged",
        "counts",
        "volume",
    )
    assert [getattr(dry, name) for name in names] == [getattr(real, name) for name in names]


def test_readers_see_old_or_new(folder: Path, tmp_path: Path) -> None:
    """A reader that looks during a run sees the old plan, and after it the new one."""
    path = make_database(folder / "org.db", CONTACTS + ROWS)
    run_locally(path, tmp_path / "scratch", "2026-11-23")
    old = read_plan(path)
    seen = []
    # From another process: within one, a second SQLite would drop the locks of the first.
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; from "
        "tests.support.plans import read_plan; "
        "import json; print(json.dumps(read_plan(Path(sys.argv[1]))))"
    )

    def look() -> list[list[Any]]:
        command = [sys.executable, "-c", script, str(path), str(ROOT)]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    from schedd.run.runner import run_job
    from schedproto import JobSpec
    from tests.support.plans import LocalContext

    context = LocalContext(tmp_path / "scratch", "job-b.1")
    context.on_progress = lambda stage, _: (
        seen.append(look() == old) if stage in {"write", "commit"} else None
    )
    run_job(JobSpec(organization="org", as_of="2027-09-01"), path, "", context)
    assert seen
    assert all(seen)
    assert read_plan(path) != old


def test_describe_and_volume(folder: Path, tmp_path: Path) -> None:
    """`info` describes a scheduled file, a damaged one and the folder."""
    path = make_database(folder / "org.db", (GOLDEN / "01-november.sql").read_text())
    result = run_locally(path, tmp_path / "scratch", "2026-11-23")
    info = describe(path, "org")
    assert info.contacts == 60
    assert info.plan["pre-scheduled"] == sum(
        c.get("pre-scheduled", 0) for c in result.counts.values()
    )
    assert info.last_run is not None
    assert info.last_run.run_id == result.run_id
    assert info.issues == result.issues
    (folder / "not an id.db").touch()
    (folder / "text.db").write_text("x" * 5000)
    assert volume(folder).organizations == {"org": path.stat().st_size, "text": 5000}
    with pytest.raises(SchedulerError) as caught:
        describe(folder / "text.db", "text")
    assert caught.value.code == ErrorCode.DATABASE_NOT_SQLITE
