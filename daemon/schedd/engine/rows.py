"""The rows of a plan as columns, and the classes that describe what many of them share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calendar import Ordinals
from .configuration import KINDS
from .states import STATES

#: RowClasses that every run has; campaign instances follow.
AEP, BIRTHDAY, EFFECTIVE_DATE, POST_WINDOW = 0, 1, 2, 3
FIXED_TYPES = ("aep", "birthday", "effective_date", "post_window")
FIXED_PRIORITIES = (30, 10, 20, 40)

FOLLOWUP_TYPES = (
    "followup_1_cold",
    "followup_2_clicked_no_hq",
    "followup_3_hq_no_yes",
    "followup_4_hq_with_yes",
)
FOLLOWUP_PREFIX = "followup_"
CAMPAIGN_PREFIX = "campaign_"

#: Stands for "no campaign instance" in columns in which 0 could be an instance.
NO_INSTANCE = np.int64(-(2**63))

#: Reasons of skipped rows: 0 none, 1 and 2 of section 10, then one for each state and kind of
#: exclusion.
NOT_SKIPPED, SAME_DAY, FREQUENCY = 0, 1, 2
_FIRST_EXCLUSION = 3
SKIP_REASONS: tuple[str, ...] = (
    "",
    "same_day_conflict",
    "frequency_limit",
    *(f"exclusion:{state}:{kind}" for state in STATES for kind in KINDS),
)


def exclusion_reason(states: NDArray[Any], kinds: NDArray[Any]) -> NDArray[np.int16]:
    """Return the number in `SKIP_REASONS` of each exclusion, 0 if the kind (`windows`) is 0."""
    numbers = _FIRST_EXCLUSION + states.astype(np.int16) * len(KINDS) + kinds - 1
    return np.where(kinds > 0, numbers, 0).astype(np.int16)


@dataclass(frozen=True)
class RowClasses:
    """The properties that all rows of a class share, as columns; element n is class n.

    types: names in the order of their text, which is the order of the unique key.
    folded: of each type, the first one whose name is the same in lower case (history is compared
    so).
    type_number: index into `types`.   priority_rank: order of the priorities (equal ones share a
    rank).
    respects: whether exclusion windows apply.   instance: campaign instance id, 0 for none.

        classes = make_classes(Configuration(), instances=[])
        classes.types[classes.type_number[0]]  # "aep", the type of class 0
    """

    types: tuple[str, ...]
    folded: NDArray[np.int32]
    type_number: NDArray[np.int32]
    priorities: tuple[int, ...]
    priority_rank: NDArray[np.int32]
    respects: NDArray[np.bool_]
    instance: NDArray[np.int64]
    salt: NDArray[np.int64]
    email_template: tuple[str | None, ...]
    sms_template: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.priorities)


@dataclass
class Rows:
    """Planned e-mails, follow-ups aside.

    contact_index: index of the contact in its chunk's `People`.   row_class: class.   date: send
    date.
    event, latest: the event date and the latest send date.   reason: number in `SKIP_REASONS`; 0
    for a row that goes out (`pre-scheduled`).

        sent = rows.take(rows.reason == 0)
        ids = people.ids[sent.contact_index]  # the contact of each row
    """

    contact_index: NDArray[np.int32]
    row_class: NDArray[np.int32]
    date: Ordinals
    event: Ordinals
    latest: Ordinals
    reason: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.contact_index)

    def take(self, chosen: NDArray[Any]) -> Rows:
        """Return the rows chosen by a mask or by indices."""
        return Rows(*(getattr(self, column.name)[chosen] for column in fields(self)))

    @staticmethod
    def concatenate(parts: Sequence[Rows]) -> Rows:
        """Return all rows of some parts, in their order."""
        return Rows(
            *(np.concatenate([getattr(p, column.name) for p in parts]) for column in fields(Rows))
        )


def make_rows(
    contact_index: NDArray[Any],
    row_class: NDArray[Any] | int,
    date: NDArray[Any],
    event: NDArray[Any],
    latest: NDArray[Any],
    reason: NDArray[Any] | int = NOT_SKIPPED,
) -> Rows:
    """Return rows with every column in its type; single numbers stand for complete columns."""
    size = len(contact_index)

    def column(values: NDArray[Any] | int, kind: type[np.generic]) -> NDArray[Any]:
        return np.broadcast_to(np.asarray(values, kind), size).copy()

    return Rows(
        column(contact_index, np.int32),
        column(row_class, np.int32),
        column(date, np.int32),
        column(event, np.int32),
        column(latest, np.int32),
        column(reason, np.int16),
    )


@dataclass
class History:
    """Dispatched rows of a chunk (section 4), in the order of (contact, id).

    contact_index: index into `People`; rows of others are not here.   type_number: index into
    `RowClasses.types` of the type in lower case and after the aliases (`RowClasses.folded`), -1 for
    a type that this run does not plan.
    date: the send date, `NONE` if unreadable.   own_date: the date that says which event the row
    belongs to, `NONE` for none.   instance: campaign instance id, `NO_INSTANCE` for none.
    followup: whether the type is a follow-up's.
    """

    contact_index: NDArray[np.int32]
    type_number: NDArray[np.int32]
    date: Ordinals
    own_date: Ordinals
    instance: NDArray[np.int64]
    followup: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.contact_index)

    def take(self, chosen: NDArray[Any]) -> History:
        """Return the rows chosen by a mask or by indices."""
        return History(*(getattr(self, column.name)[chosen] for column in fields(self)))
