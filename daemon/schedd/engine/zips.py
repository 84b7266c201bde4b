"""ZIP codes to states (rules, section 1).

One byte per code, looked up for complete columns at once.
"""

from __future__ import annotations

import base64
import zlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .zipdata import TABLE_ZLIB_BASE85

#: The number of an unknown ZIP's state.
UNKNOWN = -1


@cache
def _table() -> NDArray[np.int8]:
    packed = zlib.decompress(base64.b85decode(TABLE_ZLIB_BASE85))
    return np.frombuffer(packed, dtype=np.int8) - np.int8(1)


def state_of(codes: NDArray[np.int32]) -> NDArray[np.int8]:
    """Return the state number of each ZIP code 0..99999, `UNKNOWN` if there is none."""
    return _table()[codes]


def state_of_code(code: str) -> int:
    """Return the state number of a ZIP of five digits, `UNKNOWN` if there is none."""
    return int(_table()[int(code)])
