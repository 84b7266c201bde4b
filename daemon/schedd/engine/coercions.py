"""Single SQLite values as the rules read them (section 0): text, integer, boolean, date.

SQLite lets any column hold any type. The functions here read one value at a time; the store hands
them those values that do not have the form in which columns are parsed. A text arrives as
`str`, with bytes that are not valid UTF-8 replaced by U+FFFD, or as `bytes`, which are decoded in
the same way.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import unicodedata
import zoneinfo
from collections.abc import Callable, Sequence
from typing import Any

from . import calendar
from .calendar import NONE
from .states import STATE_INDEX, STATE_NAMES

#: Integers are those that SQLite can store: from minus this to below it.
INTEGER_LIMIT = 1 << 63

_INVISIBLE = "\0\ufeff\u200b"
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?", re.ASCII)
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ].*)?", re.DOTALL)
_TRUTHS: dict[str, bool] = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off", ""), False),
}

#: Unix times: seconds from the first to below the second, milliseconds from the second to below the
#: third.
_SECONDS, _MILLISECONDS, _LIMIT = 10**8, 10**11, 10**14


def text_of(value: Any) -> str:
    """Return a value as text; NULL as the empty text, a number as its digits."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def trimmed(value: Any) -> str:
    """Return a value as text without white space, NUL, U+FEFF and U+200B at both ends."""
    text, before = text_of(value), None
    if text.isascii() and text and text[0] > " " and text[-1] > " ":
        return text
    while text != before:
        text, before = text.strip().strip(_INVISIBLE), text
    return text


def is_blank(value: Any) -> bool:
    """Return whether a value is NULL or a text of nothing but white space."""
    return value is None or trimmed(value) == ""


def integer_of(value: Any) -> int | None:
    """Return an INTEGER, a REAL without a fraction or the digits of a text.

    None for anything else.
    """
    if isinstance(value, int):
        number = value
    elif isinstance(value, float):
        if not value.is_integer():
            return None
        number = int(value)
    else:
        text = trimmed(value)
        # A text of more digits than an id can have is not converted: that takes quadratic time.
        if len(text) > 4000 or not _INTEGER.fullmatch(text):
            return None
        number = int(text)
    return number if -INTEGER_LIMIT <= number < INTEGER_LIMIT else None


def boolean_of(value: Any) -> bool | None:
    """Return the truth of a number other than 0 or of a word such as `yes`.

    None for what cannot be read.

    NULL cannot be read either: the column's default applies, which the caller knows.
    """
    if value is None:
        return None
    if isinstance(value, int | float):
        return value != 0
    return _TRUTHS.get(trimmed(value).lower())


def opted_out(column: str, value: Any) -> bool:
    """Return whether an opt-out column says that the contact wants no e-mails (section 1)."""
    if not column.endswith("_at"):
        return value is not None and boolean_of(value) is not False
    return trimmed(value) not in {"", "0"} and not (isinstance(value, float) and value == 0)


def plain_day(text: str) -> int | None:
    """Return the ordinal of `YYYY-MM-DD`, a time part after `T` or a space ignored.

    None for anything else.
    """
    match = _DATE.fullmatch(text)
    return None if match is None else _day(*map(int, match.groups()))


def _day(year: int, month: int, day: int) -> int | None:
    try:
        return calendar.ordinal(dt.date(year, month, day))
    except ValueError:
        return None


class Dates:
    """Reads dates of all tables but `contacts` (section 0); unix times are days in `timezone`.

    >>> Dates("America/Chicago").read("2026-11-23 08:30:00")
    (20780, True)
    """

    def __init__(self, timezone: str) -> None:
        self._zone = zoneinfo.ZoneInfo(timezone)

    def read(self, value: Any) -> tuple[int, bool]:
        """Return the ordinal of a date, and whether it could be read.

        The ordinal is `NONE` if the date is absent or unreadable. An absent date (NULL or
        blank) counts as read.
        """
        if value is None:
            return int(NONE), True
        if not isinstance(value, int | float):
            text = trimmed(value)
            if not text:
                return int(NONE), True
            day = plain_day(text)
            if day is not None:
                return day, True
            if len(text) > 40 or not _NUMBER.fullmatch(text):
                return int(NONE), False
            value = float(text) if "." in text else int(text)
        day = self._unix(value)
        return (int(NONE), False) if day is None else (day, True)

    def day(self, value: Any) -> int:
        """Return the ordinal of a date, `NONE` if it is absent or unreadable."""
        return self.read(value)[0]

    def _unix(self, value: float) -> int | None:
        if not _SECONDS <= value < _LIMIT:
            return None
        seconds = value if value < _MILLISECONDS else value / 1000
        return calendar.ordinal(dt.datetime.fromtimestamp(seconds, self._zone).date())


# Contacts (section 1) -----------------------------------------------------------------------------

_Y, _MM, _DD = "(?P<year>[0-9]{4})", "(?P<month>[0-9]{2})", "(?P<day>[0-9]{2})"
_M, _D = "(?P<month>[0-9]{1,2})", "(?P<day>[0-9]{1,2})"
# The date formats of `configuration.DATE_FORMATS`. Between separators other than `-` month and day
# may have one digit.
_DATE_PATTERNS: dict[str, re.Pattern[str]] = {
    "YYYY-MM-DD": re.compile(f"{_Y}-{_MM}-{_DD}"),
    "YYYY/MM/DD": re.compile(f"{_Y}/{_M}/{_D}"),
    "YYYYMMDD": re.compile(f"{_Y}{_MM}{_DD}"),
    "MM/DD/YYYY": re.compile(f"{_M}/{_D}/{_Y}"),
    "MM-DD-YYYY": re.compile(f"{_MM}-{_DD}-{_Y}"),
    "MMDDYYYY": re.compile(f"{_MM}{_DD}{_Y}"),
    "DD/MM/YYYY": re.compile(f"{_D}/{_M}/{_Y}"),
    "DD.MM.YYYY": re.compile(rf"{_D}\.{_M}\.{_Y}"),
}


def contact_date(value: Any, formats: Sequence[str]) -> tuple[int, bool]:
    """Return the ordinal of a contact's date, and whether it could be read, as `Dates.read`.

    formats: those of section 1 that the organization uses; the first that gives a real date counts.
    """
    if value is None:
        return int(NONE), True
    if isinstance(value, int):
        text = f"{value:08d}"
    else:
        text = trimmed(value)
        if not text:
            return int(NONE), True
    text = text.partition(" ")[0].partition("T")[0]
    for name in formats:
        match = _DATE_PATTERNS[name].fullmatch(text)
        day = (
            None
            if match is None
            else _day(int(match["year"]), int(match["month"]), int(match["day"]))
        )
        if day is not None:
            return day, True
    return int(NONE), False


MAX_EMAIL, MAX_LOCAL, MAX_LABEL = 254, 64, 63
_LOCAL_SYMBOLS = frozenset("!#$%&'*+/=?^_`{|}~-")


_ATOM, _LABEL = r"[\w!#$%&'*+/=?^`{|}~-]+", r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_ASCII_EMAIL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+(?![0-9]+\Z){_LABEL}", re.ASCII)


def _is_letter_or_digit(character: str) -> bool:
    """Return whether a character is a letter, mark or number of Unicode (categories L, M, N)."""
    return character.isalnum() or unicodedata.category(character)[0] in "LMN"


def is_email(address: str) -> bool:
    """Return whether a trimmed address has the form that section 1 asks for."""
    local, at, domain = address.partition("@")
    if not at or len(address) > MAX_EMAIL or not 1 <= len(local) <= MAX_LOCAL:
        return False
    if address.isascii():
        return _ASCII_EMAIL.fullmatch(address) is not None
    return _is_local(local) and _is_domain(domain)


def _is_local(local: str) -> bool:
    for atom in local.split("."):
        if not atom or not all(c in _LOCAL_SYMBOLS or _is_letter_or_digit(c) for c in atom):
            return False
    return True


def _is_domain(domain: str) -> bool:
    labels = domain.split(".")
    if len(labels) < 2:
        return False
    for label in labels:
        if not 1 <= len(label) <= MAX_LABEL or "-" in {label[0], label[-1]}:
            return False
        if not all(c == "-" or _is_letter_or_digit(c) for c in label):
            return False
    return not all(unicodedata.category(c)[0] == "N" for c in labels[-1])


_ZIP = re.compile(r"([0-9]{1,5})|([0-9]{8,9})|([0-9]{5})[- ][0-9]{4}", re.ASCII)


def zip_code(value: Any) -> str | None:
    """Return the five digits of a ZIP as written (section 1).

    None if it has another form, "" if it is blank.
    """
    text = trimmed(value)
    if not text:
        return ""
    if text.startswith('="') and text.endswith('"') and len(text) > 3:
        text = trimmed(text[2:-1])
    text = text.removeprefix("'").removesuffix(".0")
    match = _ZIP.fullmatch(text)
    if match is None:
        return None
    short, long, plain = match.groups()
    if long:
        return str(long).zfill(9)[:5]
    return str(short).zfill(5) if short else str(plain)


# Campaigns (section 7) ----------------------------------------------------------------------------


def entries_of(value: Any) -> list[Any] | None:
    """Return the entries of a list of targets; None if it means everyone (NULL, blank, `ALL`).

    The list is separated by commas or semicolons, or is a JSON array, whose entries may be of any
    type.
    """
    text = trimmed(value)
    if text.upper() in {"", "ALL"}:
        return None
    if text.startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list):
            return [entry.strip() if isinstance(entry, str) else entry for entry in found]
    return [entry for entry in map(trimmed, re.split("[,;]", text)) if entry]


def state_of(entry: Any) -> int | None:
    """Return the number of a state given by code or English name, in any case.

    None for what is not a state.
    """
    if not isinstance(entry, str):
        return None
    name = trimmed(entry).upper()
    return STATE_INDEX.get(name, STATE_INDEX.get(STATE_NAMES.get(name, "")))


class _Known(dict[Any, Any]):
    """Values that were read before; numbers that are equal read the same."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, value: Any) -> Any:
        result = self[value] = self._read(value)
        return result


def cached(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a reader that evaluates each different value once; columns have few."""
    return _Known(read).__getitem__
