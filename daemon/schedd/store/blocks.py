"""Columns out of SQLite as blocks of fixed-width bytes, and back to arrays.

SQLite puts a column of a chunk together as one text (`group_concat`), which numpy views as words of
eight
characters: several times faster than a Python object a value. It only works where every value has
the width; a block that comes out otherwise raises `MisalignedError`, and the caller reads the chunk
value by value instead.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schedd.engine import calendar, digits
from schedd.engine.calendar import Ordinals

#: Numbers are written with this added, so that all have the same digits; they must lie in
#: 0..NUMBER_LIMIT - 1.
NUMBER_BASE = 100_000_000_000_000
NUMBER_LIMIT = 9 * NUMBER_BASE
NUMBER_WIDTH = 15

#: Characters that are looked at together.
_WORD = 8
_BLANKS = np.uint64(0x2020202020202020)


class MisalignedError(ValueError):
    """A block whose values do not all have the width."""


def ascii_of(block: bytes) -> bytes:
    """Return a text of a UTF-16 file as one byte a character if all of it is ASCII, else as it is."""
    for first in (0, 1):
        if block[1 - first :: 2].count(0) == len(block) // 2:
            return block[first::2]
    return block


class Block:
    """The texts of a column, all of one width, as they lie one after the other."""

    def __init__(self, block: bytes | None, rows: int, width: int) -> None:
        block = block or b""
        if len(block) == 2 * rows * width:
            block = ascii_of(block)
        if len(block) != rows * width:
            raise MisalignedError
        # So that there is a whole word before the end of every text.
        self._bytes = b"\0" * _WORD + block
        self._rows, self._width = rows, width

    def words(self, end: int) -> digits.Words:
        """Return the eight characters before place `end` of each text (some of them of the text before)."""
        if not self._rows:
            return np.zeros(0, np.uint64)
        # A copy, as what is computed with it next is faster on words that lie side by side.
        words: digits.Words = np.ndarray(
            (self._rows,), "<u8", self._bytes, end, (self._width,)
        ).copy()
        return words

    def column(self, place: int) -> NDArray[np.uint8]:
        """Return one character of each text."""
        if not self._rows:
            return np.zeros(0, np.uint8)
        column: NDArray[np.uint8] = np.ndarray(
            (self._rows,), np.uint8, self._bytes, _WORD + place, (self._width,)
        )
        return column

    def number(self, start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the numbers that the characters from `start` to before `end` write, and where all are digits."""
        values, clean = digits.last_digits(self.words(end), min(_WORD, end - start))
        factor = 1
        while end - start > _WORD:
            end, factor = end - _WORD, factor * 10**_WORD
            more, also_clean = digits.last_digits(self.words(end), min(_WORD, end - start))
            values += more * factor
            clean &= also_clean
        return values, clean

    def dates(self) -> tuple[Ordinals, NDArray[np.bool_]]:
        """Return the ordinals of a block of `YYYY-MM-DD`, and where they are real dates."""
        return digits.dates(self.words(_WORD), self.words(self._width))

    def dates_of(
        self, year: tuple[int, int], month: int, day: int, separator: str
    ) -> tuple[Ordinals, NDArray[np.bool_]]:
        """Return the ordinals of a block of dates of ten characters in another order, and where they are real dates.

        year: first and last position of its digits; month, day: the position of theirs.
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
        """Return which texts are blanks alone; for widths up to 16."""
        unseen = np.uint64(8 * max(0, _WORD - self._width))
        blank: NDArray[np.bool_] = (self.words(self._width) ^ _BLANKS) >> unseen == 0
        if self._width > _WORD:
            blank &= self.words(_WORD) == _BLANKS
        return blank


def number(expression: str, order: str = "") -> str:
    """Return the SQL of an aggregate that writes a whole number of each row.

    `order`: an ORDER BY clause.
    """
    return f"CAST(group_concat({NUMBER_BASE} + ({expression}), ''{order}) AS BLOB)"


def numbers(block: bytes | None, rows: int) -> NDArray[np.int64]:
    """Return the numbers of a block made by `number`."""
    values, clean = Block(block, rows, NUMBER_WIDTH).number(0, NUMBER_WIDTH)
    if not clean.all():
        raise MisalignedError
    values -= NUMBER_BASE
    if (values < 0).any():
        raise MisalignedError
    return values


def text(expression: str, order: str = "") -> str:
    """Return the SQL of an aggregate that writes a text of fixed width of each row.

    `order`: an ORDER BY clause.
    """
    return f"CAST(group_concat({expression}, ''{order}) AS BLOB)"
