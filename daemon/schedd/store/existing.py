"""The existing rows of `email_schedules` of a chunk as columns, and their history (section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import Ordinals
from schedd.engine.rows import FIXED_TYPES, NO_INSTANCE, History
from schedd.engine.run import Run

#: Kinds of rows, by their status. Rows with a void status are neither plan nor history.
SCHEDULED, SKIPPED, DISPATCHED, VOID = 0, 1, 2, 3
#: Only inside the store: a dispatched row that may have a follow-up; a row whose status is
#: evaluated in Python.
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

    kind: SCHEDULED, SKIPPED, DISPATCHED or VOID.
    type_number: index into `RowClasses.types`, of a dispatched row of the folded type; -1 for a
    type that this run does not plan.   written_type: the same of the type as it is written.
    row_class: the class whose type and instance the row has, -1 for none.
    date: the send date, `NONE` if it cannot be read.   own_date: of dispatched rows, the date
    that says which event they belong to.
    reason: number in `SKIP_REASONS`, -1 for another text.
    event: the event date as `packing.pack_event` packs it, `NO_EVENT` for anything else.
    regular: whether all other columns are as in a new row of the class.
    followup: whether the type is a follow-up's.
    exact_key: whether contact and date are stored as those of a planned row are.
    sent_lately: whether a dispatched row may have a follow-up: its status is one of
    `PARENT_STATUSES`, and it may have been sent in the time that section 8 names.
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
        """Return the rows of all parts."""
        if len(parts) == 1:
            return parts[0]
        return ExistingRows(
            *(
                np.concatenate([getattr(part, column.name) for part in parts])
                for column in fields(ExistingRows)
            )
        )

    def plain_plan(self) -> NDArray[np.intp]:
        """Return the indices of the rows of the existing plan, follow-ups aside."""
        return np.flatnonzero((self.kind <= SKIPPED) & ~self.followup)


def find_contacts(
    people: NDArray[np.int64], contact_id: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the index of each contact in `people` (ascending ids), and whether it is there.

    If it is not, the index has no meaning.
    """
    index = np.searchsorted(people, contact_id)
    found = index < len(people)
    found[found] = people[index[found]] == contact_id[found]
    return index, found


def history_of(rows: ExistingRows, run: Run, people: NDArray[np.int64]) -> History:
    """Return the dispatched rows of eligible contacts as history.

    people: the ids of the eligible contacts, ascending.
    """
    chosen = np.flatnonzero(rows.kind == DISPATCHED)
    index, found = find_contacts(people, rows.contact_id[chosen])
    chosen = chosen[found]
    row_class = rows.row_class[chosen]
    return History(
        contact_index=index[found].astype(np.int32),
        type_number=rows.type_number[chosen],
        date=rows.date[chosen],
        own_date=rows.own_date[chosen],
        instance=np.where(
            row_class >= len(FIXED_TYPES), run.classes.instance[row_class], NO_INSTANCE
        ),
        followup=rows.followup[chosen],
    )
