"""Present follow-ups of the plan, whole: they are few, and each has metadata of its own."""

from __future__ import annotations

from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from .schema import PLAN, Schema

_COLUMNS = (
    "scheduled_send_time",
    "status",
    "skip_reason",
    "priority",
    "campaign_instance_id",
    "email_template",
    "sms_template",
    "event_year",
    "event_month",
    "event_day",
    "metadata",
)


def present_followups(connection: apsw.Connection, schema: Schema, row_ids: NDArray[np.int64]) -> list[list[Any]]:
    """Return (id, contact_id, email_type, scheduled_send_date, then `_COLUMNS`) of the rows with these ids."""
    if not len(row_ids):
        return []
    present = schema.columns[PLAN]
    columns = ", ".join(f"s.{name}" if name in present else "NULL" for name in _COLUMNS)
    rows = connection.execute(
        f"SELECT s.id, s.contact_id, s.email_type, s.scheduled_send_date, {columns} "
        f"FROM carray(?) AS wanted CROSS JOIN {PLAN} s ON s.id = wanted.value",
        (apsw.carray(np.ascontiguousarray(row_ids)),),
    )
    return [[repr(v) if isinstance(v, bytes) else v for v in row] for row in rows]
