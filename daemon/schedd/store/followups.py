"""Follow-ups as complete rows: planned ones, and those of the existing plan.

They are few, and each has metadata of its own, so they go one by one next to the columns of a
chunk.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import apsw
import msgspec
import numpy as np

from schedd.engine.calendar import NONE, iso
from schedd.engine.coercions import integer_of, text_of

from .existing import NUMBER_COLUMNS, SKIPPED, ExistingRows
from .odd_values import OddValues, paired
from .schema import PLAN, PLAN_CONTENT, Schema


class FollowUpRow(msgspec.Struct, frozen=True, array_like=True):
    """A planned follow-up as the file stores it, in the order in which the digest of a plan has it.

    The send time is the run's, and thus not here.
    """

    contact_id: int
    email_type: str
    scheduled_send_date: str
    status: str
    skip_reason: str | None
    priority: int
    campaign_instance_id: int | None
    email_template: str | None
    sms_template: str | None
    event_year: int
    event_month: int
    event_day: int
    metadata: str

    @property
    def key(self) -> FollowUpKey:
        """Return what identifies the row in the file."""
        return self.contact_id, self.email_type, self.scheduled_send_date

    def content(self) -> tuple[Any, ...]:
        """Return the columns besides the key: those of `PLAN_CONTENT` without the send time."""
        return msgspec.structs.astuple(self)[3:]


class ParentValues(NamedTuple):
    """The columns of a sent e-mail that are copied to its follow-up."""

    email_type: str
    priority: int
    campaign_instance_id: int | None


class ExistingFollowUp(msgspec.Struct, frozen=True, array_like=True):
    """A follow-up of the existing plan. Another program may have written values of any type.

    scheduled_send_date: None if it cannot be read.   exact_key: whether contact and date are
    stored as those of a planned row are; other rows are replaced.
    """

    row_id: int
    contact_id: int
    email_type: str
    scheduled_send_date: str | None
    exact_key: bool
    scheduled_send_time: Any
    status: Any
    skip_reason: Any
    priority: Any
    campaign_instance_id: Any
    email_template: Any
    sms_template: Any
    event_year: Any
    event_month: Any
    event_day: Any
    metadata: Any

    @property
    def key(self) -> tuple[int, str, str | None]:
        """Return what identifies the row in the file."""
        return self.contact_id, self.email_type, self.scheduled_send_date

    def content(self) -> tuple[Any, ...]:
        """Return the columns of `PLAN_CONTENT`."""
        return msgspec.structs.astuple(self)[5:]

    def says(self, planned: FollowUpRow, send_time: str) -> bool:
        """Return whether the row has all columns of a planned one, the key aside."""
        return self.content() == (send_time, *planned.content())


FollowUpKey = tuple[int, str, str]


def existing_followups(
    connection: apsw.Connection, schema: Schema, existing: ExistingRows
) -> list[ExistingFollowUp]:
    """Return the follow-ups of the existing plan among the rows of a chunk."""
    chosen = np.flatnonzero((existing.kind <= SKIPPED) & existing.followup)
    if not len(chosen):
        return []
    columns = schema.columns[PLAN]
    names = [f"s.{name}" if name in columns else "NULL" for name in PLAN_CONTENT]
    rows = OddValues(connection).by_id(
        PLAN, existing.row_id[chosen], ["s.id", "s.email_type", "s.scheduled_send_date", *names]
    )
    # Columns of type TEXT or REAL hold the numbers that they were given in another form.
    converted = [
        name in NUMBER_COLUMNS and schema.affinity(PLAN, name) in {"TEXT", "REAL"}
        for name in PLAN_CONTENT
    ]
    result = []
    for index, (row_id, email_type, date, *values) in paired(chosen.tolist(), rows):
        exact, day = bool(existing.exact_key[index]), int(existing.date[index])
        # A date that is not written as a planned row's is shown as the day that it stands for.
        written = date if exact else iso(day) if day != NONE else None
        content = [
            integer_of(value) if convert and value is not None else _packable(value)
            for value, convert in zip(values, converted, strict=True)
        ]
        result.append(
            ExistingFollowUp(
                row_id,
                int(existing.contact_id[index]),
                text_of(email_type),
                written,
                exact,
                *content,
            )
        )
    return result


def _packable(value: Any) -> Any:
    """Return a BLOB as a text that no planned row has; other values as they are."""
    return repr(value) if isinstance(value, bytes) else value
