"""Reading of odd SQLite values: text, integer, boolean, date (rules, section 0).

Each reader returns None for an absent value and raises `UnreadableError` for one that is there and
cannot be read. Knows no table. A TEXT value arrives as `str` (invalid UTF-8 replaced), a BLOB as
`bytes`.
"""

from __future__ import annotations

import math
import re
from datetime import date, datetime
from zoneinfo import ZoneInfo

#: A value of one column of one row.
Value = None | int | float | str | bytes

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?")
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ].*)?", re.DOTALL)
_TRUE = {"1", "true", "t", "yes", "y", "on"}
_FALSE = {"0", "false", "f", "no", "n", "off", ""}
_ALSO_TRIMMED = "\0\ufeff\u200b"
_INTEGERS = range(-(2**63), 2**63)


class UnreadableError(ValueError):
    """A value that is there and does not say what its column is for."""


def text(value: Value) -> str | None:
    """Return the value as text; invalid UTF-8 of a BLOB is replaced by U+FFFD."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def trim(content: str) -> str:
    """Return the text without white space, NUL, U+FEFF and U+200B at its ends."""
    first, last = 0, len(content)
    while first < last and _trimmed_character(content[first]):
        first += 1
    while last > first and _trimmed_character(content[last - 1]):
        last -= 1
    return content[first:last]


def _trimmed_character(character: str) -> bool:
    return character.isspace() or character in _ALSO_TRIMMED


def trimmed(value: Value) -> str:
    """Return the value as trimmed text; NULL is an empty one."""
    return trim(text(value) or "")


def word(value: Value) -> str:
    """Return the value as trimmed text in lower case, for comparisons; NULL is an empty one."""
    return trimmed(value).lower()


def blank(value: Value) -> bool:
    """Return whether the value is NULL or text of nothing but what trimming removes."""
    return trimmed(value) == ""


def integer(value: Value) -> int | None:
    """Return an integer: INTEGER, REAL without a fraction, or text of a sign and digits."""
    if value is None:
        return None
    if isinstance(value, float):
        found = int(value) if math.isfinite(value) and value == int(value) else None
    elif isinstance(value, int):
        found = value
    else:
        content = trimmed(value)
        found = _number(content) if _INTEGER.fullmatch(content) else None
    if found is None or found not in _INTEGERS:
        raise UnreadableError(value)
    return found


def _number(digits: str) -> int:
    """Return the number of a text of digits; a constant beyond 64 bits if it is too long."""
    return int(digits) if len(digits) < 4000 else 10**30


def boolean(value: Value) -> bool | None:
    """Return whether a number is not 0, or what a text such as `yes` or `off` says.

    Blank is false.
    """
    if value is None:
        return None
    if isinstance(value, int | float):
        return value != 0
    content = word(value)
    if content in _TRUE:
        return True
    if content in _FALSE:
        return False
    raise UnreadableError(value)


def day(value: Value, zone: ZoneInfo) -> date | None:
    """Return the date of `YYYY-MM-DD`, unix seconds or milliseconds in a time zone."""
    if blank(value):
        return None
    if isinstance(value, int | float):
        return _unix_day(value, zone)
    content = trimmed(value)
    found = _DATE.fullmatch(content)
    if found:
        return real_date(int(found[1]), int(found[2]), int(found[3]))
    if _NUMBER.fullmatch(content):
        return _unix_day(float(content) if "." in content else _number(content), zone)
    raise UnreadableError(value)


def real_date(year: int, month: int, of_month: int) -> date:
    """Return the date. Raises `UnreadableError` where the calendar has no such day."""
    try:
        return date(year, month, of_month)
    except (ValueError, OverflowError):
        raise UnreadableError((year, month, of_month)) from None


def _unix_day(number: float, zone: ZoneInfo) -> date:
    if 10**8 <= number < 10**11:
        seconds = math.floor(number)
    elif 10**11 <= number < 10**14:
        seconds = math.floor(number) // 1000
    else:
        raise UnreadableError(number)
    return datetime.fromtimestamp(seconds, zone).date()
