"""The hash that spreads e-mails over days (rules, section 2)."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)
_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)


class Salt(IntEnum):
    """Makes the hashes of one contact's e-mails differ by type."""

    BIRTHDAY = 1
    EFFECTIVE_DATE = 2
    AEP = 3
    POST_WINDOW = 4
    #: plus the id of the campaign instance
    CAMPAIGN = 16


def mix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the splitmix64 finalizer of each value, modulo 2**64."""
    z = values ^ (values >> _SHIFT_1)
    z *= _MULTIPLIER_1
    z ^= z >> _SHIFT_2
    z *= _MULTIPLIER_2
    z ^= z >> _SHIFT_3
    return z


def email_hash(
    contact_ids: NDArray[np.int64], salts: NDArray[np.int64] | int, years: NDArray[Any] | int
) -> NDArray[np.uint64]:
    """Return h(contact_id, salt, year) for each e-mail; `years` are those of the event dates.

    Negative ids and products beyond 64 bits wrap around, as unsigned arithmetic does.
    """
    lower = np.asarray(salts, dtype=np.int64) * np.int64(65536) + np.asarray(years, dtype=np.int64)
    return mix64(mix64(contact_ids.astype(np.uint64)) ^ lower.astype(np.uint64))
