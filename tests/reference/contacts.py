"""Eligibility and dates of a contact (rules, section 1)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from . import values
from .configuration import Configuration
from .states import zip_states
from .values import UnreadableError, Value

_LOCAL_SIGNS = set("!#$%&'*+/=?^_`{|}~-")
_ZIP = re.compile(r"([0-9]{5})[- ][0-9]{4}")

#: Date format -> pattern with the groups y, m and d. One-digit months and days where the separator
#: is not "-".
_PATTERNS = {
    "YYYY-MM-DD": r"(?P<y>[0-9]{4})-(?P<m>[0-9]{2})-(?P<d>[0-9]{2})",
    "YYYY/MM/DD": r"(?P<y>[0-9]{4})/(?P<m>[0-9]{1,2})/(?P<d>[0-9]{1,2})",
    "YYYYMMDD": r"(?P<y>[0-9]{4})(?P<m>[0-9]{2})(?P<d>[0-9]{2})",
    "MM/DD/YYYY": r"(?P<m>[0-9]{1,2})/(?P<d>[0-9]{1,2})/(?P<y>[0-9]{4})",
    "MM-DD-YYYY": r"(?P<m>[0-9]{2})-(?P<d>[0-9]{2})-(?P<y>[0-9]{4})",
    "MMDDYYYY": r"(?P<m>[0-9]{2})(?P<d>[0-9]{2})(?P<y>[0-9]{4})",
    "DD/MM/YYYY": r"(?P<d>[0-9]{1,2})/(?P<m>[0-9]{1,2})/(?P<y>[0-9]{4})",
    "DD.MM.YYYY": r"(?P<d>[0-9]{1,2})\.(?P<m>[0-9]{1,2})\.(?P<y>[0-9]{4})",
}
DATE_FORMATS = tuple(_PATTERNS)


@dataclass(frozen=True)
class Contact:
    """An eligible contact. `carrier` is trimmed and lower-case.

    unreadable: those of `birth_date` and `effective_date` that are there and cannot be read.
    """

    id: int
    state: str
    birth_date: date | None
    effective_date: date | None
    failed_underwriting: bool
    carrier: str | None
    unreadable: frozenset[str] = frozenset()


#: Takes the code, the column and the value of a warning about the contact.
Warn = Callable[[str, str, Value], None]


def read_contact(
    contact_id: int, row: dict[str, Value], as_of: date, configuration: Configuration, warn: Warn
) -> tuple[Contact | None, list[str]]:
    """Return the contact, None if it is not eligible, and its issues."""
    problem = ineligible(row, configuration, warn)
    if problem is not None:
        return None, [problem]

    dates: dict[str, date | None] = {}
    unreadable = set()
    for column in ("birth_date", "effective_date"):
        try:
            found = contact_date(row.get(column), configuration.date_formats)
            if column == "birth_date" and found is not None and found > as_of:
                raise UnreadableError(found)
            dates[column] = found
        except UnreadableError:
            dates[column] = None
            unreadable.add(column)
            warn("unreadable_date", column, row.get(column))

    # Where a table has both columns, `carrier` wins, whatever is in it.
    carrier = row["carrier"] if "carrier" in row else row.get("current_carrier")
    contact = Contact(
        id=contact_id,
        state=zip_states()[normal_zip(row["zip_code"]) or ""],
        birth_date=dates["birth_date"],
        effective_date=dates["effective_date"],
        failed_underwriting=_failed_underwriting(row.get("failed_underwriting"), warn),
        carrier=None if carrier is None else values.word(carrier),
        unreadable=frozenset(unreadable),
    )
    return contact, [f"invalid_{column}" for column in sorted(unreadable)]


def _failed_underwriting(value: Value, warn: Warn) -> bool:
    try:
        return values.boolean(value) or False
    except UnreadableError:
        warn("unreadable_boolean", "failed_underwriting", value)
        return True


def ineligible(row: dict[str, Value], configuration: Configuration, warn: Warn) -> str | None:
    """Return the reason of the first check that fails, None for an eligible contact."""
    status = values.word(row.get("status"))
    if status and status not in configuration.active_statuses:
        return "suppressed"
    if any(
        opted_out(column, row[column], warn)
        for column in configuration.opt_out_columns
        if column in row
    ):
        return "opted_out"
    problem = email_problem(row["email"])
    if problem is not None:
        return problem
    if values.blank(row["zip_code"]):
        return "missing_zip"
    return None if normal_zip(row["zip_code"]) in zip_states() else "unknown_zip"


def opted_out(column: str, value: Value, warn: Warn = lambda *_: None) -> bool:
    """Return whether an opt-out column says so."""
    if column.endswith("_at"):
        return not values.blank(value) and value != 0 and values.trimmed(value) != "0"
    try:
        return values.boolean(value) or False
    except UnreadableError:
        warn("unreadable_boolean", column, value)
        return True


def email_problem(value: Value) -> str | None:
    """Return why an address cannot be used, or None."""
    address = values.trimmed(value)
    if not address:
        return "missing_email"
    local, at, domain = address.partition("@")
    good = len(address) <= 254 and at and _good_local_part(local) and _good_domain(domain)
    return None if good else "invalid_email"


def _good_local_part(local: str) -> bool:
    # No dot is first, last or doubled: no part between dots is empty.
    return len(local) <= 64 and all(
        part and all(_alphanumeric(character) or character in _LOCAL_SIGNS for character in part)
        for part in local.split(".")
    )


def _good_domain(domain: str) -> bool:
    labels = domain.split(".")
    return (
        len(labels) >= 2
        and all(_good_label(label) for label in labels)
        and not all(unicodedata.category(character).startswith("N") for character in labels[-1])
    )


def _good_label(label: str) -> bool:
    return (
        1 <= len(label) <= 63
        and "-" not in (label[0], label[-1])
        and all(_alphanumeric(character) or character == "-" for character in label)
    )


def _alphanumeric(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def normal_zip(value: Value) -> str | None:
    """Return the five digits of a ZIP, or None where the value is not a ZIP."""
    content = values.trimmed(value).removeprefix("'")
    if content.startswith('="') and content.endswith('"') and len(content) > 2:
        content = content[2:-1]
    content = content.removesuffix(".0")
    found = _ZIP.fullmatch(content)
    if found:
        return found[1]
    if not (content.isascii() and content.isdigit()):
        return None
    if len(content) <= 5:
        return content.zfill(5)
    return content.zfill(9)[:5] if len(content) in (8, 9) else None


def contact_date(value: Value, formats: tuple[str, ...]) -> date | None:
    """Return the date by the first format that reads it; None if absent.

    Raises `UnreadableError`.
    """
    if values.blank(value):
        return None
    content = str(value).zfill(8) if isinstance(value, int) else values.trimmed(value)
    for name in formats:
        found = re.fullmatch(f"{_PATTERNS[name]}(?:[T ].*)?", content, re.DOTALL)
        if found is None:
            continue
        try:
            return values.real_date(int(found["y"]), int(found["m"]), int(found["d"]))
        except UnreadableError:
            continue
    raise UnreadableError(value)
