"""Schemas of other programs: a table that cannot take the plan is refused by name.

Anything else is planned.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from schedproto import ErrorCode
from tests.cases.runs import refused, scheduled

#: Case -> the error's code, and what its message names.
REFUSED: dict[str, tuple[ErrorCode, tuple[str, ...]]] = {
    "check_status": (ErrorCode.FOREIGN_SCHEMA, ("email_schedules", "CHECK", "'skipped'")),
    "contacts_function_index": (ErrorCode.FOREIGN_SCHEMA, ("contacts.email", "fold")),
    "contacts_view": (ErrorCode.FOREIGN_SCHEMA, ("contacts", "view")),
    "custom_collation": (ErrorCode.FOREIGN_SCHEMA, ("email_schedules.email_type", "UNICODE_CI")),
    "ecto": (ErrorCode.FOREIGN_SCHEMA, ("email_schedules.inserted_at", "NOT NULL")),
    "excel_headers": (ErrorCode.COLUMN_MISSING, ("contacts", "zip_code")),
    "function_index": (ErrorCode.FOREIGN_SCHEMA, ("email_schedules", "index ef", "fold")),
    "int_pk_text_ids": (ErrorCode.FOREIGN_SCHEMA, ("contacts", "'L-002'")),
    "malformed_schema": (ErrorCode.FOREIGN_SCHEMA, ("shopping",)),
    "missing_id_column": (ErrorCode.COLUMN_MISSING, ("email_schedules", "id")),
    "on_conflict_replace": (ErrorCode.FOREIGN_SCHEMA, ("email_schedules", "ON CONFLICT REPLACE")),
    "pk_desc": (ErrorCode.FOREIGN_SCHEMA, ("contacts", "id", "NULL")),
    "schedules_natural_key": (ErrorCode.COLUMN_MISSING, ("email_schedules", "id")),
    "schedules_view": (ErrorCode.FOREIGN_SCHEMA, ("email_schedules", "view")),
    "schedules_without_rowid": (ErrorCode.FOREIGN_SCHEMA, ("email_schedules", "WITHOUT ROWID")),
    "strict_rows": (ErrorCode.FOREIGN_SCHEMA, ("email_schedules.created_at", "INTEGER")),
    "unique_other": (ErrorCode.FOREIGN_SCHEMA, ("email_schedules", "event_year")),
    "uuid_contacts": (ErrorCode.FOREIGN_SCHEMA, ("contacts", "id", "6f1c2f1e")),
    "uuid_rows": (ErrorCode.FOREIGN_SCHEMA, ("email_schedules.id", "TEXT")),
    "uuid_rows_nullable": (ErrorCode.FOREIGN_SCHEMA, ("email_schedules.id", "TEXT")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    """The file is refused before the first write; the error names the cause."""
    code, named = REFUSED[name]
    error = refused(name, tmp_path)
    assert error.code == code
    for part in named:
        assert part in error.message
    assert "fault of the scheduler" not in error.hint
    assert "backup" not in error.hint or name == "malformed_schema"


def test_check_that_no_row_breaks(tmp_path: Path) -> None:
    """A CHECK that takes both statuses takes the plan."""
    change = "UPDATE contacts SET zip_code = '75001'"
    assert refused("check_status", tmp_path / "plain", change).code == ErrorCode.FOREIGN_SCHEMA
    wider = (
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'sent', "
        "'skipped'',''sent')"
    )
    outcome = scheduled("check_status", tmp_path / "wider", wider)
    assert outcome.rows[1, "birthday"] == [("2026-12-06", "exclusion:NY:year_round")]


def test_key_in_descending_order(tmp_path: Path) -> None:
    """INTEGER PRIMARY KEY DESC, which is not the row id.

    Each contact is planned with its own data.
    """
    outcome = scheduled("pk_desc_dense", tmp_path)
    assert outcome.issues == [(2, "suppressed"), (4, "suppressed")]
    assert outcome.dates("birthday") == {1: "2026-12-06", 3: "2027-02-06"}


def test_key_in_descending_order_with_gaps(tmp_path: Path) -> None:
    """The same with gaps between the ids."""
    outcome = scheduled("pk_desc", tmp_path, "DELETE FROM contacts WHERE id IS NULL")
    assert outcome.dates("birthday") == {5: "2026-12-06", 9: "2027-01-06"}


def test_bigint_key(tmp_path: Path) -> None:
    """id BIGINT PRIMARY KEY, which is not the row id."""
    more = (
        "INSERT INTO contacts SELECT 12 - id, 'b@example.org', '75001', '1956-01-20' FROM contacts"
    )
    outcome = scheduled("bigint_pk", tmp_path, more)
    assert outcome.dates("birthday") == {1: "2026-12-06", 11: "2027-01-06"}


def test_contacts_without_rowid(tmp_path: Path) -> None:
    """STRICT and WITHOUT ROWID contacts with negative ids and 0."""
    outcome = scheduled("contacts_without_rowid", tmp_path)
    assert outcome.dates("birthday") == {-9: "2027-01-06", 0: "2027-02-06", 5: "2026-12-06"}


def test_collation_nocase(tmp_path: Path) -> None:
    """Columns that compare without case, with the key of their own."""
    outcome = scheduled("nocase_status", tmp_path)
    assert outcome.dates("birthday") == {1: "2026-12-06", 2: "2027-01-06"}


def test_numbers_in_text_columns(tmp_path: Path) -> None:
    """A plan in text columns settles: no row is written again."""
    outcome = scheduled("text_event_columns", tmp_path)
    assert outcome.dates("birthday") == {1: "2026-12-06", 2: "2027-01-06"}


def test_covering_index(tmp_path: Path) -> None:
    """An index that covers what is read of the contacts does not change their order."""
    outcome = scheduled("covering_index", tmp_path)
    assert outcome.result.contacts_eligible == 3000


def test_foreign_keys(tmp_path: Path) -> None:
    """Rows of the application that refer to a planned row with ON DELETE CASCADE stay."""
    outcome = scheduled("fk_cascade", tmp_path)
    assert outcome.dates("birthday") == {1: "2026-12-06"}


@pytest.mark.parametrize("name", ["libsql_vector", "missing_module"])
def test_objects_that_are_not_used(name: str, tmp_path: Path) -> None:
    """Unusable indexes and virtual tables that a run does not need are ignored."""
    outcome = scheduled(name, tmp_path)
    assert outcome.dates("birthday") == {1: "2026-12-06"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "vacuum", "encoding"),
    [
        (512, "FULL", "UTF-8"),
        (4096, "NONE", "UTF-8"),
        (65536, "INCREMENTAL", "UTF-8"),
        (4096, "FULL", "UTF-16le"),
        (1024, "NONE", "UTF-16be"),
    ],
)
def test_many_rows(
    page: int, vacuum: str, encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """25,000 contacts, whatever page size, automatic vacuum and encoding the file has."""
    monkeypatch.setenv("PAGE", str(page))
    monkeypatch.setenv("AV", vacuum)
    monkeypatch.setenv("ENC", encoding)
    # The reference takes its time; the plan is the same whatever the pages.
    outcome = scheduled("bulk_variants", tmp_path, against_reference=encoding == "UTF-16le")
    assert outcome.result.rows_inserted == outcome.result.rows_planned == 74_866
