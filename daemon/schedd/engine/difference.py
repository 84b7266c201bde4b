"""The difference between the existing rows and the planned rows (rules, section 11).

Rows are matched by their key (contact, type, date), packed into one integer. What else a row says
is compared as a content number. Nothing here knows how rows are stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: The content number of an existing row that says something no planned row says.
FOREIGN = np.int64(-1)


@dataclass
class KeyConflicts:
    """Keys that planned rows may not take, because rows that stay in the file have them.

    dispatched: keys of dispatched rows (section 10).   others: keys of rows with a void status,
    which are neither history nor plan (section 11). Both as `packing.pack_keys`, in any order.
    """

    dispatched: NDArray[np.int64]
    others: NDArray[np.int64]


@dataclass
class Difference:
    """The changes that turn the existing rows into the planned ones, as indices.

    insert, update: of planned rows.   updated, delete: of existing rows; existing row `updated[n]`
    becomes planned row `update[n]`.   unchanged: the number of existing rows that are right.
    """

    insert: NDArray[np.int64]
    update: NDArray[np.int64]
    updated: NDArray[np.int64]
    delete: NDArray[np.int64]
    unchanged: int


def drop_conflicting_keys(
    planned: NDArray[np.int64], conflicts: KeyConflicts
) -> tuple[NDArray[np.bool_], int]:
    """Return which planned keys are free, and how many a row with a void status has."""
    by_others = np.isin(planned, conflicts.others)
    return ~(by_others | np.isin(planned, conflicts.dispatched)), int(by_others.sum())


def difference(
    planned_keys: NDArray[np.int64],
    planned_content: NDArray[np.int64],
    existing_keys: NDArray[np.int64],
    existing_content: NDArray[np.int64],
) -> Difference:
    """Return the changes that turn the existing rows into the planned ones.

    Planned keys are ascending and unique. Existing keys are in any order. A negative one cannot be
    planned, and of several equal ones the first counts: all other rows are deleted.
    """
    order = np.argsort(existing_keys, kind="stable")
    keys = existing_keys[order]

    index = np.searchsorted(keys, planned_keys)
    found = np.zeros(len(planned_keys), np.bool_)
    inside = index < len(keys)
    found[inside] = keys[index[inside]] == planned_keys[inside]

    matched, partner = np.flatnonzero(found), order[index[found]]
    kept = np.zeros(len(existing_keys), np.bool_)
    kept[partner] = True
    same = planned_content[found] == existing_content[partner]
    return Difference(
        insert=np.flatnonzero(~found),
        update=matched[~same],
        updated=partner[~same],
        delete=np.flatnonzero(~kept),
        unchanged=int(same.sum()),
    )
