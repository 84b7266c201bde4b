"""Columns out of SQLite as blocks of fixed-width bytes, and back to arrays.

SQLite puts a column of a chunk together as one text (`group_concat`), which numpy views as a matrix of bytes:
several times faster than a Python object a value. It only works where every value has the width; a block
that comes out otherwise raises `MisalignedError`, and the caller reads the chunk value by value instead.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schedd.engine.contacts import parse_digits

#: Numbers are written with this added, so that all have the same digits; they must lie in 0..NUMBER_LIMIT - 1.
NUMBER_BASE = 100_000_000_000_000
NUMBER_LIMIT = 9 * NUMBER_BASE
NUMBER_WIDTH = 15


class MisalignedError(ValueError):
    """A block whose values do not all have the width."""


def matrix(block: bytes | None, rows: int, width: int) -> NDArray[np.uint8]:
    """Return a block as rows x width bytes."""
    block = block or b""
    if len(block) != rows * width:
        raise MisalignedError
    return np.frombuffer(block, np.uint8).reshape(rows, width)


def number(expression: str) -> str:
    """Return the SQL of an aggregate that writes a whole number of each row."""
    return f"CAST(group_concat({NUMBER_BASE} + ({expression}), '') AS BLOB)"


def numbers(block: bytes | None, rows: int) -> NDArray[np.int64]:
    """Return the numbers of a block made by `number`."""
    values, clean = parse_digits(matrix(block, rows, NUMBER_WIDTH))
    if not clean.all():
        raise MisalignedError
    values -= NUMBER_BASE
    if (values < 0).any():
        raise MisalignedError
    return values


def text(expression: str) -> str:
    """Return the SQL of an aggregate that writes a text of fixed width of each row."""
    return f"CAST(group_concat({expression}, '') AS BLOB)"
