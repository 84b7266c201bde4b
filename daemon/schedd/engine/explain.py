"""The steps of one contact's rows through sections 9 to 11; `trace` has the steps before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .balance import Move
from .calendar import NONE, iso
from .configuration import BalanceLimits
from .difference import KeyConflicts, drop_conflicting_keys
from .frequency import limit_frequency, one_a_key
from .packing import pack_keys
from .rows import FREQUENCY, NOT_SKIPPED, SAME_DAY, Rows, make_rows
from .run import ChunkInput, Run
from .trace import Trace, traces


@dataclass
class BalanceNote:
    """The effect of section 9 on one row: its dates before, after smoothing and after the cap.

    crowd: effective-date e-mails on its day before smoothing.
    """

    contact_id: int
    row_class: int
    event: int
    latest: int
    before: int
    smoothed: int
    capped: int
    crowd: int = 0
    moves: list[Move] = field(default_factory=list)


def explain(
    run: Run,
    chunk: ChunkInput,
    notes: Sequence[BalanceNote],
    limits: BalanceLimits,
    conflicts: KeyConflicts,
) -> list[Trace]:
    """Return the events of the one eligible contact of a chunk, with the steps of all sections.

    notes: what section 9 did to the contact's rows.   conflicts: of the contact's keys.
    """
    found = traces(run, chunk)
    _apply_balance(run, found, list(notes), limits)

    planned = [trace for trace in found if trace.row and trace.row_class >= 0]
    rows = _rows_of(planned)
    limit_frequency(run.configuration, run.classes, rows, chunk.history)
    _note_limited(run, chunk, planned, rows)

    chosen = one_a_key(run.classes, rows)
    _note_duplicates(planned, np.setdiff1d(np.arange(len(rows)), chosen))
    keys = pack_keys(
        rows.contact_index[chosen],
        run.classes.type_number[rows.row_class[chosen]],
        rows.date[chosen],
    )
    for index, key in zip(chosen.tolist(), keys.tolist(), strict=True):
        _drop_conflicting(planned[index], key, conflicts)
    for trace in found:
        if trace.row and trace.row_class < 0:
            _drop_conflicting(trace, _followup_key(run, trace), conflicts)
    return found


def _rows_of(planned: Sequence[Trace]) -> Rows:
    """Return the rows that the traces lead to, as columns of a chunk of one contact."""
    return make_rows(
        np.zeros(len(planned), np.int32),
        np.array([trace.row_class for trace in planned], np.int32),
        np.array([trace.date for trace in planned], np.int32),
        np.array([trace.event for trace in planned], np.int32),
        np.array([trace.latest for trace in planned], np.int32),
        np.array([trace.reason for trace in planned], np.int16),
    )


def _followup_key(run: Run, trace: Trace) -> int:
    number = run.classes.types.index(trace.email_type)
    [key] = pack_keys(np.zeros(1), np.array([number]), np.array([trace.date])).tolist()
    return int(key)


def _note_duplicates(planned: Sequence[Trace], dropped: NDArray[np.intp]) -> None:
    text = (
        "another row of the plan has the same type and date; one row a contact, type and date stays"
    )
    for index in dropped.tolist():
        planned[index].row = False
        planned[index].add("10", "duplicate_dropped", text)


def _apply_balance(
    run: Run, found: list[Trace], notes: list[BalanceNote], limits: BalanceLimits
) -> None:
    """Adopt the dates of section 9. Rows and notes of one contact are in the same order."""
    for trace in found:
        if not trace.row or trace.row_class < 0 or trace.reason != NOT_SKIPPED:
            continue
        key = (trace.row_class, trace.event, trace.latest, trace.date)
        note = next(n for n in notes if (n.row_class, n.event, n.latest, n.before) == key)
        notes.remove(note)
        if note.smoothed != note.before:
            _note_smoothed(trace, note, limits, run.configuration.smoothing_window_days)
        for move in note.moves:
            _note_move(trace, move, limits)
        trace.date = note.capped


def _note_smoothed(trace: Trace, note: BalanceNote, limits: BalanceLimits, width: int) -> None:
    trace.smoothed = note.smoothed
    text = (
        f"{iso(note.before)} has {note.crowd:,} effective-date e-mails, "
        f"more than the soft limit of {limits.soft:,}; "
        f"spread over {width} days it goes to {iso(note.smoothed)}"
    )
    trace.add("9", "smoothed", text, note.smoothed)


def _note_move(trace: Trace, move: Move, limits: BalanceLimits) -> None:
    crowded = (
        f"{iso(move.day)} has {move.count:,} e-mails, more than the limit of {limits.limit:,}; "
        f"in the order of priority, latest date and hash this one is number {move.rank + 1:,}, "
        f"and {move.room:,} may stay"
    )
    if move.target == NONE:
        trace.add("9", "stayed", f"{crowded}; no later day is open to it, so it stays", move.day)
    else:
        trace.capped = move.target
        trace.add("9", "capped", f"{crowded}; it moves to {iso(move.target)}", move.target)


def _note_limited(run: Run, chunk: ChunkInput, planned: list[Trace], rows: Rows) -> None:
    """Add the steps of the rows that section 10 skipped, and because of which others."""
    history, classes = chunk.history, run.classes

    def order(index: int) -> tuple[int, int, int, int, int]:
        row_class = int(rows.row_class[index])
        rank, instance = int(classes.priority_rank[row_class]), int(classes.instance[row_class])
        return rank, int(rows.date[index]), instance, int(classes.type_number[row_class]), index

    sent = [
        (int(day), "with the sender already")
        for day in history.date[~history.followup].tolist()
        if day != NONE
    ]
    accepted = np.flatnonzero(rows.reason == NOT_SKIPPED).tolist()
    for index, trace in enumerate(planned):
        if trace.reason == rows.reason[index]:
            continue
        trace.reason = int(rows.reason[index])
        before = [
            (int(rows.date[i]), planned[i].email_type) for i in accepted if order(i) < order(index)
        ]
        _note_limit(run, trace, sorted(sent + before))


def _note_limit(run: Run, trace: Trace, others: list[tuple[int, str]]) -> None:
    """Add the step of a row that is skipped because of others.

    others: (day, what) of the e-mails accepted before it.
    """
    settings = run.configuration
    if trace.reason == SAME_DAY:
        same = next(what for day, what in others if day == trace.date)
        text = f"another e-mail of the contact is on {iso(trace.date)}: {same}"
        trace.add("10", "same_day_conflict", text, trace.date)
    elif trace.reason == FREQUENCY:
        near = [
            f"{iso(day)} ({what})"
            for day, what in others
            if abs(day - trace.date) < settings.period_days
        ]
        text = (
            f"at most {settings.max_emails_per_period} e-mails within {settings.period_days} days; "
            f"those around {iso(trace.date)}: {', '.join(near)}"
        )
        trace.add("10", "frequency_limit", text, trace.date)


def _drop_conflicting(trace: Trace, key: int, conflicts: KeyConflicts) -> None:
    """Leave out a row whose key a row has that is not the plan's."""
    free, by_others = drop_conflicting_keys(np.array([key]), conflicts)
    if free[0]:
        return
    trace.row = False
    rule, whose = (
        ("11", "a row that is not the scheduler's")
        if by_others
        else ("10", "a row that the sender has already")
    )
    trace.add(rule, "key_held", f"{whose} has the same contact, type and date")
