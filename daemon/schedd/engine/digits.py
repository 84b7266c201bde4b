"""Numbers and dates out of columns of ASCII text, eight digits of a row at a time.

A *word* is eight characters of a row as one unsigned 64-bit integer, the first character in its
lowest byte. All digits of a word are checked and added up at once by arithmetic on the word.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import calendar
from .calendar import Ordinals

Words = NDArray[np.uint64]

_ZEROS = np.uint64(0x3030303030303030)
_HIGH_HALVES = np.uint64(0xF0F0F0F0F0F0F0F0)
_SIXES = np.uint64(0x0606060606060606)
_DASH = np.uint64(ord("-"))


def _u(value: int) -> np.uint64:
    return np.uint64(value)


def _pairs(words: Words) -> Words:
    """Return the four numbers of two digits of each word, in its bytes 0, 2, 4 and 6."""
    digits = words & _u(0x0F0F0F0F0F0F0F0F)
    return (digits * _u(10) + (digits >> _u(8))) & _u(0x00FF00FF00FF00FF)


def are_digits(words: Words) -> NDArray[np.bool_]:
    """Return which words have digits alone."""
    clean: NDArray[np.bool_] = ((words & _HIGH_HALVES) == _ZEROS) & (
        ((words + _SIXES) & _HIGH_HALVES) == _ZEROS
    )
    return clean


def last_digits(words: Words, count: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the numbers of the last `count` (1 to 8) characters, and which consist of digits."""
    if count < 8:
        shift = _u(8 * (8 - count))
        words = ((words >> shift) << shift) | (_ZEROS & _u((1 << (8 * (8 - count))) - 1))
    pairs = _pairs(words)
    fours = (pairs * _u(100) + (pairs >> _u(16))) & _u(0x0000FFFF0000FFFF)
    values = (fours * _u(10_000) + (fours >> _u(32))) & _u(0xFFFFFFFF)
    return values.astype(np.int64), are_digits(words)


def dates(first: Words, last: Words) -> tuple[Ordinals, NDArray[np.bool_]]:
    """Return the ordinals of texts `YYYY-MM-DD`, and which are real dates.

    first: the words of the characters 0 to 7; last: those of the characters 2 to 9.
    """
    words = (
        (first & _u(0xFFFFFFFF)) | ((first >> _u(8)) & _u(0xFFFF << 32)) | (last & _u(0xFFFF << 48))
    )
    dashes = (((first >> _u(32)) & _u(0xFF)) == _DASH) & ((first >> _u(56)) == _DASH)
    real = dashes & are_digits(words)
    pairs = _pairs(words)

    def part(shift: int) -> NDArray[np.int32]:
        return ((pairs >> _u(shift)) & _u(0xFF)).astype(np.int32)

    years = part(0) * 100 + part(16)
    ordinals = calendar.ordinal_of_parts(np.where(real, years, 0), part(32), part(48))
    return ordinals, ordinals != calendar.NONE
