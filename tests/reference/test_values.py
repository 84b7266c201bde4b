"""What odd values count as: one table a kind, each line a reading that the engine must share."""

from __future__ import annotations

import sqlite3
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import values
from reference.organization import UnusableOrganizationError, email_problem, has_yes, normal_zip, read_organization
from reference.plan import plan

AS_OF = date(2026, 11, 23)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1948-02-29", date(1948, 2, 29)),
        ("1948-02-29 10:11", date(1948, 2, 29)),
        ("1948-02-29T10:11:12Z", date(1948, 2, 29)),
        ("1948-02-29T", date(1948, 2, 29)),
        ("1948-02-29 ", date(1948, 2, 29)),
        ("0001-01-01", date(1, 1, 1)),
        ("9999-12-31", date(9999, 12, 31)),
        (" 1948-02-29", None),
        ("1948-02-29x", None),
        ("1949-02-29", None),
        ("1900-02-29", None),
        ("0000-01-01", None),
        ("1948-2-29", None),
        ("1948-00-10", None),
        ("19480229", None),
        ("١٩٤٨-02-28", None),
        ("", None),
        (None, None),
        (1948, None),
        (2.5, None),
        (b"1948-02-29", None),
    ],
)
def test_dates(value, expected):
    """A date is YYYY-MM-DD and real; a time part after T or a space is left aside."""
    assert values.day(value) == expected


@given(st.dates(), st.sampled_from(["", " ", "T", "T23:59:59Z", " 00:00"]))
def test_every_date_is_read(day, time_part):
    """Whatever the date and the time part, the date comes back."""
    assert values.day(day.isoformat() + time_part) == day


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, True) for value in (1, 2, -1, 0.5, "1", "true", "TRUE", "yes", "Y", " on ", "1.0")),
        *((value, False) for value in (0, 0.0, "0", "false", "No", "off", "0.0")),
        *((value, None) for value in (None, "", "maybe", b"\x01", float("inf"))),
    ],
)
def test_truths(value, expected):
    """A number but 0 is true, words are read; what is neither takes the default, whichever it is."""
    for default in (False, True):
        assert values.truth(value, default=default) == (default if expected is None else expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, 7), (-7, -7), (7.0, 7), ("7", 7), (" -7 ", -7), ("7.0", 7)]
    + [(value, 10) for value in (None, "", "seven", 7.5, "7.5", b"7", float("nan"))],
)
def test_whole_numbers(value, expected):
    """A number without a fraction, stored as number or text; else the default."""
    assert values.whole_number(value, 10) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("90210", "90210"),
        (" 90210\t", "90210"),
        ("90210-1234", "90210"),
        (501, "00501"),
        (90210, "90210"),
        (0, "00000"),
        *((value, None) for value in ("501", "90210-12", "90210-", "902101234", "90210 1234", "9021O", "٩٠٢١٠")),
        *((value, None) for value in (-501, 123456, 90210.0, b"\xff", "", None)),
    ],
)
def test_zips(value, expected):
    """Five digits, with four more after a hyphen; only a whole number is padded."""
    assert normal_zip(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, None) for value in ("a@b.org", " a@b.org ", "a@b.c.org", "a@b..org", "a@.b.org", "o'x@b.org")),
        *((value, "missing_email") for value in (None, "", " \t\n")),
        *((value, "invalid_email") for value in ("a", "@b.org", "a@", "a@b", "a@.org", "a@org.", "a@@b.org", "a@.")),
        *((value, "invalid_email") for value in ("a b@c.org", "a@b.o rg", "a@b@c.org", "in\nner@b.org", 5, b"\xff")),
    ],
)
def test_addresses(value, expected):
    """One @, something before it, a dot inside what follows, no white space within."""
    assert email_problem(value) == expected


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ('{"has_medical_conditions": true}', True),
        ('{"main_questions_yes_count": 1}', True),
        ('{"main_questions_yes_count": 0.5}', True),
        ('{"has_medical_conditions": false, "main_questions_yes_count": 2}', True),
        ('{"has_medical_conditions": false, "main_questions_yes_count": 0}', False),
        ('{"has_medical_conditions": "true"}', False),
        ('{"main_questions_yes_count": -1}', False),
        *((value, False) for value in (None, "", "not json", "[]", "true", '"x"', "[true]", '{"has_')),
    ],
)
def test_metadata(metadata, expected):
    """A yes is `true`, or a count above 0, in a JSON object; what is no such object has none."""
    assert has_yes(metadata) is expected


def database(script):
    connection = sqlite3.connect(":memory:")
    connection.executescript(script)
    return connection


def issues(rows, columns="id INTEGER PRIMARY KEY, email, zip_code, status, birth_date, effective_date"):
    connection = database(f"CREATE TABLE contacts ({columns})")
    connection.executemany(f"INSERT INTO contacts VALUES ({', '.join('?' * len(rows[0]))})", rows)
    return read_organization(connection, AS_OF)


def test_the_first_failing_check_is_the_reason():
    """Status comes before address before ZIP; an ineligible contact has no issue about its dates."""
    found = issues(
        [
            (1, "", "", "bounced", "bad", None),
            (2, " ", "", "", "bad", None),
            (3, "a", "", None, "bad", None),
            (4, "a@b.org", "", "ACTIVE", "bad", None),
            (5, "a@b.org", "00000", None, "bad", None),
            (6, "a@b.org", "90210", None, "bad", "worse"),
            (7, "a@b.org", "90210", None, "2026-11-24", "2026-11-24"),
            (8, "a@b.org", "90210", None, "2026-11-23", " "),
        ]
    )
    assert found.issues == [
        (1, "suppressed"),
        (2, "missing_email"),
        (3, "invalid_email"),
        (4, "missing_zip"),
        (5, "unknown_zip"),
        (6, "invalid_birth_date"),
        (6, "invalid_effective_date"),
        (7, "invalid_birth_date"),
    ]
    assert [(one.id, one.birth_date, one.effective_date) for one in found.contacts] == [
        (6, None, None),
        (7, None, date(2026, 11, 24)),
        (8, date(2026, 11, 23), None),
    ]


def test_only_what_is_there_is_used():
    """With nothing but the required columns there is an aep email and no complaint."""
    found = plan(
        database(
            "CREATE TABLE contacts (id INTEGER PRIMARY KEY, email, zip_code); "
            "INSERT INTO contacts VALUES (1, 'a@b.org', '73301')"
        ),
        AS_OF,
    )
    assert [(row.email_type, row.scheduled_send_date) for row in found.rows] == [("aep", "2027-09-15")]


@pytest.mark.parametrize("script", ["CREATE TABLE other (id)", "CREATE TABLE contacts (id INTEGER PRIMARY KEY, email)"])
def test_required_tables_and_columns(script):
    """Without `contacts`, or one of its required columns, there is no plan."""
    with pytest.raises(UnusableOrganizationError):
        plan(database(script), AS_OF)
