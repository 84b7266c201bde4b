"""Contacts of a file: why they get no e-mail, invalid text, and missing columns."""

from __future__ import annotations

import sqlite3
from datetime import date

import pytest

from tests.reference.configuration import Configuration, configure
from tests.reference.organization import UnusableOrganizationError, read_organization
from tests.reference.plan import plan

AS_OF = date(2026, 11, 23)


def database(script):
    connection = sqlite3.connect(":memory:")
    connection.executescript(script)
    return connection


def read_contacts(
    rows,
    columns="id INTEGER PRIMARY KEY, email, zip_code, status, birth_date, effective_date",
    **contacts,
):
    connection = database(f"CREATE TABLE contacts ({columns})")
    connection.executemany(f"INSERT INTO contacts VALUES ({', '.join('?' * len(rows[0]))})", rows)
    return read_organization(connection, AS_OF, configure({"contacts": contacts}))


def test_the_first_failing_check_is_the_reason():
    """Status before opt-out before address before ZIP.

    An ineligible contact has no issue about its dates.
    """
    columns = (
        "id INTEGER PRIMARY KEY, email, zip_code, status, birth_date, effective_date, "
        "Deceased, deleted_at"
    )
    found = read_contacts(
        [
            (1, "", "", "bounced", "bad", None, 1, None),
            (2, " ", "", "", "bad", None, "yes", None),
            (3, "a", "", None, "bad", None, 0, "2025-01-01"),
            (4, " ", "", "\0", "bad", None, 0, None),
            (5, "a", "", None, "bad", None, None, 0),
            (6, "a@b.org", "", " ACTIVE\n", "bad", None, "no", ""),
            (7, "a@b.org", "00000", None, "bad", None, None, None),
            (8, "a@b.org", "90210", None, "bad", "worse", None, None),
            (9, "a@b.org", "90210", None, "2026-11-24", "2026-11-24", None, None),
            (10, "a@b.org", "90210", None, "2026-11-23", " ", None, None),
        ],
        columns,
    )
    assert found.issues == [
        (1, "suppressed"),
        (2, "opted_out"),
        (3, "opted_out"),
        (4, "missing_email"),
        (5, "invalid_email"),
        (6, "missing_zip"),
        (7, "unknown_zip"),
        (8, "invalid_birth_date"),
        (8, "invalid_effective_date"),
        (9, "invalid_birth_date"),
    ]
    assert [(one.id, one.birth_date, one.effective_date) for one in found.contacts] == [
        (8, None, None),
        (9, None, date(2026, 11, 24)),
        (10, date(2026, 11, 23), None),
    ]
    assert [sorted(one.unreadable) for one in found.contacts] == [
        ["birth_date", "effective_date"],
        ["birth_date"],
        [],
    ]
    assert found.warnings["unreadable_date", "contacts", "birth_date"] == [
        (8, "bad"),
        (9, "2026-11-24"),
    ]


def test_configured_contacts():
    """Active statuses, opt-out columns and formats are the configured ones.

    NULL and blank are always active.
    """
    found = read_contacts(
        [
            (1, "a@b.org", "90210", " VIP", "3/9/1950", None),
            (2, "a@b.org", "90210", "active", "bad", None),
            (3, "a@b.org", "90210", " ", "1950-03-09", "yes"),
        ],
        active_statuses=["vip"],
        opt_out_columns=["Effective_Date", "no_such_column"],
        date_formats=["MM/DD/YYYY"],
    )
    assert found.issues == [(2, "suppressed"), (3, "opted_out")]
    assert found.contacts[0].birth_date == date(1950, 3, 9)


def test_invalid_utf8_is_read():
    """A byte that is not UTF-8 affects one value, not the file.

    A BLOB is not taken for text of the same bytes.
    """
    connection = database(
        "CREATE TABLE contacts (id INTEGER PRIMARY KEY, email, zip_code, carrier, "
        "failed_underwriting);"
        "INSERT INTO contacts VALUES (1, CAST(x'61ff40622e6f7267' AS TEXT), '90210', NULL, 0);"
        "INSERT INTO contacts VALUES (2, 'a@b.org', '90210', CAST(x'20ff41' AS TEXT), 'unknown');"
        "CREATE TABLE email_schedules (id INTEGER PRIMARY KEY, contact_id, email_type, "
        "scheduled_send_date, status);"
        "INSERT INTO email_schedules VALUES (1, '2', 'x', '2026-11-01', 'skipped'), (2, 2, 'x', "
        "1793520000, x'736b6970706564'),"
        "(3, 'two', 'x', 'y', 'sent');"
    )
    found = read_organization(connection, AS_OF, Configuration())
    assert found.issues == [(1, "invalid_email")]
    assert [(one.carrier, one.failed_underwriting) for one in found.contacts] == [("\ufffda", True)]
    # The first row is of the current plan; the BLOB `skipped` is not, and so is an unknown status.
    assert [(row.id, row.status, row.day) for row in found.history[2]] == [
        (2, "skipped", date(2026, 11, 1))
    ]
    assert [row.id for row in found.history[None]] == [3]
    assert found.warnings["unreadable_contact_id", "email_schedules", "contact_id"] == [(3, "two")]
    assert found.warnings["unknown_status", "email_schedules", "status"] == [(2, b"skipped")]


def test_only_existing_columns_are_used():
    """With nothing but the required columns there is an aep email and no warning."""
    found = plan(
        database(
            "CREATE TABLE contacts (id INTEGER PRIMARY KEY, email, zip_code); "
            "INSERT INTO contacts VALUES (1, 'a@b.org', '73301')"
        ),
        AS_OF,
    )
    assert [(row.email_type, row.scheduled_send_date) for row in found.rows] == [
        ("aep", "2027-09-15")
    ]
    assert not found.warnings


@pytest.mark.parametrize(
    "script", ["CREATE TABLE other (id)", "CREATE TABLE contacts (id INTEGER PRIMARY KEY, email)"]
)
def test_required_tables_and_columns(script):
    """Without `contacts`, or one of its required columns, there is no plan."""
    with pytest.raises(UnusableOrganizationError):
        plan(database(script), AS_OF)
