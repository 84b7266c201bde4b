"""The existing rows of `email_schedules` of a chunk, and what the rules look at of them (section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedd.engine import calendar
from schedd.engine.calendar import NONE, Ordinals
from schedd.engine.rows import FIXED_TYPES, NO_INSTANCE, History
from schedd.engine.run import Run

#: What a row's status makes of it. Rows with a void status are neither plan nor history.
SCHEDULED, SKIPPED, DISPATCHED, VOID = 0, 1, 2, 3
#: Only inside the store: a dispatched row that may have a follow-up; a row whose status has to be
#: looked at.
SENT_LATELY, ODD = 4, 5

#: Statuses of dispatched rows that the rules name, in lower case; others count as dispatched and
#: are reported.
KNOWN_STATUSES = frozenset(
    (
        *("scheduled", "queued", "processing", "accepted", "sent", "delivered"),
        *("deferred", "opened", "clicked", "bounced", "complained", "unsubscribed"),
    )
)
#: Statuses of rows that may have a follow-up (section 8).
PARENT_STATUSES = frozenset(("sent", "delivered", "opened", "clicked"))


#: Columns that hold numbers, besides the ids of row and contact.
NUMBER_COLUMNS = frozenset(
    ("priority", "campaign_instance_id", "event_year", "event_month", "event_day")
)


@dataclass
class ExistingRows:
    """All rows of a chunk, in no particular order.

    kind: SCHEDULED, SKIPPED, DISPATCHED or VOID.   type_number: index into `RowClasses.types`, of a
    dispatched row of the folded type; -1 for a type that this run does not plan.   written_type:
    the same of the type as it is written.
    row_class: the class whose type and instance the row has, -1 for none.   reason: number in
    `SKIP_REASONS`, -1 for another text.   event: the event date as `event_number` packs it, -1 for
    anything else.   regular: whether all other columns are as in a new row of the class.
    followup: whether the type is a follow-up's.
    exact_key: whether contact and date are stored as those of a planned row are.
    own_date: of dispatched rows, the date that says which event they belong to.
    sent_lately: dispatched rows that may have a follow-up: sent, in the time that section 8 looks
    at.
    """

    row_id: NDArray[np.int64]
    contact_id: NDArray[np.int64]
    kind: NDArray[np.int8]
    type_number: NDArray[np.int32]
    written_type: NDArray[np.int32]
    row_class: NDArray[np.int32]
    date: Ordinals
    own_date: Ordinals
    reason: NDArray[np.int16]
    event: NDArray[np.int32]
    regular: NDArray[np.bool_]
    followup: NDArray[np.bool_]
    exact_key: NDArray[np.bool_]
    sent_lately: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row_id)

    @staticmethod
    def concatenate(parts: Sequence[ExistingRows]) -> ExistingRows:
        """Return all rows of some parts."""
        if len(parts) == 1:
            return parts[0]
        names = [column.name for column in fields(ExistingRows)]
        return ExistingRows(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        )


def event_number(years: Any, months: Any, days: Any) -> Any:
    """Return event dates packed into one number each."""
    return years * 372 + (months - 1) * 31 + days - 1


def event_day(numbers: NDArray[np.int32]) -> Ordinals:
    """Return the ordinals of packed event dates, `NONE` where they are not real dates."""
    days = calendar.ordinal_of_parts(numbers // 372, numbers % 372 // 31 + 1, numbers % 31 + 1)
    return np.where(numbers >= 0, days, NONE).astype(np.int32)


def history_of(rows: ExistingRows, run: Run, people: NDArray[np.int64]) -> History:
    """Return the dispatched rows of eligible contacts (ids `people`, ascending) as the rules look at them."""
    chosen = np.flatnonzero(rows.kind == DISPATCHED)
    index = np.searchsorted(people, rows.contact_id[chosen])
    there = index < len(people)
    there[there] = people[index[there]] == rows.contact_id[chosen[there]]
    chosen, contact_index = chosen[there], index[there].astype(np.int32)
    row_class = rows.row_class[chosen]
    return History(
        contact_index=contact_index,
        type_number=rows.type_number[chosen],
        date=rows.date[chosen],
        own_date=rows.own_date[chosen],
        instance=np.where(
            row_class >= len(FIXED_TYPES), run.classes.instance[row_class], NO_INSTANCE
        ),
        followup=rows.followup[chosen],
    )
