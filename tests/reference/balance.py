"""Load balancing (rules, section 9): smoothing of effective_date rows, then the daily cap."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date, timedelta

from .configuration import Configuration, Limits
from .dates import shift
from .rows import Row
from .windows import Windows


def movable(row: Row) -> bool:
    """Return whether balancing may move the row."""
    return row.planned and not row.followup


def smooth(
    rows: list[Row],
    windows: dict[int, Windows],
    limits: Limits,
    as_of: date,
    configuration: Configuration,
) -> int:
    """Spread the effective_date rows of days with too many of them; return how many moved."""
    effective = [row for row in rows if row.email_type == "effective_date" and movable(row)]
    counts = Counter(row.day for row in effective)
    width = configuration.smoothing_window_days
    moved = 0
    for row in effective:
        if counts[row.day] <= limits.soft:
            continue
        day = shift(row.day, row.h % width - (width - 1) // 2)
        if as_of <= day <= row.latest and windows[row.contact_id].reason(day) is None:
            moved += day != row.day
            row.day = day
    return moved


def cap(
    rows: list[Row], windows: dict[int, Windows], dispatched: Counter[date], limits: Limits
) -> int:
    """Move what a day cannot hold to later days; return how often a row moved.

    dispatched: date -> dispatched rows dated that day, of all contacts.
    """
    fixed = dispatched + Counter(row.day for row in rows if row.followup and row.planned)
    by_day: dict[date, list[Row]] = defaultdict(list)
    for row in rows:
        if movable(row):
            by_day[row.day].append(row)
    moved = 0
    while by_day:
        # Rows only ever move to later days, so the first day left is the next one that matters.
        day = min(by_day)
        on_day = by_day.pop(day)
        if fixed[day] + len(on_day) > limits.limit:
            on_day.sort(
                key=lambda row: (
                    row.priority,
                    row.latest,
                    row.h,
                    row.contact_id,
                    row.instance_order,
                    row.turn,
                )
            )
            for row in on_day[max(0, limits.cap - fixed[day]) :]:
                later = _next_day(row, windows[row.contact_id])
                if later is not None:
                    row.day = later
                    by_day[later].append(row)
                    moved += 1
    return moved


def _next_day(row: Row, windows: Windows) -> date | None:
    """Return the first later day the row may be sent on, None if there is none."""
    day = row.day + timedelta(days=1)
    while day <= row.latest:
        if not row.respects_windows or windows.reason(day) is None:
            return day
        day += timedelta(days=1)
    return None
