"""Texts of other programs' files that are not valid UTF-8, in names of the schema and in rows.

apsw raises `UnicodeDecodeError` for them. Each place that reads such a text has a test here.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
from contextlib import closing
from pathlib import Path

import apsw
import msgspec
import pytest

from schedd.engine.configuration import Layer
from schedd.inspection.adopt import Adopter
from schedd.inspection.report import CheckRequest, check
from schedd.inspection.tables import unique_indexes
from schedd.replica import rebase
from schedd.store.info import describe
from schedd.store.maintenance import check_file, check_integrity, integrity_of
from schedd.store.reports import read_report
from schedd.store.schema import OWN_TABLES
from schedd.store.tables import read_table
from schedproto import Mode, RunResult, SchedulerError

NOT_TEXT = "CAST(x'6eff' AS TEXT)"
SHOWN = "n\N{REPLACEMENT CHARACTER}"
CONTACTS = (
    "CREATE TABLE contacts (id INTEGER PRIMARY KEY, email TEXT, zip_code TEXT);"
    "INSERT INTO contacts VALUES (1, 'ann@example.org', '90210');"
)
PLAN = (
    "CREATE TABLE email_schedules (id INTEGER PRIMARY KEY, contact_id INTEGER, email_type TEXT,"
    " scheduled_send_date TEXT, scheduled_send_time TEXT, status TEXT);"
)


def utc_now() -> dt.datetime:
    return dt.datetime(2026, 11, 23, tzinfo=dt.UTC)


def make(path: Path, *scripts: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        for script in scripts:
            connection.executescript(script)
    return path


def rename(path: Path, kind: str, name: str) -> Path:
    """Give an object of the schema a name that is not valid UTF-8."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            f"UPDATE sqlite_schema SET name = {NOT_TEXT},"
            f" tbl_name = CASE WHEN type = 'table' THEN {NOT_TEXT} ELSE tbl_name END,"
            f" sql = replace(sql, ?2, '\"' || {NOT_TEXT} || '\"') WHERE type = ?1 AND name = ?2",
            (kind, name),
        )
    return path


@pytest.fixture
def indexed(tmp_path: Path) -> Path:
    """Return a file whose plan has a unique index with a name that is not text."""
    index = "CREATE UNIQUE INDEX marker ON email_schedules (email_type);"
    return rename(make(tmp_path / "org.db", CONTACTS, PLAN, index), "index", "marker")


def test_the_name_cannot_be_read_as_text(indexed: Path) -> None:
    """The file has what these tests are about: reading the name as text raises."""
    with closing(apsw.Connection(str(indexed))) as connection, pytest.raises(UnicodeDecodeError):
        connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'").fetchall()


def test_unique_index(indexed: Path) -> None:
    """A unique index is found, but not offered for dropping, as its name cannot be written."""
    with closing(apsw.Connection(str(indexed))) as connection:
        [index] = unique_indexes(connection)
    assert (index.name, index.columns, index.sql) == (SHOWN, ("email_type",), None)


def test_check_and_adoption(indexed: Path) -> None:
    """A check reports the index, and an adoption leaves it to a person."""
    defaults = Layer("defaults", {})
    request = CheckRequest(path=indexed, organization="org", defaults=defaults, now=utc_now)
    [found] = [item for item in check(request).findings if item.name == SHOWN]
    assert (found.code, found.severity) == ("unique_constraint", "error")
    adoption = Adopter(indexed, "org", defaults, (), utc_now).plan()
    assert SHOWN in [item.name for item in adoption.left]
    assert not any("DROP" in change.sql for change in adoption.changes)


def test_indexes_and_triggers_of_a_table(tmp_path: Path) -> None:
    """A table is read with an index and a trigger of such names."""
    more = "CREATE INDEX marker ON email_schedules (email_type);"
    more += "CREATE TRIGGER pull AFTER INSERT ON email_schedules BEGIN SELECT 1; END;"
    path = make(tmp_path / "org.db", CONTACTS, PLAN, more)
    rename(rename(path, "index", "marker"), "trigger", "pull")
    with closing(apsw.Connection(str(path))) as connection:
        table = read_table(connection, "EMAIL_SCHEDULES")
    assert table is not None
    assert ([index.name for index in table.indexes], [*table.triggers]) == ([SHOWN], [SHOWN])


def damage(path: Path) -> None:
    """Point the index at another column, without rebuilding it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO email_schedules (id, email_type, status) VALUES (1, 'a', 'b')"
        )
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = CAST(replace(CAST(sql AS BLOB), CAST('(email_type)' "
            "AS BLOB),"
            " CAST('(status)' AS BLOB)) AS TEXT) WHERE type = 'index'"
        )


def test_integrity(indexed: Path) -> None:
    """A damaged index of such a name is reported as damage, in each check of integrity."""
    damage(indexed)
    assert SHOWN in integrity_of(indexed)[0]
    trigger = "CREATE TRIGGER pull AFTER INSERT ON email_schedules BEGIN SELECT 1; END;"
    make(indexed, trigger)
    with (
        closing(apsw.Connection(str(indexed))) as connection,
        pytest.raises(SchedulerError, match=SHOWN),
    ):
        check_integrity(connection, indexed, Mode.HIGHPERF)
    with pytest.raises(SchedulerError, match=SHOWN):
        check_file(indexed, "org")


def with_rows(path: Path, encoding: str = "UTF-8") -> Path:
    """Make a file whose rows have invalid texts wherever a report or a description reads one."""
    tables = "".join(f"{sql};" for sql in OWN_TABLES.values())
    rows = (
        f"INSERT INTO email_schedules VALUES (1, 1, 'aep', '2026-12-01', '08:30', {NOT_TEXT}),"
        f" (2, 1, 'aep', {NOT_TEXT}, '08:30', 'pre-scheduled');"
        f"INSERT INTO contact_issues VALUES (1, {NOT_TEXT});"
        "INSERT INTO scheduler_runs (run_id, as_of, mode, started_at, status, error)"
        f" VALUES ('r', '2026-11-23', {NOT_TEXT}, '2026-11-23 00:00:00', 'failed', {NOT_TEXT});"
    )
    return make(path, f"PRAGMA encoding = '{encoding}'", CONTACTS, PLAN, tables, rows)


def test_description(tmp_path: Path) -> None:
    """`info` counts rows by values that are not text, and shows the last run."""
    info = describe(with_rows(tmp_path / "org.db"), "org")
    assert info.error is None
    assert info.plan == {SHOWN: 1, "pre-scheduled": 1}
    assert (info.next_dates, info.issues) == ({SHOWN: 1}, {SHOWN: 1})
    assert info.last_run is not None
    assert (info.last_run.mode, info.last_run.error) == (SHOWN, SHOWN)


def test_issues_of_a_report(tmp_path: Path) -> None:
    """A report has issues whose reason is not text."""
    report = read_report(with_rows(tmp_path / "org.db"), "org", "now")
    assert [(issue.contact_id, issue.reason) for issue in report.issues] == [(1, SHOWN)]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_summary_of_a_report(tmp_path: Path, encoding: str) -> None:
    """A report has the summary of a run, in a file of any encoding."""
    path = with_rows(tmp_path / "org.db", encoding)
    result = RunResult(
        run_id="run",
        organization="other",
        as_of="2026-11-23",
        mode="reliable",
        workers=1,
        contacts=7,
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE scheduler_runs SET status = 'completed', summary = ?",
            (msgspec.json.encode(result).decode(),),
        )
    latest = read_report(path, "org", "now").latest
    assert latest is not None
    assert (latest.organization, latest.contacts) == ("org", 7)


def test_rebase_with_a_table_of_such_a_name(tmp_path: Path) -> None:
    """Changes are carried over next to such a table, which itself counts as a difference."""
    own = OWN_TABLES["contact_issues"]
    files = [
        rename(
            make(tmp_path / name, own, "CREATE TABLE marker (x INTEGER PRIMARY KEY)"),
            "table",
            "marker",
        )
        for name in ("before.db", "after.db")
    ]
    make(files[1], "INSERT INTO contact_issues VALUES (1, 'missing_email')")
    assert rebase.changes_of(*files)
    assert rebase.inputs_differ(*files)


def test_rebase_with_an_index_of_such_a_name(tmp_path: Path) -> None:
    """An index of such a name is not a difference, but a change of the name is."""
    script = "CREATE TABLE t (x TEXT PRIMARY KEY); CREATE INDEX marker ON t (x)"
    before, after = (
        rename(make(tmp_path / n, script), "index", "marker") for n in ("b.db", "a.db")
    )
    assert not rebase.inputs_differ(before, after)
    other = make(tmp_path / "c.db", script)
    assert rebase.inputs_differ(before, other)
