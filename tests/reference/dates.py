"""Days and anniversaries (rules, section 1). Knows no email type."""

from __future__ import annotations

from datetime import date, timedelta

_EPOCH = date(1970, 1, 1).toordinal()
_LAST = date.max.toordinal()


def ordinal(day: date) -> int:
    """Return the number of days since 1970-01-01."""
    return day.toordinal() - _EPOCH


def shift(day: date, days: int) -> date:
    """Return the date this many days later, limited to the days of the calendar."""
    return date.fromordinal(min(max(day.toordinal() + days, 1), _LAST))


def beyond_calendar(day: date, days: int) -> bool:
    """Return whether the date this many days later has more than a four-digit year."""
    return day.toordinal() + days > _LAST


def days_of_year(month: int, day: int, year: int) -> date:
    """Return month and day in a year; 29 February becomes 28 February in a common year."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if (month, day) == (2, 29) and not leap:
        return date(year, 2, 28)
    return date(year, month, day)


def anniversary(of: date, year: int) -> date:
    """Return the anniversary of a date in a year."""
    return days_of_year(of.month, of.day, year)


def next_anniversary(of: date, as_of: date) -> date:
    """Return the first anniversary on or after `as_of`."""
    this_year = anniversary(of, as_of.year)
    return this_year if this_year >= as_of else anniversary(of, as_of.year + 1)


def every_day(first: date, last: date) -> list[date]:
    """Return all days from first to last, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
