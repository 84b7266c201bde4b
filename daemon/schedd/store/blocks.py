"""Columns of SQLite as blocks of fixed-width bytes, and their conversion to arrays.

SQLite concatenates a column of a chunk into one text (`group_concat`), which numpy views as words
of eight characters. This is several times faster than one Python object for each value. It works
only if all values have the width. If they do not, `MisalignedError` is raised, and the caller reads
the chunk value by value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schedd.engine import calendar, digits
from schedd.engine.calendar import Ordinals

#: Added to each number, so that all have the same number of digits. Numbers must be in
#: 0..NUMBER_LIMIT - 1.
NUMBER_BASE = 100_000_000_000_000
NUMBER_LIMIT = 9 * NUMBER_BASE
NUMBER_WIDTH = 15

#: Characters that are read together.
_WORD = 8
_BLANKS = np.uint64(0x2020202020202020)


class MisalignedError(ValueError):
    """A block whose values do not all have the expected width."""


def ascii_of(block: bytes) -> bytes:
    """Return an ASCII text in UTF-16 as one byte a character, and any other text unchanged."""
    for first in (0, 1):
        if block[1 - first :: 2].count(0) == len(block) // 2:
            return block[first::2]
    return block


class Block:
    """The texts of a column, all of one width, one after the other.

    Raises `MisalignedError` if the block does not have rows * width bytes.

    >>> Block(b"2026-11-232026-11-24", 2, 10).dates()[1]
    array([ True,  True])
    """

    def __init__(self, block: bytes | None, rows: int, width: int) -> None:
        block = block or b""
        if len(block) == 2 * rows * width:
            block = ascii_of(block)
        if len(block) != rows * width:
            raise MisalignedError
        # Padding, so that a complete word ends at the end of each text.
        self._bytes = b"\0" * _WORD + block
        self._rows, self._width = rows, width

    def words(self, end: int) -> digits.Words:
        """Return the eight characters of each text before the index `end`.

        They include characters of the previous text if `end` is less than eight.
        """
        if not self._rows:
            return np.zeros(0, np.uint64)
        # A copy, as later computations are faster on contiguous words.
        words: digits.Words = np.ndarray(
            (self._rows,), "<u8", self._bytes, end, (self._width,)
        ).copy()
        return words

    def column(self, index: int) -> NDArray[np.uint8]:
        """Return the character of each text at an index."""
        if not self._rows:
            return np.zeros(0, np.uint8)
        column: NDArray[np.uint8] = np.ndarray(
            (self._rows,), np.uint8, self._bytes, _WORD + index, (self._width,)
        )
        return column

    def number(self, start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the numbers in the characters `start` to before `end`, and which are valid."""
        values, clean = digits.last_digits(self.words(end), min(_WORD, end - start))
        factor = 1
        while end - start > _WORD:
            end, factor = end - _WORD, factor * 10**_WORD
            more, also_clean = digits.last_digits(self.words(end), min(_WORD, end - start))
            values += more * factor
            clean &= also_clean
        return values, clean

    def dates(self) -> tuple[Ordinals, NDArray[np.bool_]]:
        """Return the ordinals of a block of `YYYY-MM-DD`, and which are real dates."""
        return digits.dates(self.words(_WORD), self.words(self._width))

    def dates_of(
        self, year: tuple[int, int], month: int, day: int, separator: str
    ) -> tuple[Ordinals, NDArray[np.bool_]]:
        """Return the ordinals of dates of ten characters in another order, and which are real.

        year: the range of its digits.   month, day: the index of their first digit.
        """
        parts = [self.number(*year), self.number(month, month + 2), self.number(day, day + 2)]
        real = parts[0][1] & parts[1][1] & parts[2][1]
        digits_at = {*range(*year), month, month + 1, day, day + 1}
        for index in set(range(self._width)) - digits_at:
            real &= self.column(index) == ord(separator)
        years, months, days = (np.where(real, values, 0) for values, _ in parts)
        ordinals = calendar.ordinal_of_parts(years, months, days)
        return ordinals.astype(np.int32), ordinals != calendar.NONE

    def blank(self) -> NDArray[np.bool_]:
        """Return which texts consist of blanks; for widths up to 16."""
        unseen = np.uint64(8 * max(0, _WORD - self._width))
        blank: NDArray[np.bool_] = (self.words(self._width) ^ _BLANKS) >> unseen == 0
        if self._width > _WORD:
            blank &= self.words(_WORD) == _BLANKS
        return blank


def number(expression: str, order: str = "") -> str:
    """Return the SQL of an aggregate that writes an integer of each row.

    order: an ORDER BY clause.
    """
    return f"CAST(group_concat({NUMBER_BASE} + ({expression}), ''{order}) AS BLOB)"


def numbers(block: bytes | None, rows: int) -> NDArray[np.int64]:
    """Return the numbers of a block made by `number`; raises `MisalignedError`."""
    values, clean = Block(block, rows, NUMBER_WIDTH).number(0, NUMBER_WIDTH)
    if not clean.all():
        raise MisalignedError
    values -= NUMBER_BASE
    if (values < 0).any():
        raise MisalignedError
    return values


def text(expression: str, order: str = "") -> str:
    """Return the SQL of an aggregate that writes a text of fixed width of each row.

    order: an ORDER BY clause.
    """
    return f"CAST(group_concat({expression}, ''{order}) AS BLOB)"
