"""The preview of a dry run: what it would change, row by row (`schedctl preview`).

Only computed if the job is a dry run.
"""

from __future__ import annotations

from collections import Counter as Names
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import NONE, iso
from schedd.engine.difference import Difference
from schedd.engine.rows import NOT_SKIPPED, SKIP_REASONS, RowClasses, Rows
from schedd.store.existing import SKIPPED, ExistingRows
from schedd.store.followups import ExistingFollowUp, FollowUpRow
from schedd.store.odd_values import email_types
from schedproto import Preview, RowChange, TypeChanges

from .chunk_data import ShownRows
from .followups import FollowUpChange

#: Changes of each type and kind that are shown one by one.
EXAMPLES = 5
#: A reason that is none of the scheduler's.
_OTHER_REASON = "another reason"


@dataclass
class _Side:
    """Rows before or after. Columns as in `ShownRows`."""

    contact_id: NDArray[np.int64]
    type_index: NDArray[np.int64]
    date: NDArray[np.int32]
    reason: NDArray[np.int16]

    def take(self, chosen: NDArray[Any]) -> _Side:
        return _Side(
            self.contact_id[chosen], self.type_index[chosen], self.date[chosen], self.reason[chosen]
        )

    def __len__(self) -> int:
        return len(self.contact_id)


_NO_ROWS = np.zeros(0, np.int64)


def shown_rows(
    connection: apsw.Connection, existing: ExistingRows, classes: RowClasses
) -> ShownRows:
    """Return what a preview shows of the rows of the existing plan, follow-ups aside.

    Types that the run does not know come after its own in `names`.
    """
    rows = existing.plain_plan()
    names, type_index = list(classes.types), existing.type_number[rows].astype(np.int64)
    unknown = np.flatnonzero(type_index < 0)
    number: dict[str, int] = {}
    unknown_names = email_types(connection, existing.row_id[rows[unknown]])
    for index, name in zip(unknown.tolist(), unknown_names, strict=True):
        if name not in number:
            number[name] = len(names)
            names.append(name)
        type_index[index] = number[name]

    # A skipped row without a reason has another reason than any of ours.
    reason = existing.reason[rows]
    unexplained = (existing.kind[rows] == SKIPPED) & (reason == NOT_SKIPPED)
    return ShownRows(
        contact_id=existing.contact_id[rows],
        type_index=type_index,
        date=existing.date[rows],
        reason=np.where(unexplained, np.int16(-1), reason),
        names=names,
    )


def of_rows(
    classes: RowClasses,
    shown: ShownRows,
    contact_id: NDArray[np.int64],
    rows: Rows,
    change: Difference,
) -> Preview:
    """Return what a chunk's difference changes, follow-ups aside.

    shown: the existing rows.   rows, contact_id: the planned rows and their contacts.
    """
    before = _Side(shown.contact_id, shown.type_index, shown.date, shown.reason)
    type_index = classes.type_number[rows.row_class].astype(np.int64)
    after = _Side(contact_id, type_index, rows.date, rows.reason)

    moved_to, moved_from = _moves(after.take(change.insert), before.take(change.delete))
    inserted = np.delete(change.insert, moved_to)
    deleted = np.delete(change.delete, moved_from)
    kept = np.ones(len(rows), np.bool_)
    kept[change.insert] = kept[change.update] = False

    counter = Counter(shown.names)
    counter.add(
        "moved",
        before.take(change.delete[moved_from]),
        after.take(change.insert[moved_to]),
    )
    counter.add("updated", before.take(change.updated), after.take(change.update))
    counter.add("deleted", before.take(deleted), after.take(_NO_ROWS))
    counter.add("inserted", before.take(_NO_ROWS), after.take(inserted))
    counter.add_unchanged(after.type_index[kept])
    return Preview(types=counter.types, volume_present=_volume(before), examples=counter.examples)


def _volume(rows: _Side) -> dict[str, int]:
    """Return date -> pre-scheduled rows."""
    dates = rows.date[(rows.reason == NOT_SKIPPED) & (rows.date != NONE)]
    days, counts = np.unique(dates, return_counts=True)
    return {iso(day): count for day, count in zip(days.tolist(), counts.tolist(), strict=True)}


def _moves(after: _Side, before: _Side) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which new and which deleted rows are one e-mail that moves to another day.

    These have the same contact and type; of several, the first new one belongs to the first
    deleted one, and so on.
    """
    if not len(after) or not len(before):
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    _, contact = np.unique(
        np.concatenate([after.contact_id, before.contact_id]), return_inverse=True
    )
    type_index = np.concatenate([after.type_index, before.type_index])
    keys = contact * (int(type_index.max()) + 1) + type_index
    ranks = np.concatenate([_ranks(keys[: len(after)]), _ranks(keys[len(after) :])])
    keys = keys * (int(ranks.max()) + 1) + ranks
    _, one, other = np.intersect1d(
        keys[: len(after)], keys[len(after) :], assume_unique=True, return_indices=True
    )
    return one, other


def _ranks(keys: NDArray[Any]) -> NDArray[np.int64]:
    """Return the occurrence index of each key: 0 for the first of equal ones, then 1, 2, ..."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ranks = np.zeros(len(keys), np.int64)
    ranks[order] = np.arange(len(keys)) - np.repeat(starts, np.diff(np.append(starts, len(keys))))
    return ranks


class Counter:
    """Counts changes by type and keeps the first ones of each type and kind."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._counts: dict[str, dict[str, int]] = {}
        self.examples: list[RowChange] = []

    @property
    def types(self) -> dict[str, TypeChanges]:
        """Return the counts."""
        return {name: TypeChanges(**counts) for name, counts in self._counts.items()}

    def _count(self, type_index: NDArray[np.int64], change: str) -> None:
        for index, number in zip(*np.unique(type_index, return_counts=True), strict=True):
            counts = self._counts.setdefault(self._names[index], {})
            counts[change] = counts.get(change, 0) + int(number)

    def add_unchanged(self, type_index: NDArray[np.int64]) -> None:
        """Count rows that stay as they are."""
        self._count(type_index, "unchanged")

    def add(self, change: str, before: _Side, after: _Side) -> None:
        """Count rows that change. If both sides have rows, they belong together in their order."""
        shown = after if len(after) else before
        self._count(shown.type_index, change)
        for number in np.unique(shown.type_index).tolist():
            for index in np.flatnonzero(shown.type_index == number)[:EXAMPLES].tolist():
                facts = _facts(before, index, "before") | _facts(after, index, "after")
                self.examples.append(
                    RowChange(
                        contact_id=int(shown.contact_id[index]),
                        email_type=self._names[number],
                        change=change,
                        **facts,
                    )
                )


def _facts(side: _Side, index: int, when: str) -> dict[str, Any]:
    if not len(side):
        return {}
    reason, day = int(side.reason[index]), int(side.date[index])
    return {
        f"date_{when}": iso(day) if day != NONE else None,
        f"status_{when}": "pre-scheduled" if reason == NOT_SKIPPED else "skipped",
        f"reason_{when}": _OTHER_REASON if reason < 0 else SKIP_REASONS[reason] or None,
    }


def of_followups(change: FollowUpChange, existing: Sequence[ExistingFollowUp]) -> Preview:
    """Return what changes in the follow-ups of a chunk."""
    examples = [
        *(_followup_change("inserted", row, None, row) for row in change.insert),
        *(_followup_change("updated", u.planned, u.existing, u.planned) for u in change.update),
        *(_followup_change("deleted", row, row, None) for row in change.delete),
    ]
    volume = Names(
        row.scheduled_send_date
        for row in existing
        if row.status == "pre-scheduled" and row.scheduled_send_date is not None
    )
    # `merge` keeps the first examples of each type and kind.
    return merge(
        [Preview(types=_followup_types(change), volume_present=dict(volume), examples=examples)]
    )


def _followup_types(change: FollowUpChange) -> dict[str, TypeChanges]:
    """Return the changes of each type; the planned rows that do not change are unchanged."""
    inserted = Names(row.email_type for row in change.insert)
    updated = Names(update.planned.email_type for update in change.update)
    deleted = Names(row.email_type for row in change.delete)
    planned = Names(item.row.email_type for item in change.planned)
    return {
        name: TypeChanges(
            inserted=inserted[name],
            updated=updated[name],
            deleted=deleted[name],
            unchanged=planned[name] - inserted[name] - updated[name],
        )
        for name in {**inserted, **updated, **deleted, **planned}
    }


def _followup_change(
    change: str,
    row: FollowUpRow | ExistingFollowUp,
    before: ExistingFollowUp | None,
    after: FollowUpRow | None,
) -> RowChange:
    """Return one change. row: the one whose contact and type are shown."""
    old = (None,) * 3 if before is None else _shown_columns(before)
    new = (None,) * 3 if after is None else _shown_columns(after)
    return RowChange(
        contact_id=row.contact_id,
        email_type=row.email_type,
        change=change,
        date_before=old[0],
        status_before=old[1],
        reason_before=old[2],
        date_after=new[0],
        status_after=new[1],
        reason_after=new[2],
    )


def _shown_columns(
    row: FollowUpRow | ExistingFollowUp,
) -> tuple[str | None, str | None, str | None]:
    """Return date, status and reason as texts."""
    date, status, reason = (
        None if value is None else str(value)
        for value in (row.scheduled_send_date, row.status, row.skip_reason)
    )
    return date, status, reason


def of_orphans(connection: apsw.Connection, row_ids: Sequence[int]) -> Preview:
    """Return the preview of the deletion of plan rows that belong to no contact."""
    names = Names(email_types(connection, np.array(row_ids, np.int64)))
    return Preview(types={name: TypeChanges(deleted=count) for name, count in names.items()})


def merge(parts: Iterable[Preview]) -> Preview:
    """Return the previews of all chunks as one."""
    types: dict[str, dict[str, int]] = {}
    volume: dict[str, int] = {}
    examples: list[RowChange] = []
    seen: dict[tuple[str, str], int] = {}
    for part in parts:
        for name, changes in part.types.items():
            counts = types.setdefault(name, dict.fromkeys(TypeChanges.__struct_fields__, 0))
            for field in TypeChanges.__struct_fields__:
                counts[field] += getattr(changes, field)
        for day, count in part.volume_present.items():
            volume[day] = volume.get(day, 0) + count
        for example in part.examples:
            key = (example.email_type, example.change)
            seen[key] = seen.get(key, 0) + 1
            if seen[key] <= EXAMPLES:
                examples.append(example)
    return Preview(
        types={name: TypeChanges(**types[name]) for name in sorted(types)},
        volume_present=dict(sorted(volume.items())),
        examples=examples,
    )
