"""Follow-ups of the existing plan, as complete rows.

They are few, and each has metadata of its own.
"""

from __future__ import annotations

from typing import Any

import apsw
import numpy as np

from schedd.engine.calendar import NONE, iso
from schedd.engine.coercions import integer_of, text_of

from .existing import NUMBER_COLUMNS, SKIPPED, ExistingRows
from .odd_values import OddValues
from .schema import PLAN, PLAN_CONTENT, Schema


def existing_followups(
    connection: apsw.Connection, schema: Schema, existing: ExistingRows
) -> list[list[Any]]:
    """Return (id, contact_id, email_type, scheduled_send_date, then `PLAN_CONTENT`, exact) of the plan's follow-ups.

    exact: whether contact and date are stored as those of a planned row are; other rows are
    replaced.
    """
    chosen = np.flatnonzero((existing.kind <= SKIPPED) & existing.followup)
    if not len(chosen):
        return []
    columns = schema.columns[PLAN]
    names = [f"s.{name}" if name in columns else "NULL" for name in PLAN_CONTENT]
    rows = OddValues(connection).by_id(
        PLAN, existing.row_id[chosen], ["s.id", "s.email_type", "s.scheduled_send_date", *names]
    )
    # A column that holds numbers as TEXT or REAL says what it was given.
    converted = [
        name in NUMBER_COLUMNS and schema.affinity(PLAN, name) in {"TEXT", "REAL"}
        for name in PLAN_CONTENT
    ]
    result = []
    for index, (row_id, email_type, date, *values) in zip(chosen.tolist(), rows, strict=True):
        contact = int(existing.contact_id[index])
        shown = [
            integer_of(value) if convert and value is not None else value
            for value, convert in zip(values, converted, strict=True)
        ]
        exact, day = bool(existing.exact_key[index]), int(existing.date[index])
        # A date that is not written as a planned row's is shown as the day that it stands for.
        written = date if exact else iso(day) if day != NONE else None
        result.append(
            [row_id, contact, text_of(email_type), written, *map(_packable, shown), exact]
        )
    return result


def _packable(value: Any) -> Any:
    """Return a value that equals no planned one where it is a BLOB."""
    return repr(value) if isinstance(value, bytes) else value
