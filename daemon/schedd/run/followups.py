"""Follow-ups as rows.

Few, each with metadata of its own, so they go one by one beside the columns of a chunk.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import iso, parts
from schedd.engine.difference import pack_keys
from schedd.engine.followups import FollowUps
from schedd.engine.rows import FOLLOWUP_TYPES, SKIP_REASONS
from schedd.engine.run import Run


def followup_rows(
    run: Run,
    people: NDArray[np.int64],
    followups: FollowUps,
    parent_ids: NDArray[np.int64],
    parent_values: list[tuple[Any, ...]],
) -> list[list[Any]]:
    """Return follow-ups as rows for the store, each with what the finishing step needs before it.

    (index of the contact, ordinal of the date, reason number, then the columns of
    `PlanWriter.insert_followups`)
    """
    years, months, days = parts(followups.event)
    rows = []
    for index in range(len(followups)):
        parent = int(followups.parent[index])
        parent_type, priority, instance = parent_values[parent]
        kind = FOLLOWUP_TYPES[followups.kind[index]]
        reason = int(followups.reason[index])
        metadata = {"parent_id": int(parent_ids[parent]), "parent_type": parent_type}
        rows.append(
            [
                int(followups.contact_index[index]),
                int(followups.date[index]),
                reason,
                int(people[followups.contact_index[index]]),
                kind,
                iso(int(followups.date[index])),
                "skipped" if reason else "pre-scheduled",
                SKIP_REASONS[reason] or None,
                priority,
                instance,
                run.configuration.template(kind),
                None,
                int(years[index]),
                int(months[index]),
                int(days[index]),
                msgspec.json.encode(metadata).decode(),
            ]
        )
    return rows


class FollowUpChange(msgspec.Struct):
    """What the follow-ups of a chunk change.

    days, states: of the pre-scheduled ones, the latter as `Finished.states`.

    insert: rows as `PlanWriter.insert_followups` takes them; update: (row id, row), and `updated`
    as they are now;
    deleted: existing rows that go (`store.followups`).   rows: all that are planned, as those of
    `insert`.
    """

    insert: list[list[Any]]
    update: list[tuple[int, list[Any]]]
    updated: list[list[Any]]
    deleted: list[list[Any]]
    counts: list[tuple[str, int, int]]
    days: list[int]
    states: list[int]
    rows: list[list[Any]]
    unchanged: int = 0
    held: int = 0

    @property
    def planned(self) -> int:
        """Return how many rows are planned."""
        return len(self.rows)

    @property
    def delete(self) -> NDArray[np.int64]:
        """Return the ids of the rows that go."""
        return np.array([row[0] for row in self.deleted], np.int64)


def finish_followups(
    run: Run, arrays: dict[str, NDArray[Any]], extra: dict[str, Any]
) -> FollowUpChange:
    """Compare planned follow-ups, few and with columns of their own, with the existing ones row by row."""
    number = {name: index for index, name in enumerate(run.classes.types)}
    dispatched = set(arrays["held.dispatched"].tolist())
    others = set(arrays["held.other"].tolist())
    existing: dict[Any, Any] = {}
    surplus = [
        row
        for row in extra["existing_followups"]
        if not row[-1] or existing.setdefault(tuple(row[1:4]), row) is not row
    ]
    change = FollowUpChange([], [], [], [], [], [], [], [])
    counts: dict[tuple[str, int], int] = {}
    for contact_index, day, reason, *row in extra["followups"]:
        [key] = pack_keys(
            np.array([contact_index]), np.array([number[row[1]]]), np.array([day])
        ).tolist()
        if key in others or key in dispatched:
            change.held += key in others
            continue
        counts[row[1], reason] = counts.get((row[1], reason), 0) + 1
        change.rows.append(row)
        if not reason:
            change.days.append(day)
            change.states.append(
                int(arrays["people.state"][contact_index]) * len(number) + number[row[1]]
            )
        old = existing.pop((row[0], row[1], row[2]), None)
        if old is None:
            change.insert.append(row)
        elif old[4:-1] == [run.configuration.send_time, *row[3:]]:
            change.unchanged += 1
        else:
            change.update.append((old[0], row))
            change.updated.append(old)
    change.deleted = [*existing.values(), *surplus]
    change.counts = [(kind, reason, count) for (kind, reason), count in counts.items()]
    return change
