"""Readings of odd values: one table a kind, each line a reading that the engine must share."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import values
from tests.reference.contacts import contact_date, email_problem, normal_zip, opted_out
from tests.reference.organization import has_yes
from tests.reference.states import state_codes, zip_states
from tests.reference.targets import listed_carriers, listed_states
from tests.reference.values import UnreadableError

AS_OF = date(2026, 11, 23)
CHICAGO = ZoneInfo("America/Chicago")
UNREADABLE = "unreadable"


def reading(reader, *arguments):
    """Return what a reader returns, or that it cannot read the value."""
    try:
        return reader(*arguments)
    except UnreadableError:
        return UNREADABLE


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(
            (f"{before}x y{after}", "x y")
            for before in ("", " ", "\t\n", "\0", "\ufeff")
            for after in ("", "\u200b", "\xa0")
        ),
        *((value, "") for value in ("", " ", "\0\ufeff \u200b\u2003", None, b"")),
        (5, "5"),
        (2.0, "2.0"),
        (b" \xffx ", "\ufffdx"),
    ],
)
def test_trimming(value, expected):
    """White space of any kind, NUL, U+FEFF and U+200B are removed at both ends.

    Invalid UTF-8 is replaced.
    """
    assert values.trimmed(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(
            (value, date(1948, 2, 29))
            for value in ("1948-02-29", "1948-02-29 10:11", "1948-02-29T", b"1948-02-29")
        ),
        *(
            (value, date(1948, 2, 29))
            for value in (" 1948-02-29", "1948-02-29\n", "1948-02-29T10:11:12Z")
        ),
        ("0001-01-01", date(1, 1, 1)),
        ("9999-12-31", date(9999, 12, 31)),
        # 2026-11-24 03:00 UTC is the evening before in Chicago.
        *(
            (value, date(2026, 11, 23))
            for value in (1795489200, "1795489200", 1795489200.9, " 1795489200000 ")
        ),
        *((value, date(2026, 11, 23)) for value in (1795489200000, 1795489200999.0)),
        (10**8, date(1973, 3, 3)),
        (10**11 - 1, date(5138, 11, 16)),
        (10**11, date(1973, 3, 3)),
        *((value, None) for value in (None, "", " ", "\0", b"")),
        *(
            (value, UNREADABLE)
            for value in (10**8 - 1, 10**14, -1795489200, 0, 2.5, 1948, "20261123", "99999999")
        ),
        *(
            (value, UNREADABLE)
            for value in ("1948-02-29x", "1949-02-29", "1900-02-29", "0000-01-01", "1948-2-29")
        ),
        *(
            (value, UNREADABLE)
            for value in ("1948-00-10", "12/01/2026", "١٩٤٨-02-28", "soon", b"\xff", "1e9")
        ),
    ],
)
def test_dates(value, expected):
    """YYYY-MM-DD with a time part ignored, or unix seconds or milliseconds in the time zone."""
    assert reading(values.day, value, CHICAGO) == expected


@given(st.dates(), st.sampled_from(["", " ", "T", "T23:59:59Z", " 00:00"]))
def test_every_date_is_read(day, time_part):
    """Whatever the date and the time part, the date comes back."""
    assert values.day(day.isoformat() + time_part, CHICAGO) == day


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(
            (value, True)
            for value in (1, 2, -1, 0.5, "1", "true", "TRUE", "t", "yes", "Y", " on\0", b"true")
        ),
        *((value, False) for value in (0, 0.0, "0", "false", "F", "No", "n", "off", "", " ", b"")),
        *((value, UNREADABLE) for value in ("maybe", "2", "1.0", "0.0", b"\x01", "yes!")),
        (None, None),
    ],
)
def test_booleans(value, expected):
    """A number but 0 is true, a few words are read, blank is false; anything else is unreadable."""
    assert reading(values.boolean, value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, 7) for value in (7, 7.0, "7", " +7\n", "007", b"7")),
        *((value, -7) for value in (-7, " -7 ")),
        *(
            (value, UNREADABLE)
            for value in ("", "seven", 7.5, "7.5", "7.0", "7x", "+", b"\xff", 1e300, "9" * 20)
        ),
        (2**63 - 1, 2**63 - 1),
        (None, None),
    ],
)
def test_integers(value, expected):
    """An INTEGER, a REAL without a fraction, or a sign and digits, of 64 bits."""
    assert reading(values.integer, value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(
            (value, "90210")
            for value in ("90210", " 90210\t", "90210-1234", "90210 1234", 90210, 90210.0, b"90210")
        ),
        *(
            (value, "00501")
            for value in (501, "501", "00501", "501.0", 501.0, "'501", '="501"', "\ufeff501\0")
        ),
        *(
            (value, "02139")
            for value in ("'02139", '="02139"', "021391234", 21391234, "21391234.0")
        ),
        (0, "00000"),
        *(
            (value, None)
            for value in (
                "90210-12",
                "90210-",
                "90210-12345",
                "90210  1234",
                "9021O",
                "٩٠٢١٠",
                "'",
                "=",
            )
        ),
        *(
            (value, None)
            for value in (
                -501,
                123456,
                "1234567",
                "0213912345",
                90210.5,
                "90210.00",
                b"\xff",
                "",
                None,
            )
        ),
    ],
)
def test_zips(value, expected):
    """One to five, eight or nine digits, padded on the left, however a spreadsheet wrote them."""
    assert normal_zip(value) == expected


GOOD_ADDRESSES = (
    *(
        "a@b.org",
        " a@b.org\0",
        "\ufeffa@b.org\u200b",
        "a@b.c.org",
        "o'x@b.org",
        "a.b+c@b-c.org",
        "jörg@exämple.org",
    ),
    *(
        "a" * 64 + "@b.org",
        "a@" + "b" * 63 + ".org",
        "a@123.x1",
        "a@b.org\n",
        b"a@b.org",
        "a@" + "b." * 124 + "org",
    ),
)
BAD_ADDRESSES = (
    *(
        "a",
        "@b.org",
        "a@",
        "a@b",
        "a@.org",
        "a@org.",
        "a@@b.org",
        "a@.",
        "a b@c.org",
        "a@b.o rg",
        "a@b@c.org",
        5,
    ),
    *(
        "in\nner@b.org",
        "a@b..org",
        "a@.b.org",
        "a..b@c.org",
        ".a@b.org",
        "a.@b.org",
        "a@-b.org",
        "a@b-.org",
        b"\xff@b.c",
    ),
    *(
        "a@b_c.org",
        "a@b.123",
        "a@b.१२",
        "<a@b.org>",
        "a@b.org;",
        "mailto:a@b.org",
        "a" * 65 + "@b.org",
    ),
    *("a@" + "b" * 64 + ".org", "a@" + "b." * 125 + "org", "a(b)@c.org", "😀@b.org"),
)


@pytest.mark.parametrize("value", GOOD_ADDRESSES)
def test_good_addresses(value):
    """Letters and digits of any script, the signs of a local part, labels of a domain."""
    assert email_problem(value) is None


@pytest.mark.parametrize("value", BAD_ADDRESSES)
def test_bad_addresses(value):
    """An address of another form is invalid."""
    assert email_problem(value) == "invalid_email"


@pytest.mark.parametrize("value", [None, "", " \t\n", "\0", b""])
def test_missing_addresses(value):
    """NULL and blank are missing."""
    assert email_problem(value) == "missing_email"


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        *(
            ("deleted_at", value, True)
            for value in ("2025-01-01", 1730000000, "never", "no", 1, b"x", -1)
        ),
        *(("deleted_at", value, False) for value in (None, "", " \0", 0, 0.0, "0", " 0 ", b"0")),
        *(
            ("deceased", value, True)
            for value in (1, 2, "yes", "TRUE", " y ", "maybe", "2025-01-01", b"\xff")
        ),
        *(("deceased", value, False) for value in (None, 0, 0.0, "", " ", "no", "0", "off")),
    ],
)
def test_opt_out(column, value, expected):
    """A time says so unless it is NULL, blank or 0; a boolean if it is true or unreadable."""
    assert opted_out(column, value) is expected


ALL_FORMATS = (
    "YYYY-MM-DD",
    "YYYY/MM/DD",
    "YYYYMMDD",
    "MM/DD/YYYY",
    "MM-DD-YYYY",
    "MMDDYYYY",
    "DD/MM/YYYY",
    "DD.MM.YYYY",
)


@pytest.mark.parametrize(
    ("value", "formats", "expected"),
    [
        *(
            (value, ALL_FORMATS, date(1950, 3, 9))
            for value in ("1950-03-09", "1950/3/9", "19500309", "03/09/1950")
        ),
        *(
            (value, ALL_FORMATS, date(1950, 3, 9))
            for value in ("3/9/1950", "03-09-1950", "03091950", "9.3.1950")
        ),
        *(
            (value, ALL_FORMATS, date(1950, 3, 9))
            for value in (3091950, 19500309, " 3/9/1950 12:30", "03091950T", b"3/9/1950")
        ),
        ("13/12/1950", ALL_FORMATS, date(1950, 12, 13)),
        ("3/9/1950", ("DD/MM/YYYY", "MM/DD/YYYY"), date(1950, 9, 3)),
        ("12101946", ("YYYYMMDD", "MMDDYYYY"), date(1946, 12, 10)),
        ("20101112", ("YYYYMMDD", "MMDDYYYY"), date(2010, 11, 12)),
        ("10112012", ("MMDDYYYY",), date(2012, 10, 11)),
        *((value, ALL_FORMATS, None) for value in (None, "", " ", "\0", b"")),
        *(
            (value, ALL_FORMATS, UNREADABLE)
            for value in ("3-9-1950", "1950-3-9", "3091950", "3/9/50", "31/31/1950")
        ),
        *(
            (value, ALL_FORMATS, UNREADABLE)
            for value in (19500309.0, 0, -3091950, 1700000000, "0000-01-01", b"\xff")
        ),
        *(
            (value, ("YYYY-MM-DD",), UNREADABLE)
            for value in ("03/09/1950", "1950-02-30", 19500309, "1950-03-09x")
        ),
    ],
)
def test_contact_dates(value, formats, expected):
    """The first of the configured formats that gives a real date counts."""
    assert reading(contact_date, value, formats) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, None) for value in (None, "", " \0", "ALL", " all ", b"All")),
        *(
            (value, {"CA", "NY"})
            for value in (
                "CA,NY",
                " ny ; ca,",
                '["ca", "New York"]',
                "california,new york",
                b"CA;NY",
            )
        ),
        ("[]", set()),
        (", ;", set()),
        *(
            (value, UNREADABLE)
            for value in ("ZZ", "CA,ZZ", "CA NY", '["CA", 5]', '["CA"', "CA,ALL", 7, b"\xff")
        ),
    ],
)
def test_target_states(value, expected):
    """Codes or English names, with commas or semicolons or in a JSON array.

    Anything else is unreadable.
    """
    assert reading(listed_states, value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((value, None) for value in (None, "", " ", "ALL", "all")),
        *((value, {"aetna", "uhc"}) for value in ("Aetna, UHC", "aetna;uhc ", '["AETNA", " uhc"]')),
        (7, {"7"}),
        ('["Aetna"', {'["aetna"'}),
    ],
)
def test_target_carriers(value, expected):
    """Carriers in the same forms, each as it is."""
    assert listed_carriers(value) == expected


def test_every_state_has_a_code():
    """All states of the ZIP table are known by code, and all but the military ones by name."""
    codes = set(zip_states().values())
    assert codes <= set(state_codes().values())
    assert codes - {state_codes()[name] for name in state_codes() if len(name) > 2} == {
        "AA",
        "AE",
        "AP",
    }


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ('{"has_medical_conditions": true}', True),
        (b'{"has_medical_conditions": true}', True),
        ('{"main_questions_yes_count": 1}', True),
        ('{"main_questions_yes_count": 0.5}', True),
        ('{"has_medical_conditions": false, "main_questions_yes_count": 2}', True),
        ('{"has_medical_conditions": false, "main_questions_yes_count": 0}', False),
        ('{"has_medical_conditions": "true"}', False),
        ('{"main_questions_yes_count": -1}', False),
        *(
            (value, False)
            for value in (None, "", "not json", "[]", "true", '"x"', "[true]", '{"has_')
        ),
    ],
)
def test_metadata(metadata, expected):
    """A yes is `true`, or a count above 0, in a JSON object; anything else has none."""
    assert has_yes(metadata) is expected
