"""Dates as columns: ordinals, years, anniversaries.

An *ordinal* is the number of days since 1970-01-01 (int32). `NONE` stands for an absent date. A
*yearday* is the index of a month and day in a leap year, 0 (1 January) to 365 (31 December); 29
February is 59.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ordinals = NDArray[np.int32]
AnyInts = NDArray[Any]

#: An absent date; smaller than every real one.
NONE = np.int32(-(2**31))

EPOCH = dt.date(1970, 1, 1).toordinal()
#: The first and last ordinals a date can have: 0001-01-01 and 9999-12-31.
FIRST = 1 - EPOCH
LAST = dt.date(9999, 12, 31).toordinal() - EPOCH

LEAP_DAY = 59
_MONTH_LENGTHS = np.array([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
#: yearday of the first of each month, by month 0..11
MONTH_START = np.concatenate([[0], np.cumsum(_MONTH_LENGTHS)[:-1]]).astype(np.int32)
#: month 0..11 and day 0..30 of each yearday
YEARDAY_MONTH = np.repeat(np.arange(12), _MONTH_LENGTHS).astype(np.int32)
YEARDAY_DAY = (np.arange(366) - MONTH_START[YEARDAY_MONTH]).astype(np.int32)

_YEARS = np.arange(0, 10001)
LEAP = ((_YEARS % 4 == 0) & ((_YEARS % 100 != 0) | (_YEARS % 400 == 0))).astype(np.int32)
#: ordinal of 1 January of each year 0..10000 (year 0 and 10000 only as bounds)
JANUARY_1 = (np.concatenate([[0], np.cumsum(365 + LEAP)[:-1]]) - 366 + FIRST).astype(np.int32)


def ordinal(day: dt.date) -> int:
    """Return the ordinal of a date."""
    return day.toordinal() - EPOCH


def to_date(value: int) -> dt.date:
    """Return the date of an ordinal.

    Raises `OverflowError` or `ValueError` outside the years 1 to 9999.
    """
    return dt.date.fromordinal(int(value) + EPOCH)


def iso(value: int) -> str:
    """Return `YYYY-MM-DD`."""
    return to_date(value).isoformat()


def year_of(ordinals: AnyInts) -> NDArray[np.int32]:
    """Return the year of each ordinal (1..9999)."""
    estimate = ((ordinals.astype(np.int64) - FIRST) * 400 // 146097 + 1).astype(np.int32)
    # The estimate by mean year length is off by at most one.
    estimate += JANUARY_1[np.clip(estimate + 1, 0, 10000)] <= ordinals
    estimate -= JANUARY_1[np.clip(estimate, 0, 10000)] > ordinals
    return estimate


def parts(ordinals: AnyInts) -> tuple[AnyInts, AnyInts, AnyInts]:
    """Return year, month (1..12) and day (1..31) of each ordinal."""
    years = year_of(ordinals)
    yeardays = yearday_in(ordinals, years)
    return years, YEARDAY_MONTH[yeardays] + 1, YEARDAY_DAY[yeardays] + 1


def yearday_in(ordinals: AnyInts, years: AnyInts) -> NDArray[np.int32]:
    """Return the yearday of each ordinal, given its year."""
    days = (ordinals - JANUARY_1[years]).astype(np.int32)
    result: NDArray[np.int32] = days + ((days >= LEAP_DAY) & (LEAP[years] == 0)).astype(np.int32)
    return result


def anniversary(years: AnyInts, yeardays: AnyInts) -> Ordinals:
    """Return the day of each yearday in each year.

    29 February is 28 February in a common year (section 1).
    """
    days: Ordinals = JANUARY_1[years] + yeardays - ((yeardays >= LEAP_DAY) & (LEAP[years] == 0))
    return days.astype(np.int32)


def ordinal_of_parts(years: AnyInts, months: AnyInts, days: AnyInts) -> Ordinals:
    """Return the ordinal of each date of parts (month 1..12), `NONE` if there is no such day."""
    real = (years >= 1) & (years <= 9999) & (months >= 1) & (months <= 12) & (days >= 1)
    years, months = np.where(real, years, 2000), np.where(real, months, 1)
    lengths = _MONTH_LENGTHS[months - 1] - ((months == 2) & (LEAP[years] == 0))
    real &= days <= lengths
    yeardays = MONTH_START[months - 1] + np.where(real, days, 1) - 1
    return np.where(real, anniversary(years, yeardays), NONE)
