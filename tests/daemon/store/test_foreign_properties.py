"""Generated tables of other programs.

Each takes the plan exactly, or is refused, and never loses a row.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from schedproto import ErrorCode, RunResult, SchedulerError
from tests.support.foreign_tables import (
    AS_OF,
    build,
    contacts,
    is_sound,
    sees_by_index,
    select,
    sender_rows,
)
from tests.support.plans import read_plan, run_locally

TEXTS = ("TEXT", "VARCHAR(40)", "DATE", "NUMERIC", "BLOB", "", "INTEGER")
NUMBERS = ("INTEGER", "INT", "BIGINT", "NUMERIC", "", "BLOB", "TEXT", "VARCHAR(20)", "REAL")
COLLATIONS = ("", "", "", " COLLATE NOCASE", " COLLATE RTRIM", " COLLATE BINARY")
NULLS = (" NOT NULL", " NOT NULL DEFAULT ''", *[""] * 6, " DEFAULT 'x'", " DEFAULT 7")
REQUIRED = ("email_type", "scheduled_send_date", "scheduled_send_time", "status")
OPTIONAL = {
    "skip_reason": TEXTS,
    "priority": NUMBERS,
    "campaign_instance_id": NUMBERS,
    "email_template": ("TEXT", "VARCHAR(40)", "BLOB"),
    "event_year": NUMBERS,
    "metadata": ("TEXT", "JSON", "JSONB"),
    "created_at": ("TEXT", "DATETIME", "TIMESTAMP"),
    "actual_send_datetime": ("TEXT", "DATETIME"),
}
STRICT = {
    "TEXT": ("TEXT", "ANY", "TEXT", "TEXT", "BLOB"),
    "INTEGER": ("INTEGER", "INT", "ANY", "REAL", "TEXT", "BLOB"),
}
#: Of columns whose numbers are compared with the plan's.
STRICT_NUMBERS = ("INTEGER", "INT", "ANY", "BLOB", "TEXT", "REAL")
EXTRA = (
    "tenant TEXT NOT NULL DEFAULT 'x'",
    "tenant INTEGER NOT NULL DEFAULT (1 + 1)",
    "inserted_at TEXT NOT NULL",
    "inserted_at TEXT DEFAULT CURRENT_TIMESTAMP",
    "day TEXT AS (substr(scheduled_send_date, 9)) VIRTUAL",
    "kind TEXT AS (email_type || status) STORED",
    "kind TEXT AS (lower(email_type)) STORED NOT NULL",
    "note TEXT CHECK (note IS NULL OR length(note) > 3)",
    "token TEXT UNIQUE",
)
CONSTRAINTS = (
    "UNIQUE (contact_id, email_type, scheduled_send_date)",
    "UNIQUE (contact_id, email_type, scheduled_send_date)",
    "UNIQUE (contact_id, email_type, scheduled_send_date) ON CONFLICT IGNORE",
    "UNIQUE (scheduled_send_date, contact_id, email_type)",
    "UNIQUE (contact_id, email_type)",
    "UNIQUE (contact_id, scheduled_send_date) ON CONFLICT REPLACE",
    "CHECK (status IN ('pre-scheduled', 'skipped', 'sent', 'scheduled', 'failed'))",
    "CHECK (status <> 'skipped')",
    "CHECK (length(scheduled_send_date) = 10)",
    "CHECK (contact_id > 0)",
    "CHECK (email_type IN ('birthday', 'effective_date', 'aep', 'post_window'))",
    "CHECK (email_type IN ('birthday', 'aep'))",
    "FOREIGN KEY (contact_id) REFERENCES contacts(id) ON DELETE CASCADE",
    "FOREIGN KEY (contact_id) REFERENCES nowhere(id)",
)
INDEXES = (
    "CREATE INDEX i1 ON email_schedules(status, scheduled_send_date)",
    "CREATE INDEX i1 ON email_schedules(status COLLATE BINARY, scheduled_send_date COLLATE BINARY)",
    "CREATE INDEX i1 ON email_schedules(status COLLATE NOCASE, scheduled_send_date)",
    "CREATE INDEX i1 ON email_schedules(status, scheduled_send_date DESC)",
    (
        "CREATE INDEX i1 ON email_schedules(status, scheduled_send_date) WHERE status = "
        "'pre-scheduled'"
    ),
    (
        "CREATE UNIQUE INDEX i2 ON email_schedules(contact_id, email_type) WHERE status = "
        "'pre-scheduled'"
    ),
    "CREATE UNIQUE INDEX i2 ON email_schedules(contact_id, lower(email_type), scheduled_send_date)",
    "CREATE UNIQUE INDEX i2 ON email_schedules(contact_id, scheduled_send_time)",
    "CREATE UNIQUE INDEX i2 ON email_schedules(contact_id DESC, email_type, scheduled_send_date)",
    "CREATE INDEX i3 ON email_schedules(lower(status), id)",
    "CREATE INDEX i3 ON email_schedules(scheduled_send_date)",
    "CREATE INDEX email_schedules_status_date ON email_schedules(status)",
    "CREATE INDEX email_schedules_key ON email_schedules(contact_id)",
)
#: Triggers that leave the plan as it is, that change it, and that refuse it.
TRIGGERS = (
    (
        "CREATE TRIGGER a AFTER INSERT ON email_schedules BEGIN INSERT INTO audit(what) VALUES "
        "(new.id); END"
    ),
    (
        "CREATE TRIGGER a AFTER DELETE ON email_schedules BEGIN INSERT INTO audit(what) VALUES "
        "(old.id); END"
    ),
    (
        "CREATE TRIGGER a AFTER UPDATE ON email_schedules BEGIN INSERT INTO audit(what) VALUES "
        "(old.id); END"
    ),
    (
        "CREATE TRIGGER m AFTER INSERT ON email_schedules WHEN new.contact_id % 3 = 0 BEGIN "
        "UPDATE email_schedules "
        "SET scheduled_send_date = date(new.scheduled_send_date, '+1 day') WHERE id = new.id; END"
    ),
    (
        "CREATE TRIGGER m AFTER INSERT ON email_schedules WHEN new.contact_id % 3 = 0 BEGIN "
        "DELETE FROM email_schedules "
        "WHERE id = new.id; END"
    ),
    (
        "CREATE TRIGGER m BEFORE INSERT ON email_schedules WHEN new.contact_id % 3 = 0 BEGIN "
        "SELECT "
        "RAISE(IGNORE); END"
    ),
    "CREATE TRIGGER m BEFORE DELETE ON email_schedules BEGIN SELECT RAISE(IGNORE); END",
    (
        "CREATE TRIGGER m AFTER INSERT ON email_schedules BEGIN UPDATE email_schedules SET status "
        "= 'scheduled' "
        "WHERE id = new.id AND new.contact_id % 3 = 0; END"
    ),
    (
        "CREATE TRIGGER r BEFORE INSERT ON email_schedules WHEN new.contact_id % 3 = 0 BEGIN "
        "SELECT "
        "RAISE(ABORT, 'no'); END"
    ),
    "CREATE TRIGGER r BEFORE DELETE ON email_schedules BEGIN SELECT RAISE(FAIL, 'no'); END",
    "CREATE TRIGGER r AFTER INSERT ON email_schedules BEGIN INSERT INTO gone VALUES (1); END",
    "CREATE TRIGGER r AFTER INSERT ON email_schedules BEGIN SELECT no_such_function(1); END",
)
#: Rows that are there: contact, type, date, status; some keys twice.
PRESENT = st.lists(
    st.tuples(
        st.sampled_from([-3, 1, 2, 3, 10, 999]),
        st.sampled_from(["birthday", "aep", "newsletter"]),
        st.sampled_from(["2026-01-05", "2026-12-01", "2027-09-15", ""]),
        st.sampled_from(["pre-scheduled", "skipped", "sent", "scheduled", "failed"]),
    ),
    max_size=6,
)


@dataclass
class Foreign:
    """A table of another program."""

    table: str
    indexes: list[str]
    triggers: list[str]
    rows: list[tuple[int, str, str, str]]

    def script(self) -> str:
        values = "".join(
            "INSERT INTO email_schedules(contact_id, email_type, scheduled_send_date, "
            "scheduled_send_time, status) "
            f"VALUES ({contact}, '{kind}', '{day}', '{number}', '{status}');"
            for number, (contact, kind, day, status) in enumerate(self.rows)
        )
        audit = "CREATE TABLE audit(id INTEGER PRIMARY KEY, what)"
        return ";".join([self.table, audit, *self.indexes, values, *self.triggers])


@st.composite
def foreign_tables(draw: st.DrawFn) -> Foreign:
    strict = draw(st.integers(0, 4)) == 0

    def column(name: str, kinds: tuple[str, ...], wanted: str) -> str:
        strict_kinds = STRICT[wanted] if name == "priority" or wanted == "TEXT" else STRICT_NUMBERS
        kind = draw(st.sampled_from(strict_kinds if strict else kinds))
        null = draw(st.sampled_from(NULLS if name in OPTIONAL else NULLS[2:]))
        return f"{name} {kind}{null}{draw(st.sampled_from(COLLATIONS)) if wanted == 'TEXT' else ''}"

    key = draw(
        st.sampled_from(
            ["INTEGER PRIMARY KEY"] * 8
            + ["INTEGER PRIMARY KEY AUTOINCREMENT", "INTEGER PRIMARY KEY DESC"]
        )
    )
    columns = [f"id {key}", column("contact_id", NUMBERS, "INTEGER")]
    columns += [column(name, TEXTS, "TEXT") for name in REQUIRED]
    for name in draw(st.lists(st.sampled_from(sorted(OPTIONAL)), unique=True, max_size=4)):
        kinds = OPTIONAL[name]
        columns.append(column(name, kinds, "INTEGER" if kinds[0] == "INTEGER" else "TEXT"))
    few: dict[str, Any] = {"unique": True, "max_size": draw(st.sampled_from([0, 1, 1, 2]))}
    extra = draw(
        st.lists(st.sampled_from(EXTRA), unique_by=lambda text: text.split()[0], max_size=2)
    )
    constraints = draw(st.lists(st.sampled_from(CONSTRAINTS), **few))
    options = draw(st.sampled_from([""] * 19 + ["WITHOUT ROWID"]))
    tail = ", ".join(filter(None, ["STRICT" if strict else "", options]))
    return Foreign(
        table=f"CREATE TABLE email_schedules({', '.join([*columns, *extra, *constraints])}) {tail}",
        indexes=draw(
            st.lists(
                st.sampled_from(INDEXES), unique_by=lambda text: text.split(" ON ")[0], max_size=2
            )
        ),
        triggers=draw(
            st.one_of(
                st.just([]),
                st.lists(st.sampled_from(TRIGGERS), unique_by=lambda t: t[:16], max_size=2),
            )
        ),
        rows=draw(PRESENT),
    )


REFUSALS = {ErrorCode.FOREIGN_SCHEMA, ErrorCode.COLUMN_MISSING, ErrorCode.DUPLICATE_KEYS}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Files with contacts and nothing else."""
    folder = tmp_path_factory.mktemp("people")
    return {count: build(folder / f"{count}.db", contacts(count)) for count in (30, 8000)}


def make(source: Path, path: Path, foreign: Foreign) -> bool:
    """Make an organization with a foreign table.

    Return whether SQLite itself takes the table and its rows.
    """
    shutil.copy(source, path)
    try:
        build(path, foreign.script())
    except sqlite3.Error:
        return False
    return True


def everything(path: Path) -> list[object]:
    """Return all rows and the schema of a file."""
    names = [
        row[0]
        for row in select(path, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    ]
    return [
        select(path, "SELECT name, sql FROM sqlite_schema ORDER BY name"),
        *(select(path, f"SELECT * FROM {name}") for name in names),
    ]


def holds(path: Path, foreign: Foreign, scratch: Path) -> None:
    """Run twice and look at what must hold, whatever the table."""

    def run(run_id: str) -> RunResult | None:
        before = everything(path)
        try:
            return run_locally(path, scratch, AS_OF, run_id=run_id)
        except SchedulerError as error:
            assert error.code in REFUSALS, (error.code, error.message)
            assert error.hint
            assert (
                "email_schedules" in f"{error.message} {error.details}"
                or "trigger" in error.message
            )
            assert everything(path) == before
            return None

    sender = sender_rows(path)
    first = run("job-a.1")
    event("refused" if first is None else "planned" + ", with triggers" * bool(foreign.triggers))
    assert is_sound(path)
    if first is None:
        assert run("job-b.1") is None
        return
    assert sees_by_index(path)
    second = run("job-b.1")
    assert is_sound(path)
    if foreign.triggers:
        return
    assert sender_rows(path) == sender
    assert not [warning for warning in first.warnings if warning.code == "trigger_changed_rows"]
    assert len(read_plan(path)) == first.rows_planned
    assert second is not None
    assert (second.rows_inserted, second.rows_updated, second.rows_deleted) == (0, 0, 0)


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(foreign=foreign_tables())
def test_small(people: dict[int, Path], foreign: Foreign) -> None:
    """A run neither crashes nor ends with an internal error.

    Nothing is lost, indexes agree, and a second run changes nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "org.db"
        if make(people[30], path, foreign):
            holds(path, foreign, Path(folder) / "scratch")


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(foreign=foreign_tables())
def test_bulk(people: dict[int, Path], foreign: Foreign) -> None:
    """The same where the plan is large enough to be loaded in bulk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "org.db"
        if make(people[8000], path, foreign):
            holds(path, foreign, Path(folder) / "scratch")
