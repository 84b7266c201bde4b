"""Follow-ups of a chunk: planned rows, and their difference to the existing ones.

They are few, and each has metadata of its own, so they go one by one next to the columns of a
chunk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import iso, parts
from schedd.engine.difference import KeyConflicts
from schedd.engine.followups import FollowUps
from schedd.engine.packing import pack_keys, pack_state_types
from schedd.engine.rows import FOLLOWUP_TYPES, NOT_SKIPPED, SKIP_REASONS
from schedd.engine.run import ChunkInput, Run
from schedd.store.followups import ExistingFollowUp, FollowUpRow, ParentValues

from .chunk_data import FollowUpCount, FollowUpUpdate, PlannedChunk, PlannedFollowUp


def planned_followups(
    run: Run, chunk: ChunkInput, followups: FollowUps, parent_values: Sequence[ParentValues]
) -> list[PlannedFollowUp]:
    """Return the planned follow-ups of a chunk as rows for the store."""
    numbers = {name: number for number, name in enumerate(run.classes.types)}
    dates = zip(*(part.tolist() for part in parts(followups.event)), strict=True)
    planned = []
    for index, (year, month, day) in enumerate(dates):
        contact_index = int(followups.contact_index[index])
        send_date, reason = int(followups.date[index]), int(followups.reason[index])
        email_type = FOLLOWUP_TYPES[followups.kind[index]]
        parent = int(followups.parent[index])
        values = parent_values[parent]
        row = FollowUpRow(
            contact_id=int(chunk.people.ids[contact_index]),
            email_type=email_type,
            scheduled_send_date=iso(send_date),
            status="pre-scheduled" if reason == NOT_SKIPPED else "skipped",
            skip_reason=SKIP_REASONS[reason] or None,
            priority=values.priority,
            campaign_instance_id=values.campaign_instance_id,
            email_template=run.configuration.template(email_type),
            sms_template=None,
            event_year=year,
            event_month=month,
            event_day=day,
            metadata=_metadata(int(chunk.parents.row_id[parent]), values.email_type),
        )
        number = numbers[email_type]
        planned.append(PlannedFollowUp(contact_index, number, send_date, reason, row))
    return planned


def _metadata(parent_id: int, parent_type: str) -> str:
    return msgspec.json.encode({"parent_id": parent_id, "parent_type": parent_type}).decode()


@dataclass
class FollowUpChange:
    """The planned follow-ups of a chunk, and what they change.

    planned: those whose key is free.   insert, update, delete: changes; `update` and `delete` are
    about existing rows.   unchanged: existing rows that are right.
    key_conflicts: follow-ups left out because a row with a void status has their key.
    """

    planned: list[PlannedFollowUp] = field(default_factory=list)
    insert: list[FollowUpRow] = field(default_factory=list)
    update: list[FollowUpUpdate] = field(default_factory=list)
    delete: list[ExistingFollowUp] = field(default_factory=list)
    unchanged: int = 0
    key_conflicts: int = 0

    @property
    def deleted_ids(self) -> NDArray[np.int64]:
        """Return the row ids of the deleted rows."""
        return np.array([row.row_id for row in self.delete], np.int64)

    def counts(self) -> list[FollowUpCount]:
        """Return the number of planned rows of each type and reason."""
        counts = Counter((item.row.email_type, item.reason) for item in self.planned)
        return [FollowUpCount(*key, count) for key, count in counts.items()]

    def days(self) -> NDArray[np.int32]:
        """Return the send dates of the pre-scheduled rows."""
        return np.array([item.date for item in self.planned if not item.reason], np.int32)

    def state_types(self, state: NDArray[np.int8], types: int) -> NDArray[np.int32]:
        """Return state and type of the pre-scheduled rows as `packing.pack_state_types`.

        state: of the chunk's people.   types: number of types of the run.
        """
        sent = [item for item in self.planned if item.reason == NOT_SKIPPED]
        contact_index = np.array([item.contact_index for item in sent], np.int32)
        numbers = np.array([item.type_number for item in sent], np.int32)
        return pack_state_types(state[contact_index], numbers, types)


def finish_followups(run: Run, chunk: PlannedChunk) -> FollowUpChange:
    """Compare the planned follow-ups of a chunk with the existing ones, row by row."""
    change, send_time = FollowUpChange(), run.configuration.send_time
    existing, surplus = _existing_by_key(chunk.existing_followups)
    for item in _free(chunk.followups, chunk.conflicts, change):
        change.planned.append(item)
        old = existing.pop(item.row.key, None)
        if old is None:
            change.insert.append(item.row)
        elif old.says(item.row, send_time):
            change.unchanged += 1
        else:
            change.update.append(FollowUpUpdate(old, item.row))
    change.delete = [*existing.values(), *surplus]
    return change


def _existing_by_key(
    rows: Sequence[ExistingFollowUp],
) -> tuple[dict[tuple[int, str, str | None], ExistingFollowUp], list[ExistingFollowUp]]:
    """Return the first row of each key, and the surplus rows.

    A row whose key is not stored as a planned row's is surplus, too: it cannot be updated into one.
    """
    by_key: dict[tuple[int, str, str | None], ExistingFollowUp] = {}
    surplus = [
        row for row in rows if not row.exact_key or by_key.setdefault(row.key, row) is not row
    ]
    return by_key, surplus


def _free(
    planned: Sequence[PlannedFollowUp], conflicts: KeyConflicts, change: FollowUpChange
) -> list[PlannedFollowUp]:
    """Return the follow-ups whose key is free, and count conflicts with void rows in `change`."""
    dispatched, others = set(conflicts.dispatched.tolist()), set(conflicts.others.tolist())
    keys = pack_keys(
        np.array([item.contact_index for item in planned], np.int64),
        np.array([item.type_number for item in planned], np.int64),
        np.array([item.date for item in planned], np.int64),
    )
    free = []
    for item, key in zip(planned, keys.tolist(), strict=True):
        if key in others:
            change.key_conflicts += 1
        elif key not in dispatched:
            free.append(item)
    return free
