"""Contacts as columns: eligibility, states and dates (rules, section 1).

The store reads the well-formed bulk of a column as fixed-width bytes, which `digits` parses for all
rows at once; other values come one by one and are evaluated by the functions at the end. Both ways
follow the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import calendar, zips
from .calendar import NONE, Ordinals
from .coercions import is_email, trimmed, zip_code


class Reason(IntEnum):
    """Reasons for which a contact is not eligible, in the order of the checks; `OK` if it is."""

    OK = 0
    SUPPRESSED = 1
    OPTED_OUT = 2
    MISSING_EMAIL = 3
    INVALID_EMAIL = 4
    MISSING_ZIP = 5
    UNKNOWN_ZIP = 6


#: The text of each reason in `contact_issues`, and of the two that leave a contact eligible.
ISSUES = (
    "",
    "suppressed",
    "opted_out",
    "missing_email",
    "invalid_email",
    "missing_zip",
    "unknown_zip",
    "invalid_birth_date",
    "invalid_effective_date",
)
INVALID_BIRTH_DATE = 7
INVALID_EFFECTIVE_DATE = 8


@dataclass
class Contacts:
    """One chunk of contacts as read; all arrays have one element a contact, ids ascending.

    reason: the first failing check (`Reason`).   state: number of the state, -1 if unknown.
    birth, effective: ordinals, `NONE` if absent or unreadable; the two masks say where they were
    unreadable.
    failed_underwriting: true also if it could not be read.
    carrier: number in `carriers`, -1 if absent; `carriers` are case-folded.
    """

    ids: NDArray[np.int64]
    reason: NDArray[np.int8]
    state: NDArray[np.int8]
    birth: Ordinals
    effective: Ordinals
    invalid_birth: NDArray[np.bool_]
    invalid_effective: NDArray[np.bool_]
    failed_underwriting: NDArray[np.bool_]
    carrier: NDArray[np.int32]
    carriers: list[str]


@dataclass
class People:
    """The eligible contacts of a chunk, as columns in the order of the ids.

    birth_day, effective_day: yeardays, -1 if the date is absent or unreadable.   effective_year,
    birth_year: 0 there.   unreadable_birth, unreadable_effective: where there is a date that cannot
    be read.
    """

    ids: NDArray[np.int64]
    state: NDArray[np.int8]
    birth_day: NDArray[np.int16]
    effective_day: NDArray[np.int16]
    effective_year: NDArray[np.int16]
    birth_year: NDArray[np.int16]
    unreadable_birth: NDArray[np.bool_]
    unreadable_effective: NDArray[np.bool_]
    failed_underwriting: NDArray[np.bool_]
    carrier: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def concatenate(parts: Sequence[People]) -> People:
        """Return the people of all parts, in their order.

        `carrier` has no meaning in the result: each chunk has its own numbers.
        """
        return People(
            *(
                np.concatenate([getattr(part, column.name) for part in parts])
                for column in fields(People)
            )
        )


def _yeardays(ordinals: Ordinals) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    known = ordinals != NONE
    safe = np.where(known, ordinals, 0)
    years = calendar.year_of(safe)
    days = np.where(known, calendar.yearday_in(safe, years), -1)
    return days.astype(np.int16), np.where(known, years, 0).astype(np.int16)


def reject_future_births(contacts: Contacts, as_of: int) -> None:
    """Make a birth date after `as_of` unreadable, in place."""
    future = contacts.birth > as_of
    contacts.birth[future] = NONE
    contacts.invalid_birth |= future


def eligible(contacts: Contacts) -> People:
    """Return the eligible contacts."""
    chosen = np.flatnonzero(contacts.reason == Reason.OK)
    birth_day, birth_year = _yeardays(contacts.birth[chosen])
    effective_day, effective_year = _yeardays(contacts.effective[chosen])
    return People(
        ids=contacts.ids[chosen],
        state=contacts.state[chosen],
        birth_day=birth_day,
        effective_day=effective_day,
        effective_year=effective_year,
        birth_year=birth_year,
        unreadable_birth=contacts.invalid_birth[chosen],
        unreadable_effective=contacts.invalid_effective[chosen],
        failed_underwriting=contacts.failed_underwriting[chosen],
        carrier=contacts.carrier[chosen],
    )


def issues(contacts: Contacts) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Return contact ids and numbers in `ISSUES`, in the order (contact, number)."""
    usable = contacts.reason == Reason.OK
    wrong_birth = np.flatnonzero(usable & contacts.invalid_birth)
    wrong_effective = np.flatnonzero(usable & contacts.invalid_effective)
    not_eligible = np.flatnonzero(~usable)
    rows = np.concatenate([not_eligible, wrong_birth, wrong_effective])
    kinds = np.concatenate(
        [
            contacts.reason[not_eligible],
            np.full(len(wrong_birth), INVALID_BIRTH_DATE, np.int8),
            np.full(len(wrong_effective), INVALID_EFFECTIVE_DATE, np.int8),
        ]
    )
    order = np.lexsort((kinds, rows))
    return contacts.ids[rows[order]], kinds[order].astype(np.int8)


def email_reason(value: Any) -> Reason:
    """Return what is wrong with one e-mail address as written."""
    address = trimmed(value)
    if not address:
        return Reason.MISSING_EMAIL
    return Reason.OK if is_email(address) else Reason.INVALID_EMAIL


def zip_state(value: Any) -> tuple[Reason, int]:
    """Return what is wrong with one ZIP as written, and the number of its state."""
    code = zip_code(value)
    if code == "":
        return Reason.MISSING_ZIP, zips.UNKNOWN
    state = zips.UNKNOWN if code is None else zips.state_of_code(code)
    return (Reason.UNKNOWN_ZIP if state == zips.UNKNOWN else Reason.OK), state
