"""Classification of single values: patterns of dates, forms of ZIPs, faults of addresses.

Pure functions.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from schedd.engine.coercions import MAX_EMAIL, MAX_LOCAL, trimmed, zip_code
from schedd.engine.zips import UNKNOWN, state_of_code

_LONGEST_PATTERN = 30


def pattern_of(value: Any) -> str:
    """Return a value with its digits as 9 and its letters as A, for example `99/99/9999`."""
    text = str(value) if isinstance(value, int) else trimmed(value)
    pattern = "".join(_general(character) for character in text[: _LONGEST_PATTERN + 1])
    return pattern if len(pattern) <= _LONGEST_PATTERN else pattern[: _LONGEST_PATTERN - 1] + "…"


def _general(character: str) -> str:
    if character.isdigit():
        return "9"
    if character.isalpha():
        return "A"
    return character if character.isprintable() else "?"


# Dates --------------------------------------------------------------------------------------------

_Y, _P, _Q = "(?P<y>[0-9]{4})", "(?P<p>[0-9]{1,2})", "(?P<q>[0-9]{1,2})"
_P2, _Q2 = "(?P<p>[0-9]{2})", "(?P<q>[0-9]{2})"
#: Layouts of dates: expression -> the formats that it can be, and whether the month comes first. A
#: format that is not one of `configuration.DATE_FORMATS` cannot be configured.
_LAYOUTS: tuple[tuple[re.Pattern[str], tuple[tuple[str, bool], ...]], ...] = (
    (re.compile(f"{_Y}-{_P2}-{_Q2}"), (("YYYY-MM-DD", True),)),
    (re.compile(f"{_Y}/{_P}/{_Q}"), (("YYYY/MM/DD", True),)),
    (re.compile(f"{_P}/{_Q}/{_Y}"), (("MM/DD/YYYY", True), ("DD/MM/YYYY", False))),
    (re.compile(f"{_P2}-{_Q2}-{_Y}"), (("MM-DD-YYYY", True), ("DD-MM-YYYY", False))),
    (re.compile(rf"{_P}\.{_Q}\.{_Y}"), (("MM.DD.YYYY", True), ("DD.MM.YYYY", False))),
    (re.compile(f"{_P2}{_Q2}{_Y}"), (("MMDDYYYY", True), ("DDMMYYYY", False))),
    (re.compile(f"{_Y}{_P2}{_Q2}"), (("YYYYMMDD", True),)),
)
#: Formats that differ only in whether day or month comes first.
SAME_LAYOUT = [tuple(name for name, _ in readings) for _, readings in _LAYOUTS if len(readings) > 1]


def readings_of(value: Any, first_year: int, last_year: int) -> frozenset[str]:
    """Return the formats that read a value as a date in these years."""
    text = (
        f"{value:08d}"
        if isinstance(value, int)
        else re.split("[T ]", trimmed(value), maxsplit=1)[0]
    )
    found = set()
    for expression, readings in _LAYOUTS:
        match = expression.fullmatch(text)
        if match is None or not first_year <= int(match["y"]) <= last_year:
            continue
        for name, month_first in readings:
            month, day = (match["p"], match["q"]) if month_first else (match["q"], match["p"])
            if _is_day(int(match["y"]), int(month), int(day)):
                found.add(name)
    return frozenset(found)


def _is_day(year: int, month: int, day: int) -> bool:
    try:
        dt.date(year, month, day)
    except ValueError:
        return False
    return True


def date_hint(value: Any) -> str:
    """Return what an unreadable date probably is, empty if there is no guess."""
    text = trimmed(value)
    if re.fullmatch(r"[1-6][0-9]{4}(?:\.0*)?", text):
        return "a spreadsheet's day number"
    if re.fullmatch(r"-?[0-9]{9,10}(?:\.[0-9]*)?|-?[0-9]{12,13}", text):
        return "a unix time"
    if re.fullmatch(r"[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{2}", text):
        return "a year of two digits"
    return ""


# ZIPs ---------------------------------------------------------------------------------------------


def zip_form(value: Any) -> tuple[str, bool]:
    """Return the form of a ZIP that is not blank, and whether its state is known."""
    code = zip_code(value)
    if code is None:
        return pattern_of(value), False
    return _read_form(value), state_of_code(code) != UNKNOWN


def _read_form(value: Any) -> str:
    text = trimmed(value)
    if text.startswith('="'):
        return '="02139"'
    if text.startswith("'"):
        return "'02139"
    if text.endswith(".0"):
        return "2139.0"
    if isinstance(value, int) or len(text) < 5:
        return "a number, zeros on the left restored"
    return {5: "02139", 8: "nine digits, a zero restored", 9: "nine digits"}.get(
        len(text), "02139-1234"
    )


# E-mail addresses ---------------------------------------------------------------------------------

_INVISIBLE = frozenset("\xa0\xad\u200b\u200c\u200d\u2060\ufeff")


def _is_invisible(character: str) -> bool:
    return character in _INVISIBLE or unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"}


#: Faults and their tests on a trimmed address; the first one that applies is reported.
_FAULTS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("bytes that are not UTF-8", lambda address: "\ufffd" in address),
    ("invisible characters", lambda address: any(map(_is_invisible, address))),
    ("a mailto: prefix", lambda address: address.lower().startswith("mailto:")),
    ("angle brackets", lambda address: "<" in address or ">" in address),
    (
        "several addresses",
        lambda address: address.count("@") > 1 and bool(re.search("[,; ]", address)),
    ),
    ("spaces", lambda address: any(c.isspace() for c in address)),
    ("no @", lambda address: "@" not in address),
    ("several @", lambda address: address.count("@") > 1),
    ("too long", lambda address: len(address) > MAX_EMAIL or address.index("@") > MAX_LOCAL),
    ("nothing before or after the @", lambda address: address[0] == "@" or address[-1] == "@"),
    ("double dots", lambda address: ".." in address),
    ("a dot, comma or semicolon at the end", lambda address: address[-1] in ".,;:"),
    (
        "a leading or trailing dot",
        lambda address: address[0] == "." or ".@" in address or "@." in address,
    ),
    ("no dot in the domain", lambda address: "." not in address.partition("@")[2]),
)


def email_fault(value: Any) -> str:
    """Return the fault of an address that is neither blank nor valid."""
    address = trimmed(value)
    return next((name for name, has in _FAULTS if has(address)), "characters that are not allowed")
