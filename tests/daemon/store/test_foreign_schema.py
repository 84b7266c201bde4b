"""Tables that other programs made.

Each takes the plan exactly, or is refused with its name and a remedy.
"""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from schedd.store.errors import translate
from schedproto import ErrorCode, SchedulerError
from tests.support.foreign_tables import (
    PLAN,
    ROWS,
    application,
    build,
    contacts,
    is_sound,
    refused,
    run,
    select,
    sender_rows,
    settles,
)
from tests.support.plans import read_issues, read_plan

# The plan's table ---------------------------------------------------------------------------------

#: what follows the plan's columns -> table.column or constraint that the error names, and a word of
#: the remedy
REFUSED = {
    ", inserted_at TEXT NOT NULL": ("email_schedules.inserted_at", "default"),
    ", inserted_at TEXT NOT NULL DEFAULT NULL": ("email_schedules.inserted_at", "default"),
    ", skip_reason TEXT NOT NULL DEFAULT ''": ("email_schedules.skip_reason", "Drop NOT NULL"),
    ", metadata JSON NOT NULL": ("email_schedules.metadata", "Drop NOT NULL"),
    ", CHECK (status IN ('pre-scheduled', 'sent'))": ("'skipped'", "CHECK"),
    ", CONSTRAINT known_status CHECK (status <> 'pre-scheduled')": (
        "known_status",
        "'pre-scheduled'",
    ),
    ", CHECK (length(scheduled_send_time) = 5)": ("length(scheduled_send_time) = 5", "CHECK"),
    ", CHECK (typeof(contact_id) = 'text')": ("typeof(contact_id)", "CHECK"),
    ", event_day INTEGER AS (substr(scheduled_send_date, 9)) STORED": (
        "email_schedules.event_day",
        "ordinary",
    ),
    ", UNIQUE (contact_id, scheduled_send_date) ON CONFLICT REPLACE": (
        "UNIQUE (contact_id",
        "ON CONFLICT",
    ),
    ", UNIQUE (contact_id, email_type, scheduled_send_date) on /* x */ conflict ignore": (
        "UNIQUE",
        "ON CONFLICT",
    ),
    ", note TEXT NOT NULL ON CONFLICT REPLACE DEFAULT ''": ("note TEXT", "ON CONFLICT"),
}


@pytest.mark.parametrize(
    ("number", "held"), [(2**53, True), (2**53 + 1, False), (-(2**53) - 1, False)]
)
def test_contact_ids_beyond_a_real_column(tmp_path: Path, number: int, held: bool) -> None:
    """A REAL contact_id takes exactly the ids that it can hold."""
    plan = PLAN.format("").replace("contact_id INTEGER", "contact_id REAL")
    assert "contact_id REAL" in plan
    path = build(
        tmp_path / "org.db", contacts(20), plan, f"UPDATE contacts SET id = {number} WHERE id = 7"
    )
    if held:
        run(path, tmp_path)
        assert select(
            path, f"SELECT count(*) > 0 FROM email_schedules WHERE contact_id = {number}"
        ) == [(1,)]
    else:
        error = refused(path, tmp_path)
        assert str(number) in error.message
        assert error.details["column"] == "contact_id"


@pytest.mark.parametrize("mode", ["reliable", "highperf"])
@pytest.mark.parametrize("more", REFUSED)
def test_declarations_that_refuse_the_plan(tmp_path: Path, more: str, mode: str) -> None:
    """The error names the column or constraint before the first write."""
    named, remedy = REFUSED[more]
    path = build(tmp_path / "org.db", contacts(20), PLAN.format(more))
    error = refused(path, tmp_path, mode=mode)
    assert named in f"{error.message} {error.details}"
    assert remedy in f"{error.hint} {error.message}"
    assert error.details["table"] == "email_schedules"


@pytest.mark.parametrize("more", [more for more in REFUSED if "JSON" not in more])
def test_a_dry_run_of_a_read_only_file_finds_them(tmp_path: Path, more: str) -> None:
    """Nothing has to be written to find them."""
    path = build(tmp_path / "org.db", contacts(20), PLAN.format(more))
    path.chmod(0o444)
    refused(path, tmp_path, dry_run=True)


@pytest.mark.parametrize(
    ("kind", "column", "type_"),
    [
        ("created_at INTEGER", "created_at", "INTEGER"),
        ("event_year BLOB", "event_year", "BLOB"),
        ("metadata REAL", "metadata", "REAL"),
    ],
)
def test_strict_types(tmp_path: Path, kind: str, column: str, type_: str) -> None:
    """A STRICT table whose types do not take the plan's values is refused.

    The column and its type are named.
    """
    path = build(tmp_path / "org.db", contacts(20), PLAN.format(f", {kind}") + "STRICT")
    error = refused(path, tmp_path)
    assert f"email_schedules.{column}" in error.message
    assert type_ in error.message
    assert "ANY" in error.hint


def test_strict_table_that_fits(tmp_path: Path) -> None:
    """A STRICT table with fitting types takes the plan, also with TEXT or ANY columns."""
    more = ", priority TEXT, event_month REAL, metadata ANY, tenant TEXT NOT NULL DEFAULT 'x'"
    path = build(tmp_path / "org.db", contacts(40), PLAN.format(more) + "STRICT;", ROWS)
    result = run(path, tmp_path)
    assert len(read_plan(path)) == result.rows_planned
    assert is_sound(path)


@pytest.mark.parametrize(
    ("script", "code", "named"),
    [
        (
            PLAN.replace("id INTEGER", "schedule_id INTEGER"),
            ErrorCode.COLUMN_MISSING,
            "RENAME COLUMN",
        ),
        (
            PLAN.replace("id INTEGER PRIMARY KEY, ", ""),
            ErrorCode.COLUMN_MISSING,
            "id INTEGER PRIMARY KEY",
        ),
        (PLAN.replace("PRIMARY KEY", "PRIMARY KEY DESC"), ErrorCode.FOREIGN_SCHEMA, "DESC"),
        (
            PLAN.replace("id INTEGER PRIMARY", "id BIGINT PRIMARY"),
            ErrorCode.FOREIGN_SCHEMA,
            "BIGINT",
        ),
        (PLAN.replace("id INTEGER PRIMARY", "id UUID PRIMARY"), ErrorCode.FOREIGN_SCHEMA, "UUID"),
        (PLAN.replace("INTEGER PRIMARY KEY", "INTEGER"), ErrorCode.FOREIGN_SCHEMA, "primary key"),
        (PLAN + "WITHOUT ROWID", ErrorCode.FOREIGN_SCHEMA, "WITHOUT ROWID"),
        (
            (
                "CREATE TABLE outbox(id INTEGER PRIMARY KEY); CREATE VIEW email_schedules AS "
                "SELECT * "
                "FROM outbox"
            ),
            ErrorCode.FOREIGN_SCHEMA,
            "view",
        ),
        (
            "CREATE VIRTUAL TABLE email_schedules USING fts5(id, contact_id)",
            ErrorCode.FOREIGN_SCHEMA,
            "virtual",
        ),
        (
            (
                "CREATE TABLE gone(id); CREATE VIEW email_schedules AS SELECT id FROM gone; DROP "
                "TABLE gone"
            ),
            ErrorCode.FOREIGN_SCHEMA,
            "gone",
        ),
    ],
)
def test_plans_whose_rows_have_no_number(
    tmp_path: Path, script: str, code: ErrorCode, named: str
) -> None:
    """A plan table without numeric ids is refused, not read as an empty history."""
    path = build(tmp_path / "org.db", contacts(20), script.format(""))
    error = refused(path, tmp_path, code)
    assert "email_schedules" in error.message
    assert named in f"{error.message} {error.hint}"


@pytest.mark.parametrize(
    ("script", "named"),
    [
        ("CREATE INDEX folded ON email_schedules(fold(email_type))", "index folded"),
        ("CREATE INDEX part ON email_schedules(status) WHERE fold(status) = 'x'", "index part"),
        (
            (
                "CREATE TRIGGER audit AFTER UPDATE ON email_schedules BEGIN SELECT "
                "fold(new.status); "
                "END"
            ),
            "trigger audit",
        ),
        (
            (
                "CREATE TRIGGER t BEFORE DELETE ON email_schedules BEGIN INSERT INTO gone VALUES "
                "(1); "
                "END"
            ),
            "trigger t",
        ),
        ("ALTER TABLE email_schedules ADD COLUMN f TEXT AS (fold(status))", "email_schedules"),
        ("CREATE INDEX by_type ON email_schedules(email_type COLLATE FOLDED)", "index by_type"),
    ],
)
def test_functions_that_only_the_application_has(tmp_path: Path, script: str, named: str) -> None:
    """Objects that need the application's functions are named before the first write."""
    path = build(
        tmp_path / "org.db", contacts(20), PLAN.format("") + ";", ROWS, script, prepare=application
    )
    error = refused(path, tmp_path)
    assert named in error.message
    assert "application" in error.hint


def test_unrelated_objects_that_need_the_application(tmp_path: Path) -> None:
    """Unrelated objects that need the application or are broken do not stop a run."""
    script = (
        "CREATE TABLE notes(id INTEGER PRIMARY KEY, text TEXT COLLATE FOLDED UNIQUE CHECK "
        "(fold(text) = text));"
        "INSERT INTO notes VALUES (1, 'x');"
        "CREATE TABLE strange(id INTEGER PRIMARY KEY, must TEXT NOT NULL); PRAGMA writable_schema "
        "= ON;"
        "INSERT INTO strange VALUES (1, 'x');"
        "CREATE TABLE old(x); CREATE VIEW broken AS SELECT * FROM old; DROP TABLE old;"
    )
    path = build(tmp_path / "org.db", contacts(20), script, prepare=application)
    settles(path, tmp_path)


def test_a_value_that_breaks_a_constraint_is_not_damage(tmp_path: Path) -> None:
    """A row that another program wrote with checks off does not make a file damaged."""
    script = (
        "CREATE TABLE notes(n INTEGER CHECK (n > 0)); PRAGMA ignore_check_constraints = ON; "
        "INSERT INTO notes VALUES (-1);"
    )
    path = build(tmp_path / "org.db", contacts(20), script)
    assert select(path, "PRAGMA quick_check") != [("ok",)]
    assert run(path, tmp_path).rows_inserted > 0


def test_another_unique_index(tmp_path: Path) -> None:
    """A row of the sender that conflicts with a planned one is kept; the error names the index."""
    script = (
        PLAN.format(", event_year INTEGER")
        + ";CREATE UNIQUE INDEX one_a_year ON email_schedules(contact_id, email_type, event_year);"
        "INSERT INTO email_schedules VALUES (1, 2, 'aep', '2026-11-01', '08:30:00', 'failed', 2027)"
    )
    path = build(tmp_path / "org.db", contacts(20), script)
    before = select(path, "SELECT * FROM email_schedules")
    with pytest.raises(SchedulerError) as caught:
        run(path, tmp_path)
    assert caught.value.code == ErrorCode.FOREIGN_SCHEMA
    assert "one_a_year" in caught.value.message
    assert "contact_id, email_type, event_year" in caught.value.message
    assert select(path, "SELECT * FROM email_schedules") == before
    build(path, "DELETE FROM email_schedules")
    settles(path, tmp_path)


def test_largest_id(tmp_path: Path) -> None:
    """AUTOINCREMENT without a number left is not a full disk."""
    script = PLAN.replace("PRIMARY KEY", "PRIMARY KEY AUTOINCREMENT").format("")
    path = build(tmp_path / "org.db", contacts(20), script, ";", ROWS)
    build(path, f"UPDATE sqlite_sequence SET seq = {2**63 - 1}")
    with pytest.raises(SchedulerError) as caught:
        run(path, tmp_path)
    assert caught.value.code == ErrorCode.FOREIGN_SCHEMA
    assert "AUTOINCREMENT" in caught.value.message


def test_foreign_keys_delete_nothing(tmp_path: Path) -> None:
    """A cascade of the application is not run by the deletion of a planned row."""
    script = (
        PLAN.format("") + ";CREATE TABLE previews(id INTEGER PRIMARY KEY, "
        "schedule_id INTEGER NOT NULL REFERENCES email_schedules(id) ON DELETE CASCADE); INSERT "
        "INTO previews VALUES (1, 2);"
    )
    path = build(tmp_path / "org.db", contacts(20), script, ROWS)
    assert run(path, tmp_path).rows_deleted == 1
    assert select(path, "SELECT * FROM previews") == [(1, 2)]


@pytest.mark.parametrize("folded", ["email_type", "status", "scheduled_send_date"])
@pytest.mark.parametrize("key", [", UNIQUE (contact_id, email_type, scheduled_send_date)", ""])
def test_collations(tmp_path: Path, folded: str, key: str) -> None:
    """Columns that compare without case take the plan, and later runs find their indexes again."""
    script = PLAN.replace(f"{folded} TEXT", f"{folded} TEXT COLLATE NOCASE").format(key)
    path = build(tmp_path / "org.db", contacts(30), script, ";", ROWS)
    settles(path, tmp_path)
    assert run(path, tmp_path, "job-c.1").rows_unchanged
    assert (
        len(
            select(
                path,
                "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = "
                "'email_schedules'",
            )
        )
        == 2
    )


def test_names_that_are_taken(tmp_path: Path) -> None:
    """Objects with the names of the scheduler's indexes stay; other names are used."""
    script = (
        PLAN.format("")
        + ";CREATE TABLE email_schedules_key(x); CREATE TABLE scheduler_index_build(x);"
        "CREATE INDEX email_schedules_status_date ON email_schedules(scheduled_send_time);"
    )
    path = build(tmp_path / "org.db", contacts(30), script, ROWS)
    settles(path, tmp_path)


def test_names_in_other_case(tmp_path: Path) -> None:
    """A table whose names are spelled in capitals is the plan."""
    settles(build(tmp_path / "org.db", contacts(30), PLAN.format("").upper(), ";", ROWS), tmp_path)


# Duplicates of the plan ---------------------------------------------------------------------------


def test_surplus_rows_of_the_present_plan(tmp_path: Path) -> None:
    """Without the unique key a predecessor's plan may have rows twice.

    They are reduced to one, the sender's stay.
    """
    path = build(tmp_path / "org.db", contacts(30))
    run(path, tmp_path)
    plan = read_plan(path)
    columns = (
        "contact_id, email_type, scheduled_send_date, scheduled_send_time, status, "
        "skip_reason, priority"
    )
    other = PLAN.format(", skip_reason TEXT, priority INTEGER")
    twice = f"INSERT INTO copy({columns}) SELECT {columns} FROM email_schedules"
    script = (
        f"{other.replace('email_schedules', 'copy')};{twice};{twice};"
        "INSERT INTO copy VALUES (9001, 5, 'aep', '2026-01-01', '', 'skipped', NULL, NULL),"
        " (9002, 5, 'aep', '2026-01-01', '', 'sent', NULL, NULL), (9003, 5, 'aep', '2026-01-01', "
        "'', 'skipped', NULL, NULL);"
        "DROP TABLE email_schedules; ALTER TABLE copy RENAME TO email_schedules;"
    )
    build(path, script)
    result = run(path, tmp_path, "job-b.1")
    assert result.rows_planned == len(plan)
    assert read_plan(path) == plan
    assert [row[0] for row in sender_rows(path)] == [9002]
    assert result.rows_deleted == len(plan) + 2
    settles(path, tmp_path)


def test_duplicates_among_other_rows(tmp_path: Path) -> None:
    """Two rows of the sender with one key are an error.

    Two with a NULL in it, or of other spelling, are not.
    """
    values = "(NULL, {}, '{}', '2026-01-01', '', 'sent')"
    loose = PLAN.format("").replace("INTEGER NOT NULL", "INTEGER")
    allowed = [values.format("NULL", "aep")] * 2 + [
        values.format(7, "aep"),
        values.format(7, "AEP"),
    ]
    path = build(
        tmp_path / "org.db",
        contacts(30),
        loose,
        f";INSERT INTO email_schedules VALUES {', '.join(allowed)}",
    )
    run(path, tmp_path)
    assert len(sender_rows(path)) == 4
    twice = f"INSERT INTO email_schedules VALUES {values.format(7, 'aep')};" * 2
    other = build(tmp_path / "two.db", contacts(30), loose, ";", twice)
    error = refused(other, tmp_path, ErrorCode.DUPLICATE_KEYS)
    assert "contact 7, aep, 2026-01-01 (2 rows)" in error.message


# Our other tables and those we read ---------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        (
            "CREATE TABLE scheduler_runs(id INTEGER PRIMARY KEY, job TEXT, started_at TEXT, status "
            "TEXT)"
        ),
        "CREATE TABLE scheduler_runs(run_id TEXT, as_of TEXT, status TEXT, started_at TEXT)",
        "CREATE VIEW scheduler_runs AS SELECT 'x' AS run_id",
        (
            "CREATE TABLE contact_issues(id INTEGER PRIMARY KEY, contact_id INTEGER, reason TEXT, "
            "note TEXT)"
        ),
        "CREATE TABLE contact_issues(contact_id INTEGER, reason TEXT)",
        (
            "CREATE TABLE contact_issues(contact_id TEXT, reason TEXT, PRIMARY KEY (contact_id, "
            "reason))"
        ),
        (
            "CREATE TABLE contact_issues(contact_id INTEGER, reason TEXT, PRIMARY KEY (contact_id, "
            "reason) ON CONFLICT REPLACE)"
        ),
        "CREATE TABLE scheduler_config(id INTEGER PRIMARY KEY, name TEXT, value TEXT)",
        "CREATE TABLE scheduler_config(version INTEGER, toml TEXT, tenant TEXT)",
    ],
)
def test_tables_of_our_names(tmp_path: Path, script: str) -> None:
    """Another program's table with one of our names is refused and stays unchanged."""
    path = build(tmp_path / "org.db", contacts(20), script)
    name = script.split()[2].split("(", maxsplit=1)[0]
    if "TABLE" in script:
        columns = select(path, f"SELECT count(*) FROM pragma_table_info('{name}')")[0][0]
        build(path, f"INSERT INTO {name} VALUES ({', '.join(['1'] * columns)})")
    error = refused(path, tmp_path)
    assert name in error.message
    assert "RENAME" in error.hint
    build(path, f"DROP {'TABLE' if 'TABLE' in script else 'VIEW'} {name}")
    settles(path, tmp_path)


def test_tables_of_earlier_and_later_releases(tmp_path: Path) -> None:
    """Our own tables with a column less or more are ours."""
    path = build(tmp_path / "org.db", contacts(20))
    run(path, tmp_path)
    build(
        path,
        "ALTER TABLE scheduler_runs DROP COLUMN summary; ALTER TABLE scheduler_config ADD COLUMN "
        "later TEXT;"
        "ALTER TABLE contact_issues RENAME TO old; CREATE TABLE contact_issues(contact_id INTEGER "
        "NOT NULL, "
        "reason TEXT NOT NULL, PRIMARY KEY (contact_id, reason)); DROP TABLE old;",
    )
    assert run(path, tmp_path, "job-b.1").rows_inserted == 0
    assert run(path, tmp_path, "job-c.1").rows_inserted == 0


def test_trigger_on_issues(tmp_path: Path) -> None:
    """A trigger that keeps issues away is reported."""
    path = build(tmp_path / "org.db", contacts(20))
    run(path, tmp_path)
    build(
        path,
        "UPDATE contacts SET email = NULL WHERE id = 3;"
        "CREATE TRIGGER quiet BEFORE INSERT ON contact_issues BEGIN SELECT RAISE(IGNORE); END;",
    )
    result = run(path, tmp_path, "job-b.1")
    assert [(w.code, w.table) for w in result.warnings] == [
        ("trigger_changed_rows", "contact_issues")
    ]
    assert read_issues(path) == []


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (apsw.ConstraintError, ErrorCode.FOREIGN_SCHEMA),
        (apsw.SQLError, ErrorCode.FOREIGN_SCHEMA),
        (apsw.MismatchError, ErrorCode.FOREIGN_SCHEMA),
        (apsw.TooBigError, ErrorCode.FOREIGN_SCHEMA),
        (apsw.SchemaChangeError, ErrorCode.DATABASE_LOCKED),
        (apsw.ProtocolError, ErrorCode.DATABASE_LOCKED),
        (apsw.CorruptError, ErrorCode.DATABASE_DAMAGED),
    ],
)
def test_errors_in_the_middle_of_a_run(kind: type[apsw.Error], code: ErrorCode) -> None:
    """An error of SQLite in the middle of a run is an error of the file, with SQLite's text."""
    error = translate(kind("SQLite's text"), Path("org.db"))
    assert error.code == code
    assert "SQLite's text" in error.message
    assert "fault of the scheduler" not in error.hint
