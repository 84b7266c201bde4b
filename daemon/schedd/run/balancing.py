"""Load balancing over all chunks of a run.

The one step that needs the rows of all contacts together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedd.engine.balance import Balance, MovableRows
from schedd.engine.contacts import People
from schedd.engine.explain import BalanceNote
from schedd.engine.rows import EFFECTIVE_DATE, NOT_SKIPPED
from schedd.engine.run import Run

from . import shared_arrays


def balance_chunks(
    run: Run,
    files: Sequence[Path],
    contacts: int,
    fixed: dict[int, int],
    check: Callable[[], None],
    watched: Sequence[int] = (),
) -> list[BalanceNote]:
    """Apply section 9 to all planned chunks together and put the new dates into their scratch files.

    fixed: ordinal -> rows that cannot move.   watched: contacts of whose rows the moves are
    returned.
    """
    chunks = [shared_arrays.load(file)[0] for file in files]
    movable = [np.flatnonzero(chunk["rows.reason"] == NOT_SKIPPED) for chunk in chunks]
    offsets = np.cumsum([0] + [len(chunk["people.ids"]) for chunk in chunks])

    def people(name: str) -> NDArray[Any]:
        return np.concatenate([chunk[f"people.{name}"] for chunk in chunks])

    def column(name: str) -> NDArray[Any]:
        parts = [
            chunk[f"rows.{name}"][chosen] for chunk, chosen in zip(chunks, movable, strict=True)
        ]
        if name == "contact_index":
            parts = [
                part + np.int32(offset) for part, offset in zip(parts, offsets[:-1], strict=True)
            ]
        return np.concatenate(parts)

    # What section 9 does not look at is left empty.
    everybody = People(
        ids=people("ids"),
        state=people("state"),
        birth_day=people("birth_day"),
        effective_day=people("effective_day"),
        effective_year=np.zeros(0, np.int16),
        birth_year=people("birth_year"),
        unreadable_birth=people("unreadable_birth"),
        unreadable_effective=people("unreadable_effective"),
        failed_underwriting=np.zeros(0, np.bool_),
        carrier=np.zeros(0, np.int32),
    )
    rows = MovableRows(
        column("contact_index"),
        column("row_class"),
        column("date"),
        column("event"),
        column("latest"),
    )
    window = run.configuration.smoothing_window_days
    limits = run.configuration.limits(contacts)
    balance = Balance(run.as_of, limits, window, run.windows, run.classes, everybody, rows)
    if len(watched):
        balance.watched = np.flatnonzero(
            np.isin(everybody.ids[rows.contact_index], np.array(watched, np.int64))
        )
    before = rows.date.copy() if len(watched) else rows.date
    balance.smooth()
    smoothed = rows.date[balance.watched]
    check()
    balance.cap(fixed)
    start = 0
    for chunk, chosen in zip(chunks, movable, strict=True):
        chunk["rows.date"][chosen] = rows.date[start : start + len(chosen)]
        start += len(chosen)
    return _notes(balance, before, smoothed)


def _notes(
    balance: Balance, before: NDArray[np.int32], smoothed: NDArray[np.int32]
) -> list[BalanceNote]:
    """Return what happened to the watched rows; `before`: the dates of all rows at first."""
    rows, notes = balance.rows, []
    crowds = rows.row_class == EFFECTIVE_DATE
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
                crowd=int((crowds & (before == before[row])).sum()),
                moves=[move for move in balance.moves if move.row == row],
            )
        )
    return notes
