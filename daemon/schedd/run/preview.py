"""What a dry run would change, told row by row: for `schedctl preview`.

Only computed when asked for.
"""

from __future__ import annotations

from collections import Counter as Names
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import NONE, iso
from schedd.engine.difference import Difference
from schedd.engine.rows import NOT_SKIPPED, SKIP_REASONS, RowClasses, Rows
from schedd.store.existing import SKIPPED, ExistingRows
from schedd.store.odd_values import email_types
from schedproto import Preview, RowChange, TypeChanges

from .followups import FollowUpChange

#: Changes of each type and kind that are shown one by one.
EXAMPLES = 5
#: A reason that is none of the scheduler's.
_OTHER_REASON = "another reason"


@dataclass
class _Side:
    """Rows before or after. kind: type number.

    reason: number in `SKIP_REASONS`, -1 for another text.
    """

    contact: NDArray[np.int64]
    kind: NDArray[np.int64]
    date: NDArray[np.int32]
    reason: NDArray[np.int16]

    def take(self, chosen: NDArray[Any]) -> _Side:
        return _Side(
            self.contact[chosen], self.kind[chosen], self.date[chosen], self.reason[chosen]
        )

    def __len__(self) -> int:
        return len(self.contact)


def shown_rows(
    connection: Any, present: ExistingRows, classes: RowClasses
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return what is to be told of the present plan rows, follow-ups aside, and the names of their types.

    The arrays are in the order of the chunk's `present.key`; types that the run does not know come
    behind its own.
    """
    rows = np.flatnonzero((present.kind <= SKIPPED) & ~present.followup)
    names, kinds = list(classes.types), present.type_number[rows].astype(np.int64)
    odd = np.flatnonzero(kinds < 0)
    number: dict[str, int] = {}
    for place, name in zip(
        odd.tolist(), email_types(connection, present.row_id[rows[odd]]), strict=True
    ):
        if name not in number:
            number[name] = len(names)
            names.append(name)
        kinds[place] = number[name]
    skipped = present.kind[rows] == SKIPPED
    return {
        "shown.contact": present.contact_id[rows],
        "shown.kind": kinds,
        "shown.date": present.date[rows],
        # A row that is skipped for no reason at all has another reason than any of ours.
        "shown.reason": np.where(
            skipped & (present.reason[rows] == NOT_SKIPPED), -1, present.reason[rows]
        ),
    }, names


def preview(
    classes: RowClasses,
    arrays: dict[str, NDArray[Any]],
    names: Sequence[str],
    rows: Rows,
    change: Difference,
) -> Preview:
    """Return what a chunk's difference changes, follow-ups aside.

    rows: the plan, as in `change`.
    """
    before = _Side(*(arrays[f"shown.{name}"] for name in ("contact", "kind", "date", "reason")))
    contact = arrays["people.ids"][rows.contact_index]
    after = _Side(
        contact, classes.type_number[rows.row_class].astype(np.int64), rows.date, rows.reason
    )
    inserted, deleted = change.insert, change.delete
    moved_to, moved_from = _moves(after.take(inserted), before.take(deleted))
    moves = (deleted[moved_from], inserted[moved_to])
    deleted, inserted = np.delete(deleted, moved_from), np.delete(inserted, moved_to)
    nothing = np.zeros(0, np.int64)
    result = Counter(names)
    result.add("moved", before.take(moves[0]), after.take(moves[1]))
    result.add("updated", before.take(change.updated), after.take(change.update))
    result.add("deleted", before.take(deleted), after.take(nothing))
    result.add("inserted", before.take(nothing), after.take(inserted))
    kept = np.ones(len(rows), np.bool_)
    kept[change.insert] = kept[change.update] = False
    result.add_unchanged(after.kind[kept])
    present = before.date[(before.reason == NOT_SKIPPED) & (before.date != NONE)]
    days, counts = np.unique(present, return_counts=True)
    volume = {iso(day): count for day, count in zip(days.tolist(), counts.tolist(), strict=True)}
    return Preview(types=result.types, volume_present=volume, examples=result.examples)


def _moves(after: _Side, before: _Side) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which new rows and which deleted ones are the same e-mail on another day.

    Same contact and type.
    """
    if not len(after) or not len(before):
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    _, contact = np.unique(np.concatenate([after.contact, before.contact]), return_inverse=True)
    kind = np.concatenate([after.kind, before.kind])
    keys = contact * (int(kind.max()) + 1) + kind
    ranks = np.concatenate([_ranks(keys[: len(after)]), _ranks(keys[len(after) :])])
    keys = keys * (int(ranks.max()) + 1) + ranks
    _, one, other = np.intersect1d(
        keys[: len(after)], keys[len(after) :], assume_unique=True, return_indices=True
    )
    return one, other


def _ranks(keys: NDArray[Any]) -> NDArray[np.int64]:
    """Return the how-manieth each key is among equal ones."""
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

    def _count(self, kinds: NDArray[np.int64], change: str) -> None:
        for kind, number in zip(*np.unique(kinds, return_counts=True), strict=True):
            counts = self._counts.setdefault(self._names[kind], {})
            counts[change] = counts.get(change, 0) + int(number)

    def add_unchanged(self, kinds: NDArray[np.int64]) -> None:
        """Count rows that stay as they are."""
        self._count(kinds, "unchanged")

    def add(self, change: str, before: _Side, after: _Side) -> None:
        """Count rows that change.

        Where both sides have rows, they belong together in their order.
        """
        kinds = after.kind if len(after) else before.kind
        self._count(kinds, change)
        for kind in np.unique(kinds).tolist():
            for index in np.flatnonzero(kinds == kind)[:EXAMPLES].tolist():
                facts = _facts(before, index, "before") | _facts(after, index, "after")
                contact = int((after if len(after) else before).contact[index])
                self.examples.append(
                    RowChange(
                        contact_id=contact, email_type=self._names[kind], change=change, **facts
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


def of_followups(change: FollowUpChange, present: Sequence[Sequence[Any]]) -> Preview:
    """Return what changes in the follow-ups of a chunk.

    `present`: rows as `store.followups` returns them.
    """
    types: dict[str, dict[str, int]] = {}
    examples: list[RowChange] = []

    def count(kind: str, what: str, number: int = 1) -> None:
        counts = types.setdefault(kind, {})
        counts[what] = counts.get(what, 0) + number

    def tell(
        what: str, contact: int, kind: str, before: Sequence[Any], after: Sequence[Any]
    ) -> None:
        count(kind, what)
        facts: dict[str, Any] = dict(zip(_BEFORE, before, strict=False)) | dict(
            zip(_AFTER, after, strict=False)
        )
        facts = {name: None if value is None else str(value) for name, value in facts.items()}
        examples.append(RowChange(contact_id=contact, email_type=kind, change=what, **facts))

    # A new row begins with contact and type, a present one has its id before them and its send time
    # behind the date.
    for row in change.insert:
        tell("inserted", row[0], row[1], (), row[2:5])
    for old, (_, new) in zip(change.updated, change.update, strict=True):
        tell("updated", new[0], new[1], (old[3], old[5], old[6]), new[2:5])
    for gone in change.deleted:
        tell("deleted", gone[1], gone[2], (gone[3], gone[5], gone[6]), ())
    for kind, _, number in change.counts:
        count(kind, "unchanged", number)
    for row in (*change.insert, *(row for _, row in change.update)):
        count(row[1], "unchanged", -1)
    volume: dict[str, int] = {}
    for was in present:
        if was[5] == "pre-scheduled" and was[3] is not None:
            volume[was[3]] = volume.get(was[3], 0) + 1
    return merge(
        [
            Preview(
                types={k: TypeChanges(**v) for k, v in types.items()},
                volume_present=volume,
                examples=examples,
            )
        ]
    )


def of_orphans(connection: Any, row_ids: Sequence[int]) -> Preview:
    """Return the plan rows that go because they belong to no contact."""
    names = Names(email_types(connection, np.array(row_ids, np.int64)))
    return Preview(types={name: TypeChanges(deleted=count) for name, count in names.items()})


_BEFORE = ("date_before", "status_before", "reason_before")
_AFTER = ("date_after", "status_after", "reason_after")


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
