"""The calendar and dates as columns, against numpy and the standard library."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedd.engine import calendar
from schedd.engine.coercions import contact_date
from schedd.store.blocks import Block

DATES = st.dates(dt.date(1900, 1, 1), dt.date(2200, 12, 31))


def test_calendar_covers_every_day() -> None:
    """Every day from year 1 to 9999 equals numpy's calendar and converts back."""
    days = np.arange(calendar.FIRST, calendar.LAST + 1, dtype=np.int32)
    years, months, day = calendar.parts(days)
    as_date = days.astype("datetime64[D]")
    assert (as_date.astype("datetime64[Y]").astype(int) + 1970 == years).all()
    assert (as_date.astype("datetime64[M]").astype(int) % 12 + 1 == months).all()
    assert (calendar.ordinal_of_parts(years, months, day) == days).all()


@given(DATES, st.integers(1900, 2200))
def test_anniversary(born: dt.date, year: int) -> None:
    """Same month and day; 29 February becomes 28 February in a common year."""
    try:
        expected = born.replace(year=year)
    except ValueError:
        expected = dt.date(year, 2, 28)
    ordinal = np.array([calendar.ordinal(born)], np.int32)
    day = calendar.yearday_in(ordinal, calendar.year_of(ordinal))
    assert calendar.to_date(int(calendar.anniversary(np.array([year]), day)[0])) == expected


@given(st.text(alphabet="0123456789- T", min_size=10, max_size=10))
def test_dates_as_columns_and_alone(text: str) -> None:
    """A date in a block is read as the same text alone is, and as the standard library reads it."""
    column, clean = Block(text.encode(), 1, 10).dates()
    alone, readable = contact_date(text, ["YYYY-MM-DD"])
    invalid = not readable
    try:
        expected = (
            calendar.ordinal(dt.datetime.strptime(text, "%Y-%m-%d").date())
            if "T" not in text
            else None
        )
    except ValueError:
        expected = None
    if (
        expected is not None
        and text.count("-") == 2
        and " " not in text
        and text[4] == text[7] == "-"
    ):
        assert clean[0]
        assert int(column[0]) == alone == expected
        assert not invalid
    else:
        assert not clean[0]


@pytest.mark.parametrize(
    ("value", "ordinal", "invalid"),
    [
        (None, None, False),
        ("", None, False),
        ("   ", None, False),
        ("2024-02-29", dt.date(2024, 2, 29), False),
        ("2023-02-29", None, True),
        ("1948-02-29 10:11", dt.date(1948, 2, 29), False),
        ("1948-02-29T00:00:00", dt.date(1948, 2, 29), False),
        ("1948-02-29x", None, True),
        ("not a date", None, True),
        (19480229, None, True),
        ("0000-01-01", None, True),
        ("२०२४-०१-०१", None, True),
    ],
)
def test_odd_dates(value: object, ordinal: dt.date | None, invalid: bool) -> None:
    """Blank is absent, a time part is ignored, any other text is invalid."""
    expected = int(calendar.NONE) if ordinal is None else calendar.ordinal(ordinal)
    assert contact_date(value, ["YYYY-MM-DD"]) == (expected, not invalid)
