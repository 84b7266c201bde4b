"""The difference between the rows that are there and the rows that are planned (rules, section 11).

Rows meet by their key (contact, type, date), packed into one integer; what else a row says is
compared as a content number. Nothing here knows how rows are stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calendar import FIRST

#: 21 bits remain for the contact's place in its chunk. Without the bits of the date, keys say
#: contact and type.
_TYPE_BITS, DATE_BITS = 20, 22

#: The content number of a row that says something no planned row says.
FOREIGN = np.int64(-1)


def pack_keys(
    contact_index: NDArray[Any], type_number: NDArray[Any], date: NDArray[Any]
) -> NDArray[np.int64]:
    """Return one integer for each (contact, type, date), in their order.

    All must be known (not negative).
    """
    contact = contact_index.astype(np.int64) << (_TYPE_BITS + DATE_BITS)
    return contact | (type_number.astype(np.int64) << DATE_BITS) | (date.astype(np.int64) - FIRST)


@dataclass
class Difference:
    """What to do, as indices.

    insert, update: planned rows.   delete, updated: present rows; `updated[n]` becomes planned row
    `update[n]`.
    """

    insert: NDArray[np.int64]
    update: NDArray[np.int64]
    updated: NDArray[np.int64]
    delete: NDArray[np.int64]
    unchanged: int


def drop_conflicting_keys(
    planned: NDArray[np.int64], dispatched: NDArray[np.int64], others: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], int]:
    """Return which planned keys are free, and how many are held by rows that are neither history nor plan.

    `planned` is ascending; the others need not be.
    """
    by_others = np.isin(planned, others)
    return ~(by_others | np.isin(planned, dispatched)), int(by_others.sum())


def difference(
    planned_keys: NDArray[np.int64],
    planned_content: NDArray[np.int64],
    present_keys: NDArray[np.int64],
    present_content: NDArray[np.int64],
) -> Difference:
    """Return what makes the present rows the planned ones.

    Planned keys are ascending; all keys are unique.

    A negative present key is one that cannot be planned; such rows are deleted.
    """
    order = np.argsort(present_keys, kind="stable")
    keys = present_keys[order]
    place = np.searchsorted(keys, planned_keys)
    found = np.zeros(len(planned_keys), np.bool_)
    inside = place < len(keys)
    found[inside] = keys[place[inside]] == planned_keys[inside]
    there = order[place[found]]
    kept = np.zeros(len(present_keys), np.bool_)
    kept[there] = True
    same = planned_content[found] == present_content[there]
    matched = np.flatnonzero(found)
    return Difference(
        insert=np.flatnonzero(~found),
        update=matched[~same],
        updated=there[~same],
        delete=np.flatnonzero(~kept),
        unchanged=int(same.sum()),
    )
