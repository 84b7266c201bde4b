"""What is known of the present rows of a chunk, and what the rules look at of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import NONE, Ordinals
from schedd.engine.contacts import date_of
from schedd.engine.rows import FIXED_TYPES, NO_INSTANCE, Classes, History

from .schema import PLAN

#: What a row's status makes of it.
SCHEDULED, SKIPPED, DISPATCHED, OTHER = 0, 1, 2, 3
DISPATCHED_STATUSES = ("scheduled", "processing", "sent", "delivered")


@dataclass
class Present:
    """All rows of a chunk, in no particular order.

    kind: SCHEDULED, SKIPPED, DISPATCHED or OTHER.   type_number: -1 for a type that this run does not plan.
    cls: the class whose type and instance the row has, -1 for none.   reason: number in `SKIP_REASONS`, -1 for
    another text.   event: year * 10000 + month * 100 + day, 0 for anything else.   regular: whether all other
    columns are as in a new row of the class.   followup: whether the type is a follow-up's.
    plain_date: whether the date is written without a time part, so that it can be a planned row's key.
    sent_lately: dispatched rows that may have a follow-up: sent or delivered, in the time that section 8 looks at.
    """

    row_id: NDArray[np.int64]
    contact_id: NDArray[np.int64]
    kind: NDArray[np.int8]
    type_number: NDArray[np.int32]
    cls: NDArray[np.int32]
    date: Ordinals
    reason: NDArray[np.int16]
    event: NDArray[np.int32]
    regular: NDArray[np.bool_]
    followup: NDArray[np.bool_]
    plain_date: NDArray[np.bool_]
    sent_lately: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row_id)


def event_number(years: Any, months: Any, days: Any) -> Any:
    """Return event dates as `Present.event` has them."""
    return years * 372 + (months - 1) * 31 + days - 1


def event_of(row: dict[str, Any]) -> int:
    """Return the event date in one number, -1 where it is none."""
    year, month, day = row["event_year"], row["event_month"], row["event_day"]
    if not all(isinstance(part, int) for part in (year, month, day)):
        return -1
    real = 1 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= 31
    return int(event_number(year, month, day)) if real else -1


def is_plain(date: Any) -> bool:
    """Return whether a send date is written as a planned one would be."""
    return isinstance(date, str) and len(date) == 10 and date_of(date)[0] != NONE


def email_types(connection: apsw.Connection, row_ids: NDArray[np.int64]) -> list[str]:
    """Return the e-mail types of the rows with these ids, as texts."""
    if not len(row_ids):
        return []
    rows = connection.execute(
        f"SELECT CAST(s.email_type AS TEXT) FROM carray(?) AS wanted CROSS JOIN {PLAN} s ON s.id = wanted.value",
        (apsw.carray(np.ascontiguousarray(row_ids)),),
    )
    return [str(name) for (name,) in rows]


def history_of(present: Present, classes: Classes, people: NDArray[np.int64]) -> History:
    """Return the dispatched rows of eligible contacts (ids `people`, ascending) as the rules look at them."""
    rows = np.flatnonzero(present.kind == DISPATCHED)
    place = np.searchsorted(people, present.contact_id[rows])
    there = place < len(people)
    there[there] = people[place[there]] == present.contact_id[rows[there]]
    rows, who = rows[there], place[there].astype(np.int32)
    cls = present.cls[rows]
    return History(
        who=who,
        type_number=present.type_number[rows],
        date=present.date[rows],
        instance=np.where(cls >= len(FIXED_TYPES), classes.instance[cls], NO_INSTANCE),
        followup=present.followup[rows],
    )
