"""What an odd value in a SQLite column means: text, whole number, truth or date.

SQLite stores anything in any column. One rule holds for all: a value that cannot be read as what the column is
for counts as absent (NULL), and absent means the column's default. Knows no table and no rule.
"""

from __future__ import annotations

import math
import re
from datetime import date

#: What `sqlite3` hands out for one column of one row.
Value = None | int | float | str | bytes

_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?")
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ].*)?", re.DOTALL)
_WORDS = {"true": True, "t": True, "yes": True, "y": True, "on": True}
_WORDS |= {"false": False, "f": False, "no": False, "n": False, "off": False}


def text(value: Value) -> str | None:
    """Return the value as text; NULL is None, a blob is text only as far as it is UTF-8."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def blank(value: Value) -> bool:
    """Return whether the value is NULL or nothing but white space."""
    as_text = text(value)
    return as_text is None or not as_text.strip()


def whole_number(value: Value, default: int) -> int:
    """Return a number without a fraction, stored as such or as text; anything else is the default."""
    number = _number(value)
    return int(number) if number is not None and number == int(number) else default


def _number(value: Value) -> int | float | None:
    if isinstance(value, str):
        value = value.strip()
        if not _NUMBER.fullmatch(value):
            return None
        return float(value) if "." in value else int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int) else None


def truth(value: Value, *, default: bool) -> bool:
    """Return whether a number (or its text) is not 0, or which of true/false, yes/no ... a text is."""
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return _WORDS[value.strip().lower()]
    number = _number(value)
    return default if number is None else number != 0


def day(value: Value) -> date | None:
    """Return the date of `YYYY-MM-DD`, a time part after `T` or a space left aside; None if it is no real date."""
    if not isinstance(value, str):
        return None
    found = _DATE.fullmatch(value)
    if not found:
        return None
    try:
        return date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return None
