"""The data that the steps of a run exchange: tasks, the columns of a chunk, and replies.

A run works on chunks of contacts. For each chunk, `planning.plan_chunk` saves a `PlannedChunk` in
the scratch folder, load balancing changes dates in it, and `finishing.finish_chunk` reads it and
saves a `FinishedChunk`. Columns travel in these files (`shared_arrays`); the coordinator of the job
gets only a `PlanReply` and a `FinishReply`.

Arrays that belong together have one element for each row, contact or issue. A `contact_index` is an
index into the chunk's `people`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import Ordinals
from schedd.engine.contacts import People
from schedd.engine.difference import KeyConflicts
from schedd.engine.packing import NO_KEY, groups_of
from schedd.engine.rows import History, Rows
from schedd.store.followups import ExistingFollowUp, FollowUpRow
from schedd.store.write import PlainRows
from schedproto import Preview, RunWarning

#: The two sums of a plan's digest (`plan_digest`).
Sums = tuple[int, int]


class ChunkTask(msgspec.Struct, frozen=True):
    """One chunk of a run: the contacts with ids from `low` to below `high` (None: no upper end).

    folder: the scratch folder.   name: of the chunk's files there.
    first: whether it is the first chunk of the run.
    preview: whether to report each change.   digest: whether to compute the plan's digest.
    """

    folder: str
    name: str
    low: int
    high: int | None
    first: bool = True
    preview: bool = False
    digest: bool = False

    @property
    def planned_file(self) -> Path:
        """Return the file of the chunk's `PlannedChunk`."""
        return Path(self.folder) / self.name

    @property
    def finished_file(self) -> Path:
        """Return the file of the chunk's `FinishedChunk`."""
        return Path(self.folder) / f"{self.name}.out"


# Planned chunks ----------------------------------------------------------------------------------


class PlannedFollowUp(msgspec.Struct, frozen=True, array_like=True):
    """A planned follow-up: its row, and the numbers that its columns stand for.

    contact_index: index in the chunk's `people`.   type_number: index in `RowClasses.types`.
    date: ordinal of the send date.   reason: number in `SKIP_REASONS`.
    """

    contact_index: int
    type_number: int
    date: int
    reason: int
    row: FollowUpRow


@dataclass
class ExistingPlan:
    """The existing rows of the plan in a chunk, follow-ups aside, in one order.

    keys: as `packing.pack_keys`, `NO_KEY` if no planned row can have the key.
    contents: as `store.packing.pack_contents`, `FOREIGN` if no planned row says the same.
    row_id: of `email_schedules`.   ahead: whether it is an e-mail of the run's date or later.
    keyless: indices of the rows without a key.   keyless_groups: contact and type of each of those
    as `packing.pack_groups`, `NO_KEY` if no planned row can have them.
    """

    keys: NDArray[np.int64]
    contents: NDArray[np.int64]
    row_id: NDArray[np.int64]
    ahead: NDArray[np.bool_]
    keyless: NDArray[np.int64]
    keyless_groups: NDArray[np.int64]

    def groups(self) -> NDArray[np.int64]:
        """Return contact and type of each row, `NO_KEY` if no planned row can have them."""
        groups = groups_of(self.keys)
        groups[self.keyless] = self.keyless_groups
        return groups

    def ascending_groups(self) -> NDArray[np.int64]:
        """Return contact and type of the e-mails ahead, ascending; rows with one key count once."""
        keys = np.sort(self.keys[self.ahead], kind="stable")
        first = np.ones(len(keys), np.bool_)
        first[1:] = (keys[1:] != keys[:-1]) & (keys[1:] > NO_KEY)
        groups = groups_of(keys[first])
        keyless = self.keyless_groups[self.ahead[self.keyless]]
        return np.sort(np.concatenate([groups, keyless])) if len(keyless) else groups


@dataclass
class ShownRows:
    """The columns of an `ExistingPlan` that a preview shows, in the order of its rows.

    type_index: index in `names`, which begins with `RowClasses.types`.   date: `NONE` if it
    cannot be read.   reason: number in `SKIP_REASONS`, -1 for another text.
    """

    contact_id: NDArray[np.int64]
    type_index: NDArray[np.int64]
    date: Ordinals
    reason: NDArray[np.int16]
    names: list[str]


@dataclass
class IssueColumns:
    """The issues of a chunk's contacts. kind: number in `contacts.ISSUES`."""

    contact_id: NDArray[np.int64]
    kind: NDArray[np.int8]


@dataclass
class PlannedChunk:
    """A chunk that is read and planned; `rows.date` changes when the plan is balanced.

    followups_ahead: the contact of each existing follow-up of the run's date or later.
    shown: for a preview.
    """

    people: People
    rows: Rows
    history: History
    existing: ExistingPlan
    conflicts: KeyConflicts
    issues: IssueColumns
    followups: list[PlannedFollowUp]
    existing_followups: list[ExistingFollowUp]
    followups_ahead: NDArray[np.int64]
    shown: ShownRows | None


class PlanReply(msgspec.Struct, frozen=True):
    """The result of `plan_chunk` for the coordinator. Dates are ordinals.

    rows: planned rows with follow-ups.   existing: existing rows of the plan.
    dispatched, followups: date -> rows that load balancing cannot move.
    volume: date -> pre-scheduled rows before it, follow-ups included.
    unreadable: contacts with a date or a boolean that cannot be read.
    ahead: the run's date or a later one -> existing planned e-mails.
    highest: the highest contact id of an existing row.
    """

    contacts: int
    eligible: int
    rows: int
    existing: int
    dispatched: dict[int, int]
    followups: dict[int, int]
    volume: dict[int, int]
    warnings: list[RunWarning] = []
    unreadable: int = 0
    ahead: dict[int, int] = {}
    highest: int | None = None


# Finished chunks ---------------------------------------------------------------------------------


@dataclass
class FinishedChunk:
    """The changes of a chunk, the planned follow-ups aside.

    insert: new rows.   update, updated_row_id: rows as they should be, and the existing ones.
    delete: row ids, those of follow-ups included.
    """

    insert: PlainRows
    update: PlainRows
    updated_row_id: NDArray[np.int64]
    delete: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.insert) + len(self.update) + len(self.delete)


class FollowUpUpdate(msgspec.Struct, frozen=True, array_like=True):
    """An existing follow-up, and what it should say."""

    existing: ExistingFollowUp
    planned: FollowUpRow


class FollowUpCount(msgspec.Struct, frozen=True, array_like=True):
    """The number of planned follow-ups of a type. reason: number in `SKIP_REASONS`."""

    email_type: str
    reason: int
    count: int


class FinishReply(msgspec.Struct, frozen=True):
    """The result of `finish_chunk` for the coordinator, next to the `FinishedChunk`.

    dropped: duplicates.   key_conflicts: rows whose key a row with a void status has.
    kinds: `packing.pack_kinds` -> planned rows.   volume: date -> pre-scheduled rows.
    states: `packing.pack_state_types` -> pre-scheduled rows.
    followup_inserts, followup_updates: changes of follow-ups.
    removed: existing planned e-mails that the plan no longer has (`guards`).
    preview, sums: if the task asks for a preview and for the plan's digest.
    """

    planned: int
    unchanged: int
    dropped: int
    key_conflicts: int
    kinds: dict[int, int]
    volume: dict[int, int]
    states: dict[int, int]
    followup_inserts: list[FollowUpRow]
    followup_updates: list[FollowUpUpdate]
    followup_counts: list[FollowUpCount]
    removed: int
    preview: Preview | None = None
    sums: Sums = (0, 0)
