"""Forms of single values: patterns of dates, kinds of ZIPs, faults of e-mail addresses. Pure functions."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from typing import Any

from schedd.engine.values import MAX_EMAIL, MAX_LOCAL, is_email, text_of, trimmed, zip_code
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


# Dates -------------------------------------------------------------------------------------------------------

_Y, _P, _Q = "(?P<y>[0-9]{4})", "(?P<p>[0-9]{1,2})", "(?P<q>[0-9]{1,2})"
_P2, _Q2 = "(?P<p>[0-9]{2})", "(?P<q>[0-9]{2})"
#: The ways to write a date: expression -> its readings, each with whether the month comes first. A reading that is
#: not one of `configuration.DATE_FORMATS` cannot be configured.
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
    """Return the ways in which a value can be read as a date in these years."""
    text = f"{value:08d}" if isinstance(value, int) else re.split("[T ]", trimmed(value), maxsplit=1)[0]
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
    """Return what a date that has no readable form probably is, empty where there is no guess."""
    text = trimmed(value)
    if re.fullmatch(r"[1-6][0-9]{4}(?:\.0*)?", text):
        return "a spreadsheet's day number"
    if re.fullmatch(r"-?[0-9]{9,10}(?:\.[0-9]*)?|-?[0-9]{12,13}", text):
        return "a unix time"
    if re.fullmatch(r"[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{2}", text):
        return "a year of two digits"
    return ""


# ZIPs --------------------------------------------------------------------------------------------------------


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
    return {5: "02139", 8: "nine digits, a zero restored", 9: "nine digits"}.get(len(text), "02139-1234")


# E-mail addresses --------------------------------------------------------------------------------------------

_INVISIBLE = frozenset("\xa0\xad\u200b\u200c\u200d\u2060\ufeff")


def email_fault(value: Any) -> str:
    """Return what is wrong with an address that is neither blank nor valid."""
    text = text_of(value)
    address = trimmed(text)
    if "\ufffd" in address:
        return "bytes that are not UTF-8"
    if any(c in _INVISIBLE or unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp"} for c in address):
        return "invisible characters"
    if address.lower().startswith("mailto:"):
        return "mailto: in front"
    if "<" in address or ">" in address:
        return "angle brackets"
    if address.count("@") > 1 and re.search("[,; ]", address):
        return "several addresses"
    if any(c.isspace() for c in address):
        return "spaces"
    return _dots_and_lengths(address)


def _dots_and_lengths(address: str) -> str:
    local, at, domain = address.partition("@")
    if not at:
        return "no @"
    if "@" in domain:
        return "several @"
    if len(address) > MAX_EMAIL or len(local) > MAX_LOCAL:
        return "too long"
    if not local or not domain:
        return "nothing before or after the @"
    if ".." in address:
        return "double dots"
    if address[-1] in ".,;:":
        return "trailing dot or comma"
    if local[0] == "." or local[-1] == "." or domain[0] == ".":
        return "a dot at an end"
    if "." not in domain:
        return "no dot in the domain"
    return "other" if is_email(address) else "characters that are not allowed"
