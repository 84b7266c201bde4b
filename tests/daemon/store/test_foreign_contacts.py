"""Tables of contacts that other programs made, and schemas that SQLite cannot read."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from schedd.store.errors import translate
from schedproto import ErrorCode
from tests.support.foreign_tables import (
    AS_OF,
    COLUMNS,
    PLAN,
    ROWS,
    application,
    build,
    contacts,
    refused,
    run,
)
from tests.support.plans import read_plan, run_locally


@pytest.mark.parametrize(
    ("script", "named"),
    [
        (contacts(5).replace("id INTEGER PRIMARY", "id TEXT PRIMARY"), "'5'"),
        (contacts(5).replace("id INTEGER PRIMARY KEY", "id INTEGER"), "no unique index"),
        (
            contacts(5)
            + "ALTER TABLE contacts RENAME TO p; CREATE VIEW contacts AS SELECT * FROM p;",
            "view",
        ),
        (
            contacts(5).replace("effective_date TEXT)", "effective_date TEXT) WITHOUT ROWID")
            + "INSERT INTO contacts(id) VALUES ('L-2');",
            "L-2",
        ),
        (
            contacts(5).replace("effective_date TEXT)", "effective_date TEXT) WITHOUT ROWID")
            + "INSERT INTO contacts(id) VALUES (3.5);",
            "3.5",
        ),
    ],
)
def test_contacts_without_a_number(tmp_path: Path, script: str, named: str) -> None:
    """A contact's id has to be a whole number in a unique column of a table.

    The error says what it is instead.
    """
    error = refused(build(tmp_path / "org.db", script), tmp_path)
    assert "contacts" in error.message
    assert named in error.message


@pytest.mark.parametrize("mode", ["reliable", "highperf"])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "declared",
    [
        "BIGINT PRIMARY KEY",
        "INTEGER PRIMARY KEY DESC",
        "INT NOT NULL UNIQUE",
        "NUMERIC PRIMARY KEY",
    ],
)
def test_contacts_by_another_key(tmp_path: Path, declared: str, workers: int, mode: str) -> None:
    """Numbers in any unique column get the same plan as the rowid's alias."""
    shuffled = (
        "INSERT INTO contacts SELECT 10 * id, email, zip_code, birth_date, effective_date "
        "FROM plain {};"
    )
    script = contacts(60) + "ALTER TABLE contacts RENAME TO plain; CREATE TABLE contacts({});"
    usual = build(tmp_path / "usual.db", script.format(COLUMNS), shuffled.format("ORDER BY id"))
    columns = COLUMNS.replace("INTEGER PRIMARY KEY", declared)
    other = build(
        tmp_path / "other.db", script.format(columns), shuffled.format("ORDER BY email DESC")
    )
    for path in (usual, other):
        run_locally(path, tmp_path / "scratch", AS_OF, workers=workers, mode=mode)
    assert read_plan(other) == read_plan(usual)
    again = run_locally(
        other, tmp_path / "scratch", AS_OF, workers=workers, mode=mode, run_id="job-again.1"
    )
    assert (again.rows_inserted, again.rows_updated, again.rows_deleted) == (0, 0, 0)


def test_columns_that_cannot_be_read(tmp_path: Path) -> None:
    """A generated column of the application's is named."""
    columns = "id INTEGER PRIMARY KEY, raw TEXT, email TEXT AS (fold(raw)), zip_code TEXT"
    script = (
        f"CREATE TABLE contacts({columns}); INSERT INTO contacts(raw, zip_code) VALUES "
        "('A@example.org', '75001');"
    )
    error = refused(build(tmp_path / "org.db", script, prepare=application), tmp_path)
    assert "contacts.email" in error.message
    assert "fold" in error.message


def test_schema_that_sqlite_cannot_parse(tmp_path: Path) -> None:
    """A fork's syntax is not damage: the object is named, and no backup is recommended."""
    script = (
        "CREATE TABLE shopping(id INTEGER PRIMARY KEY); PRAGMA writable_schema = ON;"
        "UPDATE sqlite_schema SET sql = sql || ' RANDOM ROWID' WHERE name = 'shopping';"
    )
    error = refused(build(tmp_path / "org.db", contacts(5), script), tmp_path)
    assert "shopping" in error.message
    assert "Restore" not in error.hint


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('malformed database schema (t) - near "RANDOM": syntax error', ErrorCode.FOREIGN_SCHEMA),
        ("malformed database schema (v) - no such table: main.x", ErrorCode.FOREIGN_SCHEMA),
        ("malformed database schema (t) - invalid rootpage", ErrorCode.DATABASE_DAMAGED),
        ("malformed database schema (t)", ErrorCode.DATABASE_DAMAGED),
    ],
)
def test_malformed_schemas(text: str, code: ErrorCode) -> None:
    """A schema with foreign syntax is not damage; one with a broken page is."""
    assert translate(apsw.CorruptError(text), Path("org.db")).code == code


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_bytes_that_are_not_text_in_a_schema(tmp_path: Path, encoding: str) -> None:
    """Comments, names and defaults of another encoding in the schema do not stop a run."""
    letter = "x'e9'" if encoding == "UTF-8" else "x'00d8'"
    script = PLAN.format(", note TEXT DEFAULT '@' /* @ */, \"c@\" TEXT") + (
        ';CREATE TABLE other(x); CREATE INDEX "i@" ON email_schedules(status); CREATE TABLE '
        "audit(x);"
        "CREATE TRIGGER t AFTER INSERT ON email_schedules BEGIN INSERT INTO audit VALUES ('@'); "
        "END;"
        "CREATE TABLE need(x CHECK (fold(x) = x));"
    )
    path = build(
        tmp_path / "org.db",
        f"PRAGMA encoding = '{encoding}';",
        contacts(20),
        script,
        ROWS,
        prepare=application,
    )
    build(
        path,
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET "
        + ", ".join(
            f"{c} = replace({c}, '@', CAST({letter} AS TEXT))" for c in ("name", "tbl_name", "sql")
        ),
        prepare=application,
    )
    first = run(path, tmp_path)
    assert first.rows_inserted == len(read_plan(path))
    assert run(path, tmp_path, "job-b.1").rows_unchanged == first.rows_planned
