"""What becomes of one contact's rows in sections 9 and 10, told step by step (see `trace` for what comes before)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .balance import Move
from .calendar import NONE, iso
from .configuration import BalanceLimits
from .difference import drop_conflicting_keys, pack_keys
from .frequency import limit_frequency, one_a_key
from .rows import FREQUENCY, NOT_SKIPPED, SAME_DAY, Rows, make_rows
from .run import ChunkInput, Run
from .trace import Trace, traces


@dataclass
class BalanceNote:
    """What section 9 did to one row: its dates before, after smoothing and after the cap.

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


@dataclass
class Held:
    """The keys of one contact's rows that a planned row may not take.

    Of dispatched rows, and of others.
    """

    dispatched: NDArray[np.int64]
    others: NDArray[np.int64]


def explain(
    run: Run, chunk: ChunkInput, notes: Sequence[BalanceNote], limits: BalanceLimits, held: Held
) -> list[Trace]:
    """Return the events of the one eligible contact of a chunk, from their beginning to the plan."""
    found = traces(run, chunk)
    _balanced(run, found, list(notes), limits)
    planned = [trace for trace in found if trace.row and trace.row_class >= 0]
    rows = make_rows(
        np.zeros(len(planned), np.int32),
        np.array([trace.row_class for trace in planned], np.int32),
        np.array([trace.date for trace in planned], np.int32),
        np.array([trace.event for trace in planned], np.int32),
        np.array([trace.latest for trace in planned], np.int32),
        np.array([trace.reason for trace in planned], np.int16),
    )
    limit_frequency(run.configuration, run.classes, rows, chunk.history)
    _limited(run, chunk, planned, rows)
    chosen = one_a_key(run.classes, rows)
    for index in np.setdiff1d(np.arange(len(rows)), chosen).tolist():
        planned[index].row = False
        text = "another row of the plan has the same type and date; one row a contact, type and date stays"
        planned[index].add("10", "duplicate_dropped", text)
    keys = pack_keys(
        rows.contact_index[chosen],
        run.classes.type_number[rows.row_class[chosen]],
        rows.date[chosen],
    )
    for index, key in zip(chosen.tolist(), keys.tolist(), strict=True):
        _hold(planned[index], key, held)
    number = {name: index for index, name in enumerate(run.classes.types)}
    for trace in found:
        if trace.row and trace.row_class < 0:
            [key] = pack_keys(
                np.zeros(1), np.array([number[trace.email_type]]), np.array([trace.date])
            ).tolist()
            _hold(trace, key, held)
    return found


def _balanced(
    run: Run, found: list[Trace], notes: list[BalanceNote], limits: BalanceLimits
) -> None:
    """Take over the dates of section 9. Rows and notes of one contact come in the same order."""
    for trace in found:
        if not trace.row or trace.row_class < 0 or trace.reason != NOT_SKIPPED:
            continue
        key = (trace.row_class, trace.event, trace.latest, trace.date)
        note = next(n for n in notes if (n.row_class, n.event, n.latest, n.before) == key)
        notes.remove(note)
        if note.smoothed != note.before:
            trace.smoothed = note.smoothed
            width = run.configuration.smoothing_window_days
            text = (
                f"{iso(note.before)} has {note.crowd:,} effective-date e-mails, more than the soft limit of "
                f"{limits.soft:,}; spread over {width} days it goes to {iso(note.smoothed)}"
            )
            trace.add("9", "smoothed", text, note.smoothed)
        for move in note.moves:
            crowded = (
                f"{iso(move.day)} has {move.count:,} e-mails, more than the limit of {limits.limit:,}; in the order of "
                f"priority, latest date and hash this one is number {move.rank + 1:,}, and {move.room:,} may stay"
            )
            if move.target == NONE:
                trace.add(
                    "9", "stayed", f"{crowded}; no later day is open to it, so it stays", move.day
                )
            else:
                trace.capped = move.target
                trace.add("9", "capped", f"{crowded}; it moves to {iso(move.target)}", move.target)
        trace.date = note.capped


def _limited(run: Run, chunk: ChunkInput, planned: list[Trace], rows: Rows) -> None:
    """Tell which rows section 10 skipped, and because of which others."""
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
        _tell_limit(run, trace, sorted(sent + before))


def _tell_limit(run: Run, trace: Trace, others: list[tuple[int, str]]) -> None:
    """Add the step of a row that is skipped because of others.

    (day, what) of those accepted before it.
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


def _hold(trace: Trace, key: int, held: Held) -> None:
    """Leave out a row whose key a row has that is not the plan's."""
    free, by_others = drop_conflicting_keys(np.array([key]), held.dispatched, held.others)
    if free[0]:
        return
    trace.row = False
    rule, whose = (
        ("11", "a row that is not the scheduler's")
        if by_others
        else ("10", "a row that the sender has already")
    )
    trace.add(rule, "key_held", f"{whose} has the same contact, type and date")
