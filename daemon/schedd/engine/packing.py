"""Packed integers of the engine: row kinds, row keys, and e-mails by state and type.

Comparing and sorting one integer a row is several times faster than comparing columns. Each
packing has an encoder and a decoder here, and nothing else knows its layout. `store.packing` has
the packings that SQLite shares.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calendar import FIRST
from .rows import SKIP_REASONS

#: The bits of a key, from the right: send date (counted from `FIRST`), type number, and in the
#: remaining 21 bits the contact's index in its chunk. So keys sort as (contact, type, date), which
#: is the order of the unique key of `email_schedules`.
_DATE_BITS, _TYPE_BITS = 22, 20

#: The key or group of a row whose key no planned row can have.
NO_KEY = np.int64(-1)


def pack_kinds(row_class: NDArray[Any], reason: NDArray[Any]) -> NDArray[np.int64]:
    """Return class and skip reason of each row as one integer, its *kind*."""
    kinds: NDArray[np.int64] = row_class.astype(np.int64) * len(SKIP_REASONS) + reason
    return kinds


def unpack_kind(kind: int) -> tuple[int, int]:
    """Return class and skip reason of a kind."""
    return divmod(kind, len(SKIP_REASONS))


def pack_keys(
    contact_index: NDArray[Any], type_number: NDArray[Any], date: NDArray[Any]
) -> NDArray[np.int64]:
    """Return one integer for each (contact, type, date), in their order.

    All three must be known (no negative index, no absent date).
    """
    groups = pack_groups(contact_index, type_number)
    return (groups << _DATE_BITS) | (date.astype(np.int64) - FIRST)


def pack_groups(contact_index: NDArray[Any], type_number: NDArray[Any]) -> NDArray[np.int64]:
    """Return one integer for each (contact, type), in their order: a key without its date."""
    return (contact_index.astype(np.int64) << _TYPE_BITS) | type_number.astype(np.int64)


def groups_of(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (contact, type) of each key; `NO_KEY` stays `NO_KEY`."""
    groups: NDArray[np.int64] = keys >> _DATE_BITS
    return groups


def pack_state_types(
    state: NDArray[Any], type_number: NDArray[Any], types: int
) -> NDArray[np.int32]:
    """Return state and type of each row as one integer; `types` is the run's number of types."""
    return state.astype(np.int32) * np.int32(types) + type_number.astype(np.int32)


def unpack_state_type(number: int, types: int) -> tuple[int, int]:
    """Return state and type number of one integer of `pack_state_types`."""
    return divmod(number, types)
