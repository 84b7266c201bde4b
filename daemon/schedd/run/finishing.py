"""Finishes one chunk after load balancing, in whatever process.

Applies section 10 of the rules to a `PlannedChunk`, compares it with the existing rows, and saves
the changes as a `FinishedChunk`. Reads and writes nothing of the organization's file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schedd.engine.calendar import parts
from schedd.engine.difference import Difference, difference, drop_conflicting_keys
from schedd.engine.packing import pack_keys, pack_kinds, pack_state_types
from schedd.engine.rows import NOT_SKIPPED, Rows
from schedd.engine.run import Run, day_counts
from schedd.store.packing import pack_contents, pack_event
from schedd.store.write import PlainRows
from schedproto import Preview

from . import guards, plan_digest, shared_arrays
from . import preview as previews
from .chunk_data import ChunkTask, FinishedChunk, FinishReply, PlannedChunk, Sums
from .followups import FollowUpChange, finish_followups
from .run_input import load_run


@dataclass
class _FinalRows:
    """The rows of a chunk after section 10, follow-ups aside, in the order of their keys.

    keys: as `packing.pack_keys`.   kinds: as `packing.pack_kinds`.   sent: whether the row is
    pre-scheduled.   dropped: duplicates.   key_conflicts: rows left out because a row with a void
    status has their key.
    """

    rows: Rows
    keys: NDArray[np.int64]
    kinds: NDArray[np.int64]
    sent: NDArray[np.bool_]
    dropped: int
    key_conflicts: int


def finish_chunk(task: ChunkTask) -> FinishReply:
    """Apply section 10 to a planned and balanced chunk and save what changes in the file."""
    run = load_run(Path(task.folder)).run
    chunk = shared_arrays.load(task.planned_file, PlannedChunk)
    final = _final_rows(run, chunk)
    change = _difference(chunk, final)
    followups = finish_followups(run, chunk)
    shared_arrays.save(task.finished_file, _finished(chunk, final.rows, change, followups))
    return _reply(run, task, chunk, final, change, followups)


def _final_rows(run: Run, chunk: PlannedChunk) -> _FinalRows:
    rows, dropped = run.finish_chunk(chunk.rows, chunk.history)
    keys = pack_keys(rows.contact_index, run.classes.type_number[rows.row_class], rows.date)
    free, key_conflicts = drop_conflicting_keys(keys, chunk.conflicts)
    if not free.all():
        rows, keys = rows.take(free), keys[free]
    kinds = pack_kinds(rows.row_class, rows.reason)
    return _FinalRows(rows, keys, kinds, rows.reason == NOT_SKIPPED, dropped, key_conflicts)


def _difference(chunk: PlannedChunk, final: _FinalRows) -> Difference:
    contents = pack_contents(final.kinds, pack_event(*parts(final.rows.event)))
    return difference(final.keys, contents, chunk.existing.keys, chunk.existing.contents)


def _finished(
    chunk: PlannedChunk, rows: Rows, change: Difference, followups: FollowUpChange
) -> FinishedChunk:
    row_id = chunk.existing.row_id
    return FinishedChunk(
        insert=_plain_rows(chunk, rows, change.insert),
        update=_plain_rows(chunk, rows, change.update),
        updated_row_id=row_id[change.updated],
        delete=np.concatenate([row_id[change.delete], followups.deleted_ids]),
    )


def _plain_rows(chunk: PlannedChunk, rows: Rows, chosen: NDArray[np.int64]) -> PlainRows:
    return PlainRows(
        contact_id=chunk.people.ids[rows.contact_index[chosen]],
        row_class=rows.row_class[chosen],
        reason=rows.reason[chosen],
        date=rows.date[chosen],
        event=rows.event[chosen],
    )


def _reply(
    run: Run,
    task: ChunkTask,
    chunk: PlannedChunk,
    final: _FinalRows,
    change: Difference,
    followups: FollowUpChange,
) -> FinishReply:
    return FinishReply(
        planned=len(final.rows) + len(followups.planned),
        unchanged=change.unchanged + followups.unchanged,
        dropped=final.dropped,
        key_conflicts=final.key_conflicts + followups.key_conflicts,
        kinds=day_counts(final.kinds),
        volume=day_counts(np.concatenate([final.rows.date[final.sent], followups.days()])),
        states=day_counts(_state_types(run, chunk, final, followups)),
        followup_inserts=followups.insert,
        followup_updates=followups.update,
        followup_counts=followups.counts(),
        removed=_removed(chunk, final, change, followups),
        preview=_preview(run, chunk, final, change, followups),
        sums=_sums(run, chunk, final, followups) if task.digest else (0, 0),
    )


def _state_types(
    run: Run, chunk: PlannedChunk, final: _FinalRows, followups: FollowUpChange
) -> NDArray[np.int32]:
    """Return state and type of each pre-scheduled row as `packing.pack_state_types`."""
    types = len(run.classes.types)
    contact_index, row_class = (
        final.rows.contact_index[final.sent],
        final.rows.row_class[final.sent],
    )
    state = chunk.people.state
    return np.concatenate(
        [
            pack_state_types(state[contact_index], run.classes.type_number[row_class], types),
            followups.state_types(state, types),
        ]
    )


def _removed(
    chunk: PlannedChunk, final: _FinalRows, change: Difference, followups: FollowUpChange
) -> int:
    """Return the existing e-mails ahead that the plan no longer has (`guards`)."""
    plain = guards.removed_rows(change, final.keys, final.sent, chunk.existing)
    return plain + guards.removed_followups(chunk.followups_ahead, followups.planned)


def _sums(run: Run, chunk: PlannedChunk, final: _FinalRows, followups: FollowUpChange) -> Sums:
    return plan_digest.add(
        plan_digest.row_sums(run, chunk.people.ids, final.rows, final.kinds),
        plan_digest.followup_sums(run.configuration.send_time, followups.planned),
        plan_digest.issue_sums(chunk.issues),
    )


def _preview(
    run: Run,
    chunk: PlannedChunk,
    final: _FinalRows,
    change: Difference,
    followups: FollowUpChange,
) -> Preview | None:
    """Return the preview of a chunk, None if its task asks for none."""
    if chunk.shown is None:
        return None
    contact_id = chunk.people.ids[final.rows.contact_index]
    plain = previews.of_rows(run.classes, chunk.shown, contact_id, final.rows, change)
    return previews.merge([plain, previews.of_followups(followups, chunk.existing_followups)])
