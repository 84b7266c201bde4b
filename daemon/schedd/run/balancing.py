"""Load balancing over all chunks of a run (rules, section 9).

The one step that needs the rows of all contacts together. It maps the files of all planned chunks,
copies the columns that it needs into one set of arrays, and writes the new dates back into the
files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schedd.engine.balance import Balance, MovableRows
from schedd.engine.contacts import People
from schedd.engine.explain import BalanceNote
from schedd.engine.rows import EFFECTIVE_DATE, NOT_SKIPPED, Rows
from schedd.engine.run import Run

from . import shared_arrays
from .chunk_data import ChunkTask, PlannedChunk


@dataclass
class _ChunkRows:
    """The rows of a planned chunk that may move: its pre-scheduled ones.

    people: of the chunk.   rows: all rows of the chunk, mapped.   movable: indices of those that
    may move.
    """

    people: People
    rows: Rows
    movable: NDArray[np.intp]


def balance_chunks(
    run: Run,
    tasks: Sequence[ChunkTask],
    contacts: int,
    fixed: Mapping[int, int],
    check: Callable[[], None],
    watched: Sequence[int] = (),
) -> list[BalanceNote]:
    """Apply section 9 to all planned chunks together and change the dates in their files.

    contacts: number of contacts of the organization.   fixed: ordinal -> rows that cannot move.
    check: raises if the job is to end.   watched: ids of the contacts whose moves are returned.
    """
    chunks = [_chunk_rows(task) for task in tasks]
    people = People.concatenate([chunk.people for chunk in chunks])
    rows = _movable_rows(chunks)
    balance = Balance(
        run.as_of,
        run.configuration.limits(contacts),
        run.configuration.smoothing_window_days,
        run.windows,
        run.classes,
        people,
        rows,
    )
    if watched:
        ids = people.ids[rows.contact_index]
        balance.watched = np.flatnonzero(np.isin(ids, np.array(watched, np.int64)))

    before = rows.date.copy() if watched else rows.date
    balance.smooth()
    smoothed = rows.date[balance.watched]
    check()
    balance.cap(dict(fixed))
    _write_dates(chunks, rows.date)
    return _notes(balance, before, smoothed)


def _chunk_rows(task: ChunkTask) -> _ChunkRows:
    chunk = shared_arrays.load(task.planned_file, PlannedChunk)
    return _ChunkRows(chunk.people, chunk.rows, np.flatnonzero(chunk.rows.reason == NOT_SKIPPED))


def _movable_rows(chunks: Sequence[_ChunkRows]) -> MovableRows:
    """Return the movable rows of all chunks; `contact_index` counts through all people."""
    parts, offset = [], 0
    for chunk in chunks:
        part = chunk.rows.take(chunk.movable)
        part.contact_index += np.int32(offset)
        parts.append(part)
        offset += len(chunk.people)
    rows = Rows.concatenate(parts)
    return MovableRows(rows.contact_index, rows.row_class, rows.date, rows.event, rows.latest)


def _write_dates(chunks: Sequence[_ChunkRows], dates: NDArray[np.int32]) -> None:
    """Write the dates of all movable rows into the files of their chunks."""
    start = 0
    for chunk in chunks:
        end = start + len(chunk.movable)
        chunk.rows.date[chunk.movable] = dates[start:end]
        start = end


def _notes(
    balance: Balance, before: NDArray[np.int32], smoothed: NDArray[np.int32]
) -> list[BalanceNote]:
    """Return the dates of the watched rows in each step.

    before: the dates of all rows before smoothing.   smoothed: those of the watched rows after it.
    """
    rows, notes = balance.rows, []
    effective_date = rows.row_class == EFFECTIVE_DATE
    for row, date in zip(balance.watched.tolist(), smoothed.tolist(), strict=True):
        notes.append(
            BalanceNote(
                contact_id=int(balance.people.ids[rows.contact_index[row]]),
                row_class=int(rows.row_class[row]),
                event=int(rows.event[row]),
                latest=int(rows.latest[row]),
                before=int(before[row]),
                smoothed=date,
                capped=int(rows.date[row]),
                crowd=int((effective_date & (before == before[row])).sum()),
                moves=[move for move in balance.moves if move.row == row],
            )
        )
    return notes
