"""The transfer of changes to a file that both sides have changed.

Tests which row wins, and when the plan is recomputed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from schedd.replica import rebase

SCHEMA = """
CREATE TABLE contacts(id INTEGER PRIMARY KEY, email TEXT);
CREATE TABLE email_schedules(id INTEGER PRIMARY KEY, contact_id INTEGER, email_type TEXT,
  scheduled_send_date TEXT,
  status TEXT, UNIQUE (contact_id, email_type, scheduled_send_date));
CREATE TABLE scheduler_runs(run_id TEXT PRIMARY KEY, status TEXT);
CREATE TABLE contact_issues(contact_id INTEGER NOT NULL, reason TEXT NOT NULL,
  PRIMARY KEY (contact_id, reason)) WITHOUT ROWID;
CREATE TABLE notes(text TEXT);
INSERT INTO contacts VALUES (1, 'a@example.org'), (2, 'b@example.org');
INSERT INTO email_schedules VALUES (1, 1, 'birthday', '2026-12-01', 'pre-scheduled'),
  (2, 2, 'birthday', '2026-12-02', 'pre-scheduled');
"""


@pytest.fixture
def files(tmp_path: Path) -> Callable[[str, str], tuple[Path, Path, Path]]:
    """A file before, with our changes, and with theirs."""

    def make(ours: str, theirs: str) -> tuple[Path, Path, Path]:
        paths = tuple(tmp_path / name for name in ("before.db", "ours.db", "theirs.db"))
        for path, sql in zip(paths, ("", ours, theirs), strict=True):
            path.unlink(missing_ok=True)
            with closing(sqlite3.connect(path)) as connection:
                connection.executescript(SCHEMA + sql)
        return paths  # type: ignore[return-value]

    return make


def rows(path: Path, table: str = "email_schedules") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


def carry(paths: tuple[Path, Path, Path]) -> bool:
    before, ours, theirs = paths
    changes = rebase.changes_of(before, ours)
    assert changes is not None
    return rebase.apply(changes, before, theirs)


def test_our_changes_are_carried_over(files: Callable[..., Any]) -> None:
    """Rows that only we have changed are there afterwards, in each of our tables; theirs stay."""
    paths = files(
        "INSERT INTO email_schedules VALUES (3, 1, 'aep', '2027-01-01', 'pre-scheduled');"
        "UPDATE email_schedules SET scheduled_send_date = '2026-12-09' WHERE id = 1; DELETE FROM "
        "email_schedules WHERE id = 2;"
        "INSERT INTO scheduler_runs VALUES ('run', 'completed'); INSERT INTO contact_issues "
        "VALUES (2, 'zip');",
        "INSERT INTO contacts VALUES (3, 'c@example.org'); UPDATE contacts SET email = "
        "'z@example.org' WHERE id = 1;",
    )
    assert carry(paths)
    assert rows(paths[2]) == [
        (1, 1, "birthday", "2026-12-09", "pre-scheduled"),
        (3, 1, "aep", "2027-01-01", "pre-scheduled"),
    ]
    assert rows(paths[2], "scheduler_runs") == [("run", "completed")]
    assert rows(paths[2], "contact_issues") == [(2, "zip")]
    assert [row[1] for row in rows(paths[2], "contacts")] == [
        "z@example.org",
        "b@example.org",
        "c@example.org",
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "kept"),
    [
        # we move a row, they have sent it
        ("UPDATE email_schedules SET scheduled_send_date = '2026-12-09' WHERE id = 1;",
         "UPDATE email_schedules SET status = 'sent' WHERE id = 1;",
         (1, 1, "birthday", "2026-12-01", "sent")),
        # we remove a row, they have sent it
        ("DELETE FROM email_schedules WHERE id = 1;",
         "UPDATE email_schedules SET status = 'sent' WHERE id = 1;",
         (1, 1, "birthday", "2026-12-01", "sent")),
        # we change a row, they have removed it
        (("UPDATE email_schedules SET status = 'skipped' WHERE id = "
         "1;"), "DELETE FROM email_schedules WHERE id = 1;", None),
        # we add a row under a number that they have taken
        ("INSERT INTO email_schedules VALUES (3, 1, 'aep', '2027-01-01', 'pre-scheduled');",
         "INSERT INTO email_schedules VALUES (3, 2, 'custom', '2027-02-02', 'sent');",
         (3, 2, "custom", "2027-02-02", "sent")),
        # we add a row under a key that they have taken
        ("INSERT INTO email_schedules VALUES (4, 1, 'aep', '2027-01-01', 'pre-scheduled');",
         "INSERT INTO email_schedules VALUES (3, 1, 'aep', '2027-01-01', 'sent');",
         (3, 1, "aep", "2027-01-01", "sent")),
    ],
)  # fmt: skip
def test_their_rows_win(
    files: Callable[..., Any], ours: str, theirs: str, kept: tuple[Any, ...] | None
) -> None:
    """Of a row that both changed, theirs stays; the loss of ours is reported."""
    paths = files(ours, theirs)
    assert not carry(paths)
    before = rows(paths[2])
    fresh = files(ours, theirs)
    assert rows(fresh[2]) == before  # nothing of ours came
    assert kept is None or kept in before
    assert rebase.inputs_differ(paths[0], paths[2])


def test_what_counts_as_input(files: Callable[..., Any]) -> None:
    """Any table of theirs is an input; the scheduler's own notes are none."""
    for theirs, differs in (
        ("", False),
        (
            (
                "INSERT INTO scheduler_runs VALUES ('x', 'failed'); INSERT INTO contact_issues "
                "VALUES "
                "(1, 'zip');"
            ),
            False,
        ),
        ("UPDATE contacts SET email = NULL WHERE id = 2;", True),
        ("UPDATE email_schedules SET status = 'sent' WHERE id = 2;", True),
        ("ALTER TABLE contacts ADD COLUMN extra TEXT;", True),
        ("CREATE TABLE campaigns(id INTEGER PRIMARY KEY);", True),
    ):
        before, _, after = files("", theirs)
        if not differs:
            for path in (before, after):
                with closing(sqlite3.connect(path)) as connection, connection:
                    connection.execute("DROP TABLE notes")
        assert rebase.inputs_differ(before, after) is differs, theirs
    before, _, after = files("", "")
    assert rebase.inputs_differ(
        before, after
    )  # a table without a key cannot be compared: better once too often


def test_other_tables_than_before(files: Callable[..., Any]) -> None:
    """If our run has created or extended a table, nothing is carried over.

    The run is repeated instead.
    """
    before, ours, _ = files("ALTER TABLE email_schedules ADD COLUMN skip_reason TEXT;", "")
    assert rebase.changes_of(before, ours) is None


def test_a_run_is_forgotten(files: Callable[..., Any]) -> None:
    """The record of a run whose plan is recomputed is removed, and no other."""
    _, _, path = files(
        "", "INSERT INTO scheduler_runs VALUES ('one', 'completed'), ('two', 'completed');"
    )
    rebase.forget_run(path, "one")
    assert rows(path, "scheduler_runs") == [("two", "completed")]
