"""Plans one chunk of contacts, up to load balancing, in whatever process.

Reads the chunk from the organization's file, and saves the result as a `PlannedChunk`. Writes
nothing to the organization's file.
"""

from __future__ import annotations

from pathlib import Path

import apsw
import numpy as np
from numpy.typing import NDArray

from schedd.engine import contacts as engine_contacts
from schedd.engine.calendar import NONE
from schedd.engine.difference import FOREIGN, KeyConflicts
from schedd.engine.packing import NO_KEY, pack_groups, pack_keys, pack_kinds
from schedd.engine.rows import NOT_SKIPPED
from schedd.engine.run import ChunkPlan, Run, day_counts
from schedd.store.connection import open_reader
from schedd.store.contacts import Range
from schedd.store.errors import sqlite_errors
from schedd.store.existing import (
    DISPATCHED,
    SCHEDULED,
    SKIPPED,
    VOID,
    ExistingRows,
    find_contacts,
)
from schedd.store.followups import existing_followups
from schedd.store.packing import NO_EVENT, pack_contents

from . import preview, shared_arrays
from .chunk_data import ChunkTask, ExistingPlan, IssueColumns, PlannedChunk, PlanReply
from .followups import planned_followups
from .outside import load_outside
from .reading import ChunkRead, ChunkReader
from .run_input import load_run
from .warnings import to_warnings


def plan_chunk(task: ChunkTask) -> PlanReply:
    """Read one chunk, plan it and save it in the scratch folder."""
    folder = Path(task.folder)
    shared = load_run(folder)
    connection = open_reader(shared.database)
    try:
        with sqlite_errors(shared.database):
            connection.execute("BEGIN")
            reader = ChunkReader(shared.run, connection, load_outside(folder), shared.learned)
            read = reader.read(Range(task.low, task.high), first=task.first)
            plan = shared.run.plan_chunk(read.chunk)
            planned = _planned_chunk(shared.run, task, connection, reader, read, plan)
            shared_arrays.save(task.planned_file, planned)
            return _reply(shared.run, reader, read, plan)
    finally:
        connection.close()


def _planned_chunk(
    run: Run,
    task: ChunkTask,
    connection: apsw.Connection,
    reader: ChunkReader,
    read: ChunkRead,
    plan: ChunkPlan,
) -> PlannedChunk:
    people, existing = read.chunk.people, read.existing
    keys, conflicts = key_conflicts(run, existing, people.ids)
    ahead = _ahead(run, existing)
    return PlannedChunk(
        people=people,
        rows=plan.rows,
        history=read.chunk.history,
        existing=_existing_plan(existing, people.ids, keys, ahead),
        conflicts=conflicts,
        issues=IssueColumns(*engine_contacts.issues(read.chunk.contacts)),
        followups=planned_followups(run, read.chunk, plan.followups, read.parent_values),
        existing_followups=existing_followups(connection, reader.schema, existing),
        followups_ahead=existing.contact_id[ahead & existing.followup],
        shown=preview.shown_rows(connection, existing, run.classes) if task.preview else None,
    )


def _reply(run: Run, reader: ChunkReader, read: ChunkRead, plan: ChunkPlan) -> PlanReply:
    contacts, existing = read.chunk.contacts, read.existing
    followup_days = plan.followups.date[plan.followups.reason == NOT_SKIPPED]
    planned_days = plan.rows.date[plan.rows.reason == NOT_SKIPPED]
    dispatched = (existing.kind == DISPATCHED) & (existing.date != NONE)
    return PlanReply(
        contacts=len(contacts.ids),
        eligible=len(read.chunk.people),
        rows=len(plan.rows) + len(plan.followups),
        existing=int((existing.kind <= SKIPPED).sum()),
        dispatched=day_counts(existing.date[dispatched]),
        followups=day_counts(followup_days),
        volume=day_counts(np.concatenate([planned_days, followup_days])),
        warnings=to_warnings(reader.findings),
        unreadable=reader.count_unreadable(contacts),
        ahead=day_counts(existing.date[_ahead(run, existing)]),
        highest=int(existing.contact_id.max()) if len(existing) else None,
    )


def _ahead(run: Run, existing: ExistingRows) -> NDArray[np.bool_]:
    """Return which rows are e-mails of the existing plan for the run's date or later."""
    ahead: NDArray[np.bool_] = (existing.kind == SCHEDULED) & (existing.date >= run.as_of)
    return ahead


# Existing rows -----------------------------------------------------------------------------------


class _KeyMaker:
    """Makes the keys of a chunk's existing rows.

    people: ids of the eligible contacts, ascending.
    """

    def __init__(self, existing: ExistingRows, people: NDArray[np.int64]) -> None:
        self._date = existing.date
        self._contact_index, known = find_contacts(people, existing.contact_id)
        # A row that is not the plan's has its key as it is read (sections 0, 10 and 11). A row of
        # the plan has it only if it is stored as a planned row is: an update leaves the key as it
        # is, so another row has to be replaced.
        self._usable = known & (existing.date != NONE)
        self._usable &= existing.exact_key | (existing.kind > SKIPPED)

    def keys(self, types: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return the key of each row, given its type number; `NO_KEY` for a row without one."""
        usable = self._usable & (types >= 0)
        keys = np.full(len(types), NO_KEY, np.int64)
        keys[usable] = pack_keys(self._contact_index[usable], types[usable], self._date[usable])
        return keys


def key_conflicts(
    run: Run, existing: ExistingRows, people: NDArray[np.int64]
) -> tuple[NDArray[np.int64], KeyConflicts]:
    """Return the key of each existing row by its type as written, and the keys that conflict.

    people: ids of the eligible contacts, ascending.
    """
    maker = _KeyMaker(existing, people)
    keys = maker.keys(existing.written_type)
    folded = run.classes.folded
    dispatched = existing.kind == DISPATCHED

    # A dispatched row conflicts by its type as it is written, which is its key in the file, and by
    # its type as history compares it: in lower case and after the aliases (section 4). Several
    # planned types can be equal in lower case: `type_number` is the first of them, and the loop
    # adds the others.
    found = [keys[dispatched], maker.keys(existing.type_number)[dispatched]]
    for number in np.flatnonzero(folded != np.arange(len(folded))).tolist():
        same = dispatched & (existing.type_number == folded[number])
        found.append(maker.keys(np.where(same, np.int32(number), np.int32(-1)))[same])
    by_dispatched = np.concatenate(found)
    return keys, KeyConflicts(
        dispatched=by_dispatched[by_dispatched > NO_KEY],
        others=keys[(existing.kind == VOID) & (keys > NO_KEY)],
    )


def _existing_plan(
    existing: ExistingRows,
    people: NDArray[np.int64],
    keys: NDArray[np.int64],
    ahead: NDArray[np.bool_],
) -> ExistingPlan:
    """Return the rows of the existing plan, given the keys of all rows and which are ahead."""
    plan = existing.plain_plan()
    keyless = np.flatnonzero(keys[plan] == NO_KEY)
    return ExistingPlan(
        keys=keys[plan],
        contents=_contents(existing)[plan],
        row_id=existing.row_id[plan],
        ahead=ahead[plan],
        keyless=keyless,
        keyless_groups=_groups(existing, people, plan[keyless]),
    )


def _contents(existing: ExistingRows) -> NDArray[np.int64]:
    """Return what each row says besides its key, `FOREIGN` if no planned row says the same."""
    planned_so = existing.regular & (existing.row_class >= 0) & (existing.reason >= 0)
    planned_so &= existing.event != NO_EVENT
    # Without a reason a planned row is pre-scheduled, with one it is skipped.
    planned_so &= (existing.kind == SCHEDULED) == (existing.reason == NOT_SKIPPED)
    contents = pack_contents(pack_kinds(existing.row_class, existing.reason), existing.event)
    return np.where(planned_so, contents, FOREIGN)


def _groups(
    existing: ExistingRows, people: NDArray[np.int64], chosen: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Return contact and type of some rows, `NO_KEY` if no planned row can have them."""
    types = existing.written_type[chosen]
    contact_index, known = find_contacts(people, existing.contact_id[chosen])
    known &= types >= 0
    groups = np.full(len(chosen), NO_KEY, np.int64)
    groups[known] = pack_groups(contact_index[known], types[known])
    return groups
